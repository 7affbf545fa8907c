//! Host names, in the UTS namespace of the calling thread (uts_namespaces(7)).

use crate::error::{Result, SystemError};

/// The host name that the calling thread sees.
///
/// # Errors
/// If it is no text.
pub fn hostname() -> Result<String> {
    let name = rustix::system::uname().nodename().to_owned();
    name.into_string().map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        SystemError::new("uname", "host name", source)
    })
}

/// Sets the host name in the calling thread's UTS namespace.
///
/// # Errors
/// If it is longer than 64 bytes, or the kernel refuses.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes())
        .map_err(|errno| SystemError::new("sethostname", format!("\"{name}\""), errno))
}
