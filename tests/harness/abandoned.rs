//! Stages whose tests were killed with everything that would have taken them down: their containers, cgroups and files are
//! still there. The next tests take them down as any operator would, with a daemon of the same configuration.

use crate::client::Cri;
use crate::daemon::{CONFIGURATION, Daemon};
use crate::wait::until;
use anyhow::Result;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// Where stages are.
pub(crate) const PLACE: &str = "/run";
/// How the names of their directories begin.
pub(crate) const PREFIX: &str = "cringle-test-";
/// In each of them, a file that is locked for as long as its test lives.
const OWNER: &str = "owner";

/// The mark of a test that lives; the kernel takes it back with the process.
#[derive(Debug)]
pub(crate) struct Owner(#[expect(dead_code, reason = "held, not read")] File);

impl Owner {
    /// Marks the directory of a stage as owned by this process.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        // Nobody sees it before it is locked.
        let draft = directory.join("owner.draft");
        let file = File::create(&draft)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(draft, directory.join(OWNER))?;
        Ok(Self(file))
    }

    /// The same for a stage whose owner is dead; none if it lives, or never was.
    fn of_abandoned(directory: &Path) -> Result<Option<Self>> {
        let file = match File::open(directory.join(OWNER)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes down what killed tests left, once for each process.
pub(crate) async fn sweep() -> Result<()> {
    static SWEPT: Mutex<bool> = Mutex::const_new(false);
    let mut swept = SWEPT.lock().await;
    if !*swept {
        for directory in stages()? {
            // What an older revision left, with a configuration of its own, is no fault of this one.
            if let Err(error) = take_down(&directory).await {
                let shown = directory.display();
                writeln!(std::io::stderr(), "failed to take down \"{shown}\": {error:#}")?;
            }
        }
        *swept = true;
    }
    Ok(())
}

/// Takes down one stage if its test is dead; whether it was. Its other processes may be alive.
pub async fn take_down(directory: &Path) -> Result<bool> {
    let Some(_owner) = Owner::of_abandoned(directory)? else { return Ok(false) };
    if !directory.join(CONFIGURATION).exists() {
        // Its test was killed before it had a daemon.
        fs::remove_dir_all(directory)?;
        return Ok(true);
    }
    let mut daemon = Daemon::adopt(directory)?;
    end_daemons(&daemon.configuration()).await?;
    daemon.disarm()?;
    daemon.start().await?;
    Cri::connect(&daemon.socket()).await?.remove_all().await?;
    daemon.stop().await?;
    fs::remove_dir_all(directory)?;
    Ok(true)
}

fn stages() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(PLACE)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Kills the daemons that serve a configuration, and waits for their end.
async fn end_daemons(configuration: &Path) -> Result<()> {
    let wanted = format!("serve\0--config\0{}\0", configuration.display());
    for entry in fs::read_dir("/proc")? {
        let Ok(number) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = PathBuf::from(format!("/proc/{number}/cmdline"));
        let is_one = || fs::read(&line).is_ok_and(|line| line.ends_with(wanted.as_bytes()));
        if let (true, Some(pid)) = (is_one(), Pid::from_raw(number)) {
            match kill_process(pid, Signal::KILL) {
                // It has just ended.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            until("a daemon that was left ends", async || Ok(!is_one())).await?;
        }
    }
    Ok(())
}
