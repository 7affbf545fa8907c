//! The client and the shim together: real containers, made from busybox in temporary directories.

#[cfg(test)]
use cringle_service::supervisor;

#[cfg(test)]
#[path = "supervisor/cases.rs"]
mod cases;
