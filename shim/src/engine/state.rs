//! What of a container outlives the shim that made it: `state.json` in the bundle. Written before the first cgroup is made,
//! and again when its process is known.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cringle_kernel::cgroup::CgroupPaths;
use cringle_kernel::proc;
use serde::{Deserialize, Serialize};

use super::error::{EngineError, Result};
use super::hooks::Hooks;

/// The file's name in the bundle.
const FILE: &str = "state.json";

/// The form of the file.
const VERSION: u32 = 1;

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// The container's cgroups, made or not.
    pub cgroup: CgroupPaths,
    /// The container's init, once it was cloned.
    pub init: Option<Identity>,
    /// The hooks that run when it was started and when it is gone, once there was an init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later_hooks: Option<Hooks>,
}

/// A process for good: its id may be used again, its id and start time are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Identity {
    /// Its id.
    pub pid: i32,
    /// When it started, in ticks since boot.
    pub start_time: u64,
}

impl State {
    /// The state of a container that has nothing yet.
    pub(super) fn new(cgroup: CgroupPaths) -> Self {
        Self { version: VERSION, cgroup, init: None, later_hooks: None }
    }

    /// Reads the state; none: nothing was ever taken for this bundle.
    ///
    /// # Errors
    /// It can't be read or makes no sense.
    pub(super) fn read(bundle: &Path) -> Result<Option<Self>> {
        let path = bundle.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EngineError::Read { path, source }),
        };
        let state: Self =
            serde_json::from_slice(&text).map_err(|source| EngineError::Parse { path, source })?;
        if state.version != VERSION {
            let problem = format!("it is {} and should be {VERSION}", state.version);
            return Err(EngineError::invalid("version of state.json", problem));
        }
        Ok(Some(state))
    }

    /// Replaces the file: it is whole at every moment. Not synced: after a power cut there is nothing left to give back.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn write(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        let new = bundle.join("state.json.new");
        let put = || -> std::io::Result<()> {
            let text = serde_json::to_vec(self)?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&new)?.write_all(&text)?;
            std::fs::rename(&new, &path)
        };
        put().map_err(|source| EngineError::Write { path: path.clone(), source })
    }

    /// Removes the file; one that is gone is fine.
    ///
    /// # Errors
    /// It can't be removed.
    pub(super) fn remove(bundle: &Path) -> Result<()> {
        let path: PathBuf = bundle.join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::Write { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Identity {
    /// The identity of a process that is there.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = proc::stat(pid).ok()?;
        Some(Self { pid, start_time: stat.start_time })
    }

    /// Whether that very process is there and has not ended.
    pub(super) fn is_alive(self) -> bool {
        proc::stat(self.pid)
            .is_ok_and(|stat| stat.start_time == self.start_time && !stat.is_zombie())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_missing_file_is_nothing() {
        let bundle = std::env::temp_dir().join(format!("cringle-state-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        assert_eq!(State::read(&bundle).unwrap(), None);
        let cgroup = CgroupPaths { name: "/a/b".into(), directories: Vec::new() };
        let mut state = State::new(cgroup);
        state.init = Identity::of(i32::try_from(std::process::id()).unwrap());
        state.write(&bundle).unwrap();
        assert_eq!(State::read(&bundle).unwrap().as_ref(), Some(&state));
        assert!(state.init.unwrap().is_alive());
        State::remove(&bundle).unwrap();
        State::remove(&bundle).unwrap();
        std::fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn a_process_id_that_is_used_again_is_another_process() {
        let own = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(!Identity { start_time: own.start_time + 1, ..own }.is_alive());
    }
}
