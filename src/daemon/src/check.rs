//! `cringle check`: whether this host is one on which the daemon can do its work, said before it has to.
//!
//! Everything is tried, nothing is concluded from a version: a file system is mounted, a bridge is made, a program is run. What
//! is made for it is attached nowhere or lies in a namespace that ends with its thread; the few directories that are needed
//! are removed again. A daemon that serves meanwhile is not disturbed.

mod cgroups;
mod directories;
mod finding;
mod kernel;
mod network;
mod programs;
mod report;
mod scratch;
mod socket;

pub(crate) use report::{Form, Report};

use crate::config::{ConfigError, Settings};
use finding::{Area, Finding};
use std::path::Path;

/// Looks at everything that these settings need; `beside` is the directory of the daemon's own program.
pub(crate) async fn run(settings: Result<Settings, ConfigError>, beside: &Path) -> Report {
    let mut findings = vec![user()];
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            let error = cringle_service::error::chain(&error);
            let hint = "mend it; `cringle config default` prints every key with its meaning";
            findings.push(Finding::failure(Area::Daemon, "configuration", error, hint));
            return Report::new(findings);
        }
    };
    findings.push(Finding::fine(Area::Daemon, "configuration", "no mistakes"));
    findings.extend(socket::check(&settings));
    findings.extend(kernel::check());
    findings.extend(cgroups::check(&settings));
    findings.extend(directories::check(&settings));
    findings.extend(programs::check(&settings, beside).await);
    findings.extend(network::check(&crate::wire::network_settings(&settings, beside)).await);
    Report::new(findings)
}

fn user() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Finding::fine(Area::Daemon, "user", "root");
    }
    let detail = format!("uid {}", rustix::process::geteuid().as_raw());
    Finding::failure(Area::Daemon, "user", detail, "run it as root, as the daemon will be")
}
