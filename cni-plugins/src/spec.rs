//! The words of the CNI specification: versions, names, configuration, results and errors. No input or output happens
//! here, and everything that comes from outside is checked on the way in.
//!
//! Inside the crate there is one shape of a result, that of the newest version; older shapes exist only in `result::wire`,
//! while a result is read or written.

pub mod conf;
pub mod error;
pub mod name;
pub mod result;
pub mod version;

pub use conf::{Attachment, Network};
pub use error::Error;
pub use version::Version;
