//! containerd's way to call a shim: `start` leaves a shim behind that serves the Task service and says where, `delete` puts
//! away what a dead one left.
//!
//! The socket lies in containerd's directory for them, under a short name: a bundle's path is longer than a socket's may be.

use super::{Failure, Usage};
use crate::{clock, engine};
use cringle_kernel::program::sealed_copy;
use cringle_kernel::socket::{self, Kind};
use cringle_proto_shim::containerd::protobuf::Message;
use cringle_proto_shim::containerd::protobuf::well_known_types::timestamp::Timestamp;
use cringle_proto_shim::record::{EXIT_FILE, ExitRecord};
use cringle_proto_shim::task::DeleteResponse;
use cringle_proto_shim::{CONTROL_SOCKET, ENVIRONMENT};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;
use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where containerd wants the sockets of shims.
const SOCKETS: &str = "/run/containerd/s";
const USAGE: &str = "containerd-shim-cringle-v2 -namespace NAME -id ID -address SOCKET [-bundle DIRECTORY] start|delete";

/// What containerd says on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    namespace: String,
    id: String,
    address: String,
    bundle: PathBuf,
    action: String,
}

impl Call {
    /// Reads the words after the program's name: flags as Go's flag package takes them, then the action.
    ///
    /// # Errors
    /// A flag without its value, or no action.
    pub(super) fn parse(words: &[OsString]) -> Result<Self, Failure> {
        let mut call = Self::default();
        let mut words = words.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-') else {
                call.action = word.into_owned();
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = flag
                .split_once('=')
                .map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            if name == "debug" {
                continue;
            }
            let value = value.or_else(|| words.next().map(|value| value.into_owned()));
            let value = value.ok_or(Usage(USAGE))?;
            match name {
                "namespace" => call.namespace = value,
                "id" => call.id = value,
                "address" => call.address = value,
                "bundle" => call.bundle = PathBuf::from(value),
                // Others, like the binary that publishes events, are for shims that use them.
                _ => {}
            }
        }
        if call.id.is_empty() || call.action.is_empty() {
            return Err(Usage(USAGE).into());
        }
        Ok(call)
    }

    /// Performs the action.
    ///
    /// # Errors
    /// What kept it from being performed.
    pub(super) fn perform(&self) -> Result<(), Failure> {
        match self.action.as_str() {
            "start" => self.start(),
            "delete" => self.delete(),
            _ => Err(Usage(USAGE).into()),
        }
    }

    /// Leaves a shim behind and prints where it is reached.
    fn start(&self) -> Result<(), Failure> {
        let bundle = std::env::current_dir()?;
        DirBuilder::new().recursive(true).mode(0o711).create(SOCKETS)?;
        let (name, path) = self.socket();
        let task = socket::listen(directory(Path::new(SOCKETS))?.as_fd(), &name, Kind::Stream)?;
        let control = socket::listen(directory(&bundle)?.as_fd(), CONTROL_SOCKET, Kind::Packets)?;
        // The program on disk must not be what a container finds at /proc/PID/exe.
        let program = sealed_copy(Path::new("/proc/self/exe"), "containerd-shim-cringle-v2")?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(bundle.join("shim.log"))?;
        Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("containerd-shim-cringle-v2")
            .args(["serve".as_ref(), "--bundle".as_ref(), bundle.as_os_str()])
            .args(["--socket".as_ref(), path.as_os_str()])
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::from(task))
            .stdout(Stdio::from(control))
            .stderr(Stdio::from(log))
            .spawn()?;
        let address = format!("unix://{}", path.display());
        let answer = json!({ "version": 3, "address": address, "protocol": "ttrpc" });
        Ok(std::io::stdout().write_all(answer.to_string().as_bytes())?)
    }

    /// Ends what is left of a container whose shim is gone, and prints how it ended.
    fn delete(&self) -> Result<(), Failure> {
        let bundle = if self.bundle.as_os_str().is_empty() {
            std::env::current_dir()?
        } else {
            self.bundle.clone()
        };
        engine::delete(&bundle)?;
        let (_, socket) = self.socket();
        remove_socket(&socket)?;
        let record = std::fs::read(bundle.join(EXIT_FILE)).ok();
        let record: Option<ExitRecord> = record.and_then(|text| serde_json::from_slice(&text).ok());
        // Nobody saw its end: it was killed, now at the latest.
        let (status, at) = record.map_or((137, clock::now()), |record| {
            (crate::exec::status_code(&record.ending), record.at_nanoseconds)
        });
        let mut response = DeleteResponse::new();
        response.exit_status = status;
        let mut exited_at = Timestamp::new();
        exited_at.seconds = i64::try_from(at / 1_000_000_000)?;
        exited_at.nanos = i32::try_from(at % 1_000_000_000)?;
        response.exited_at = Some(exited_at).into();
        Ok(std::io::stdout().write_all(&response.write_to_bytes()?)?)
    }

    /// The socket's name, which is the same at each call for one task of one containerd, and its path.
    fn socket(&self) -> (String, PathBuf) {
        let mut hasher = DefaultHasher::new();
        (&self.address, &self.namespace, &self.id).hash(&mut hasher);
        let first = hasher.finish();
        (first, &self.id).hash(&mut hasher);
        let name = format!("cringle-{first:016x}{:016x}", hasher.finish());
        let path = Path::new(SOCKETS).join(&name);
        (name, path)
    }
}

/// Removes a socket; one that is gone is removed.
///
/// # Errors
/// The file system refuses.
pub(super) fn remove_socket(path: &Path) -> Result<(), Failure> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Call, Failure> {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        Call::parse(&words)
    }

    #[test]
    fn flags_are_taken_in_all_of_go_s_forms() {
        let call = parse(
            "-namespace k8s.io --id=one -debug -address /a -publish-binary /b -bundle /c start",
        );
        let expected = Call {
            namespace: "k8s.io".to_owned(),
            id: "one".to_owned(),
            address: "/a".to_owned(),
            bundle: PathBuf::from("/c"),
            action: "start".to_owned(),
        };
        assert_eq!(call.unwrap(), expected);
        parse("-id").unwrap_err();
        parse("-id one").unwrap_err();
        parse("start").unwrap_err();
    }

    #[test]
    fn each_task_has_a_socket_of_its_own_with_a_short_path() {
        let one = parse("-namespace a -id one start").unwrap().socket();
        assert_eq!(one, parse("-namespace a -id one delete").unwrap().socket());
        assert_ne!(one, parse("-namespace b -id one start").unwrap().socket());
        assert!(one.1.as_os_str().len() < 100);
    }
}
