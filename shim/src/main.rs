//! The shim: one static process beside each container, which is its parent, writes its log, knows how it ended, and
//! outlives the daemon that asked for it.
//!
//! It has one thread. Entries: `serve` (our daemon passes the listening sockets), `pin`, containerd's `start` and `delete`, and an
//! OCI command line. What it does is spread as follows: [`container`] and [`exec`] hold what there is, [`task`] and
//! [`control`] are its two sockets, [`engine`] makes containers, [`stdio`] moves bytes, [`exits`] keeps records.

mod clock;
mod container;
mod control;
mod engine;
mod entry;
mod exec;
mod exits;
mod oci_cli;
mod oom;
mod pin;
mod process;
mod reaper;
mod rest;
mod serve;
mod stdio;
mod task;
mod watched;

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why an entry failed.
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match entry::run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            note(&chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error and all its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Writes a line to standard error, which our daemon made a file in the bundle.
fn note(text: &str) {
    let stamp = clock::Stamp::now();
    let line = [stamp.as_bytes(), b" ", text.as_bytes(), b"\n"].concat();
    // There is nowhere to complain about a complaint that cannot be written.
    let _unheard = rustix::io::write(rustix::stdio::stderr(), &line);
}

/// The lock's content. With one thread nobody can have panicked while holding it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
