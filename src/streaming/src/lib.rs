//! The streaming server: exec, attach and port-forward over the URLs that the runtime service hands out.
//!
//! ```text
//!  Urls::exec, attach, port_forward --> a URL with a token that is good once, for a minute
//!  server/connection --> negotiate --> remote_command (exec, attach) --> service::streams::Session
//!                                 \--> port_forward               --> a socket made in the pod
//! ```
//! - [`server`]: HTTP/1.1 on a TCP socket, plain or with [`tls`]; [`token`]: the requests that wait for their clients.
//! - [`negotiate`]: how a client speaks: [`spdy`] or [`websocket`], and which version of what is inside.
//! - [`remote_command`]: one session between a client and a process; [`exec`] and [`attach`] are how it begins.
//! - [`port_forward`]: connections into a pod.
//!
//! Nothing here knows about pods or containers but their ids, and nothing is kept between sessions.

pub mod server;
pub mod settings;
pub mod spdy;

mod attach;
mod exec;
#[cfg(test)]
mod fuzz;
mod negotiate;
mod port_forward;
mod remote_command;
mod tls;
mod token;
mod websocket;

pub use server::{StartError, Streaming, TokenError, Urls};
pub use settings::StreamingSettings;
pub use tls::{TlsError, TlsFiles, TlsVersion};
