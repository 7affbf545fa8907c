//! Plugins that are launched at the start: executable files named `NN-name` in a directory.
//!
//! A plugin is told its name, and where its connection is, by its environment; it gets nothing else of ours. The connection
//! is its standard input: the number that the environment says is what counts, and so nothing has to run between fork and
//! exec.

use crate::NriSettings;
use crate::plugin::PluginName;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// The largest configuration that is read.
const LARGEST_CONFIG: u64 = 1 << 20;

/// A plugin to launch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Its name.
    pub(crate) name: PluginName,
    path: PathBuf,
}

/// Why plugins are not launched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The directory cannot be read.
    #[error("failed to list NRI plugins in \"{}\"", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The configuration of a plugin cannot be read.
    #[error("failed to read \"{}\"", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("failed to launch NRI plugin \"{}\"", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The plugins of the directory, by name; none if it is not there. Executable files of another name are passed over with a
/// warning.
pub(crate) fn installed(directory: &Path) -> Result<Vec<Installed>, LaunchError> {
    let failed = |source| LaunchError::List { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if !is_program(&path) {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).and_then(PluginName::parse);
        match name {
            Some(name) => found.push(Installed { name, path }),
            None => tracing::warn!(path = %path.display(), "not launched: its name is not NN-name"),
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl Installed {
    /// Its configuration: of `NN-name.conf`, else of `name.conf`, else nothing.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn config(&self, settings: &NriSettings) -> Result<String, LaunchError> {
        let names = [self.name.to_string(), self.name.base().to_owned()];
        for name in names {
            let path = settings.plugin_config_directory.join(format!("{name}.conf"));
            match read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => return read.map_err(|source| LaunchError::Config { path, source }),
            }
        }
        Ok(String::new())
    }

    /// Launches it. It is killed when its process is dropped.
    ///
    /// # Errors
    /// The program cannot be executed.
    pub(crate) fn launch(&self) -> Result<(UnixStream, Child), LaunchError> {
        let failed = |source| LaunchError::Spawn { path: self.path.clone(), source };
        let (ours, theirs) = StdStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let child = Command::new(&self.path)
            .env_clear()
            .env("NRI_PLUGIN_NAME", self.name.base())
            .env("NRI_PLUGIN_IDX", self.name.index())
            .env("NRI_PLUGIN_SOCKET", "0")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok((UnixStream::from_std(ours).map_err(failed)?, child))
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST_CONFIG).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    fn file(path: &Path, mode: u32, content: &str) {
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn settings(directory: &Path) -> NriSettings {
        NriSettings {
            plugin_directory: directory.to_owned(),
            plugin_config_directory: directory.to_owned(),
            registration_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            validator: None,
        }
    }

    #[test]
    fn programs_with_a_plugins_name_are_found_in_order_with_their_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["20-b", "10-a"] {
            file(&path.join(name), 0o755, "");
        }
        file(&path.join("30-c"), 0o644, "");
        file(&path.join("d"), 0o755, "");
        std::fs::DirBuilder::new().create(path.join("40-e")).unwrap();
        file(&path.join("10-a.conf"), 0o600, "one");
        file(&path.join("a.conf"), 0o600, "other");
        file(&path.join("b.conf"), 0o600, "two");
        let found = installed(path).unwrap();
        let names: Vec<String> = found.iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, ["10-a", "20-b"]);
        let configs: Vec<String> =
            found.iter().map(|one| one.config(&settings(path)).unwrap()).collect();
        assert_eq!(configs, ["one", "two"]);
        assert_eq!(installed(&path.join("nowhere")).unwrap(), []);
        file(&path.join("b.conf"), 0o600, "");
        std::fs::remove_file(path.join("10-a.conf")).unwrap();
        std::fs::DirBuilder::new().create(path.join("10-a.conf")).unwrap();
        found[0].config(&settings(path)).unwrap_err();
    }
}
