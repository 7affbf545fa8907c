//! The client and the shim together: real containers, made from busybox in temporary directories.

use cringle_service::supervisor;

#[path = "supervisor/cases.rs"]
mod cases;
