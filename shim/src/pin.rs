//! The namespaces of a pod with users of its own: made, furnished and pinned, by a process that ends then.
//!
//! A user namespace can be made by a process with one thread only, and what is to belong to it must be made inside. The daemon
//! notes the pins before it calls; this process ends with the thread that called it, so that nothing is pinned for nobody.
//!
//! ```text
//! pin --parent PID --users INSIDE:OUTSIDE:LENGTH --groups INSIDE:OUTSIDE:LENGTH [--hostname NAME] [--sysctl NAME=VALUE]...
//!     --pin user|net|ipc|uts=FILE...
//! pin --parent PID --probe DIRECTORY
//! ```
//! The second form tells whether this host can do it, and show files of that directory with other ids.

use crate::Failure;
use crate::entry::Usage;
use cringle_kernel::error::SystemError;
use cringle_kernel::idmap::{self, Mapping};
use cringle_kernel::mount::{self, Depth};
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::{process, sysctl, uts};
use rustix::process::Signal;
use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "containerd-shim-cringle-v2 pin --parent PID --users MAP --groups MAP [--hostname NAME] \
                     [--sysctl NAME=VALUE]... --pin KIND=FILE...";

/// What is to be made.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    parent: Option<u32>,
    probe: Option<PathBuf>,
    users: Vec<Mapping>,
    groups: Vec<Mapping>,
    hostname: Option<String>,
    sysctls: Vec<(String, String)>,
    pins: Vec<(Namespaces, PathBuf)>,
}

/// Runs the entry.
///
/// # Errors
/// A command line that makes no sense, or the call that failed. Pins that were made before stay.
pub(crate) fn run(words: &[OsString]) -> Result<ExitCode, Failure> {
    let orders = Orders::parse(words).ok_or(Usage(USAGE))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().unsigned_abs());
    if orders.parent != parent {
        return Ok(ExitCode::FAILURE);
    }
    process::reset_signals()?;
    match &orders.probe {
        Some(directory) => probe(directory)?,
        None => orders.carry_out()?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Orders {
    fn parse(words: &[OsString]) -> Option<Self> {
        let mut orders = Self::default();
        let (pairs, rest) = words.as_chunks::<2>();
        for [flag, value] in pairs {
            let text = value.to_str()?;
            match flag.to_str()? {
                "--parent" => orders.parent = Some(text.parse().ok()?),
                "--probe" => orders.probe = Some(PathBuf::from(value)),
                "--users" => orders.users.push(Mapping::from_text(text)?),
                "--groups" => orders.groups.push(Mapping::from_text(text)?),
                "--hostname" => orders.hostname = Some(text.to_owned()),
                "--sysctl" => {
                    let (name, value) = text.split_once('=')?;
                    orders.sysctls.push((name.to_owned(), value.to_owned()));
                }
                "--pin" => {
                    let (kind, file) = text.split_once('=')?;
                    orders.pins.push((kind_of(kind)?, PathBuf::from(file)));
                }
                _ => return None,
            }
        }
        let whole = rest.is_empty() && orders.parent.is_some();
        (whole && (orders.probe.is_some() || !orders.users.is_empty())).then_some(orders)
    }

    fn carry_out(&self) -> Result<(), SystemError> {
        let kinds = self.pins.iter().fold(Namespaces::NONE, |kinds, (kind, _)| kinds.with(*kind));
        let made = idmap::make(kinds, &self.users, &self.groups, || self.furnish())?;
        for (kind, file) in &self.pins {
            let found = made.iter().find(|(made, _)| made == kind);
            if let Some((_, namespace)) = found {
                namespace::pin_open(namespace.as_fd(), file)?;
            }
        }
        Ok(())
    }

    /// Inside, as root: what is set by anyone else is refused, or would be somebody else's.
    fn furnish(&self) -> Result<(), SystemError> {
        if let Some(hostname) = &self.hostname {
            uts::set_hostname(hostname)?;
        }
        self.sysctls.iter().try_for_each(|(name, value)| sysctl::write(name, value))
    }
}

fn kind_of(word: &str) -> Option<Namespaces> {
    let kinds = [Namespaces::USER, Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS];
    kinds.into_iter().find(|kind| kind.file() == Some(word))
}

/// Does once what every pod with users of its own needs: the namespaces, and other ids for files of the directory.
fn probe(directory: &Path) -> Result<(), SystemError> {
    let map = [Mapping { inside: 0, outside: 65536, length: 65536 }];
    let kinds = Namespaces::NETWORK.with(Namespaces::IPC).with(Namespaces::UTS);
    let made = idmap::make(kinds, &map, &map, || Ok(()))?;
    let path = CString::new(directory.as_os_str().as_bytes())
        .map_err(|error| SystemError::new("open_tree", "directory", std::io::Error::from(error)))?;
    let tree = mount::clone_path(&path, Depth::One)?;
    let Some((_, users)) = made.first() else { return Ok(()) };
    mount::map_ids(&tree, users.as_fd(), Depth::One)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Orders> {
        Orders::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_says_all_there_is_to_do() {
        let line = "--parent 7 --users 0:1000:10 --groups 0:2000:10 --hostname ship \
                    --sysctl net.x=1 2 --pin user=/p/user --pin net=/n/a=b";
        assert_eq!(parsed(line), None, "an odd word");
        let line = line.replace("1 2", "1=2");
        let mapping = |outside| vec![Mapping { inside: 0, outside, length: 10 }];
        assert_eq!(
            parsed(&line).unwrap(),
            Orders {
                parent: Some(7),
                probe: None,
                users: mapping(1000),
                groups: mapping(2000),
                hostname: Some("ship".to_owned()),
                sysctls: vec![("net.x".to_owned(), "1=2".to_owned())],
                pins: vec![
                    (Namespaces::USER, "/p/user".into()),
                    (Namespaces::NETWORK, "/n/a=b".into())
                ],
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_not_half_done() {
        for line in [
            "--parent 7",
            "--users 0:1:2 --groups 0:1:2",
            "--parent 7 --users 0:1",
            "--parent 7 --users 0:1:2 --pin mnt=/x",
            "--parent 7 --users 0:1:2 --what 7",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }
}
