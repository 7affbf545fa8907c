//! Descriptors in the event loop.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Puts a descriptor, on which calls do not wait, into the event loop.
///
/// # Errors
/// The loop refuses it: a regular file, for example.
#[expect(
    deprecated,
    reason = "the successor is unsafe for types that may change their descriptor, which an OwnedFd does not"
)]
pub(crate) fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
