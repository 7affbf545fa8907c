//! How a shim comes to be, and what it is told to make.

use super::{ShimProgram, SupervisorError};
use crate::settings::Writes;
use cringle_domain::namespaces::IdMapping;
use cringle_domain::snapshot::Active;
use cringle_domain::spec::Input;
use cringle_kernel::socket::{self, Kind, Waiting};
use cringle_proto_shim::containerd::types::mount::Mount;
use cringle_proto_shim::task::CreateTaskRequest;
use cringle_proto_shim::{
    CONTROL_SOCKET, CRI_LOG_SCHEME, ENVIRONMENT, KEPT_INPUT, KEPT_OUTPUT, TASK_SOCKET, TaskClient,
};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::net::UnixStream;
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

/// What a shim shall make.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The bundle: a directory with `config.json`, and short-lived enough to lie below `/run`.
    pub bundle: PathBuf,
    /// The container's id.
    pub id: String,
    /// Where its output goes.
    pub stdout: LogTarget,
    /// Whether it has a terminal.
    pub terminal: TerminalMode,
    /// What its input is.
    pub input: Input,
    /// What makes its root filesystem.
    pub rootfs: Vec<RootfsMount>,
    /// The directory of the checkpoint that its processes are made of, if they are.
    pub restore: Option<PathBuf>,
}

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Discard,
    /// To whoever is attached.
    Attached,
    /// As CRI log lines to this file.
    CriLog(PathBuf),
}

/// Whether there is a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalMode {
    /// There is none.
    Absent,
    /// There is one.
    Present,
}

/// One mount of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsMount {
    /// Filesystem type: `overlay`, `bind`.
    pub kind: String,
    /// The source of a bind mount.
    pub source: String,
    /// Options, one each.
    pub options: Vec<String>,
}

impl RootfsMount {
    /// The overlay of a container's layers, which show the ids of the host that the container's are.
    #[must_use]
    pub fn overlay(active: &Active, writes: Writes, mapping: Option<IdMapping>) -> Self {
        let lower: Vec<_> = active.lower.iter().map(|layer| layer.to_string_lossy()).collect();
        let mut options = vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", active.upper.display()),
            format!("workdir={}", active.work.display()),
        ];
        if writes == Writes::Volatile {
            options.push("volatile".to_owned());
        }
        if let Some(IdMapping { users, groups }) = mapping {
            for (word, range) in [("uidmap", users), ("gidmap", groups)] {
                options.push(format!("{word}=0:{}:{}", range.first(), range.length()));
            }
        }
        Self { kind: "overlay".to_owned(), source: "overlay".to_owned(), options }
    }
}

/// A shim just spawned.
pub(super) struct Spawned {
    /// To be waited for.
    pub child: Child,
    /// Readable once it has ended.
    pub process: OwnedFd,
}

/// Binds both sockets and spawns the shim on them: its standard input is the Task socket, its output the control socket,
/// so that nothing has to run between fork and exec.
pub(super) fn spawn(program: &ShimProgram, bundle: &Path) -> Result<Spawned, SupervisorError> {
    let directory = open_directory(bundle)?;
    let listen =
        |name, kind| socket::listen(directory.as_fd(), name, kind).map_err(SupervisorError::Socket);
    let task = listen(TASK_SOCKET, Kind::Stream)?;
    let control = listen(CONTROL_SOCKET, Kind::Packets)?;
    let mut child = Command::new(program.path())
        .arg0("containerd-shim-cringle-v2")
        .args(["serve".as_ref(), "--bundle".as_ref(), bundle.as_os_str()])
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::from(task))
        .stdout(Stdio::from(control))
        .stderr(Stdio::from(open_log(bundle)?))
        .spawn()
        .map_err(SupervisorError::Spawn)?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    // Nobody has waited for it, so the number is still its own.
    match cringle_kernel::process::open(pid) {
        Ok(process) => Ok(Spawned { child, process }),
        Err(error) => {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map_err(SupervisorError::Spawn)?;
            Err(SupervisorError::Process(error))
        }
    }
}

/// The client of the Task service on the bundle's socket.
pub(super) fn connect_task(bundle: &Path) -> Result<TaskClient, SupervisorError> {
    let directory = open_directory(bundle)?;
    let socket = socket::connect(directory.as_fd(), TASK_SOCKET, Kind::Stream, Waiting::Returns)
        .map_err(SupervisorError::Socket)?;
    let stream = UnixStream::from_std(StdStream::from(socket));
    let stream = stream.map_err(SupervisorError::Connection)?;
    Ok(TaskClient::new(Client::new(Socket::from(stream))))
}

/// The order to create.
pub(super) fn create_request(launch: &Launch) -> CreateTaskRequest {
    let output = match &launch.stdout {
        LogTarget::Discard => String::new(),
        LogTarget::Attached => KEPT_OUTPUT.to_owned(),
        LogTarget::CriLog(path) => format!("{CRI_LOG_SCHEME}{}", path.display()),
    };
    let rootfs = launch.rootfs.iter().map(|mount| Mount {
        type_: mount.kind.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
        ..Default::default()
    });
    CreateTaskRequest {
        id: launch.id.clone(),
        bundle: launch.bundle.to_string_lossy().into_owned(),
        rootfs: rootfs.collect(),
        terminal: launch.terminal == TerminalMode::Present,
        stdin: match launch.input {
            Input::Closed => String::new(),
            Input::Open | Input::Once => KEPT_INPUT.to_owned(),
        },
        checkpoint: match &launch.restore {
            Some(directory) => directory.to_string_lossy().into_owned(),
            None => String::new(),
        },
        stdout: output.clone(),
        stderr: if launch.terminal == TerminalMode::Present { String::new() } else { output },
        ..Default::default()
    }
}

/// The bundle's directory.
pub(super) fn open_directory(bundle: &Path) -> Result<OwnedFd, SupervisorError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(bundle, flags, Mode::empty())
        .map_err(|errno| SupervisorError::Bundle { path: bundle.to_owned(), source: errno.into() })
}

/// Where a shim complains.
pub(super) fn open_log(bundle: &Path) -> Result<File, SupervisorError> {
    let path = bundle.join("shim.log");
    let opened: io::Result<File> =
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.map_err(|source| SupervisorError::Bundle { path, source })
}
