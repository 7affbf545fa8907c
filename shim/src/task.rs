//! containerd's Task service, version 3: the contract with whoever runs us (D1).
//!
//! Each method translates, calls one function of [`Shim`], and translates back. What goes wrong becomes a gRPC code by the
//! kind of the failure, with the whole chain of causes as its text.

use crate::chain;
use crate::container::{Pausing, Shim, ShimError, Shown, Wanted};
use crate::engine::RootfsMount;
use crate::exec::{ExecExit, ShownExec, status_code};
use crate::process::Life;
use crate::stdio::{Names, Terminal};
use async_trait::async_trait;
use cringle_kernel::terminal::Size;
use cringle_proto_shim::containerd::protobuf::MessageField;
use cringle_proto_shim::containerd::protobuf::well_known_types::timestamp::Timestamp;
use cringle_proto_shim::control::{ExecEnding, FailureKind};
use cringle_proto_shim::record::{Ending, ExitRecord};
use cringle_proto_shim::task::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, Status,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use oci_spec::runtime::Process;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::{Code, get_status};

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    shim: Arc<Shim>,
}

impl Service {
    /// The service of this shim.
    pub(crate) fn new(shim: Arc<Shim>) -> Self {
        Self { shim }
    }
}

type Result<T> = std::result::Result<T, ttrpc::Error>;

#[async_trait]
impl cringle_proto_shim::Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse> {
        let rootfs = request.rootfs.into_iter().map(|mount| RootfsMount {
            kind: mount.type_,
            source: mount.source,
            options: mount.options,
        });
        let wanted = Wanted {
            id: request.id,
            bundle: PathBuf::from(request.bundle),
            rootfs: rootfs.collect(),
            names: Names {
                input: request.stdin,
                output: request.stdout,
                error: request.stderr,
                terminal: Terminal::from(request.terminal),
            },
            restore: Some(PathBuf::from(request.checkpoint)).filter(|path| path != Path::new("")),
        };
        let pid = self.shim.create(wanted).map_err(status)?;
        Ok(CreateTaskResponse { pid: pid_number(pid), ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let pid = if request.exec_id.is_empty() {
            self.shim.start()
        } else {
            let running = self.shim.running();
            running.and_then(|running| self.shim.execs.start(&request.exec_id, &running))
        };
        self.shim.rest.stir();
        Ok(StartResponse { pid: pid_number(pid.map_err(status)?), ..Default::default() })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let mut response = if request.exec_id.is_empty() {
            state_of_container(self.shim.shown())?
        } else {
            state_of_exec(self.shim.execs.shown(&request.exec_id).map_err(status)?)
        };
        response.id = request.id;
        response.exec_id = request.exec_id;
        response.bundle = self.shim.bundle.to_string_lossy().into_owned();
        Ok(response)
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let exit = if request.exec_id.is_empty() {
            self.shim.delete().map_err(status)?.map(Exit::from)
        } else {
            self.shim.execs.forget(&request.exec_id).map_err(status)?.map(Exit::from)
        };
        let exit = exit.unwrap_or_default();
        Ok(DeleteResponse {
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exit.at,
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let signal = u8::try_from(request.signal).map_err(|_too_large| {
            failed(Code::INVALID_ARGUMENT, format!("{} is no signal", request.signal))
        })?;
        let sent = if !request.exec_id.is_empty() {
            self.shim.execs.signal(&request.exec_id, signal)
        } else if request.all {
            self.shim.signal_all(signal)
        } else {
            self.shim.signal(signal)
        };
        sent.map(|()| Empty::new()).map_err(status)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = if request.exec_id.is_empty() {
            let mut exit = self.shim.exit();
            exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()).map(Exit::from)
        } else {
            let mut exit = self.shim.execs.exit(&request.exec_id).map_err(status)?;
            exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()).map(Exit::from)
        };
        let exit = exit.ok_or_else(|| failed(Code::NOT_FOUND, "the process is forgotten"))?;
        Ok(WaitResponse { exit_status: exit.status, exited_at: exit.at, ..Default::default() })
    }

    async fn pids(&self, _: &TtrpcContext, _: PidsRequest) -> Result<PidsResponse> {
        let pids = self.shim.pids().map_err(status)?;
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, ..Default::default() });
        Ok(PidsResponse { processes: processes.collect(), ..Default::default() })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let process: Process = serde_json::from_slice(&request.spec.value)
            .map_err(|source| status(ShimError::Parse { what: "process", source }))?;
        let names = Names {
            input: request.stdin,
            output: request.stdout,
            error: request.stderr,
            terminal: Terminal::from(request.terminal),
        };
        self.shim.running().map_err(status)?;
        self.shim.execs.add(&request.exec_id, process, names).map_err(status)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let size = Size { rows: cells(request.height), columns: cells(request.width) };
        let resized = if request.exec_id.is_empty() {
            self.shim.resize(size)
        } else {
            self.shim.execs.resize(&request.exec_id, size)
        };
        resized.map(|()| Empty::new()).map_err(status)
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        if !request.stdin {
            return Ok(Empty::new());
        }
        if request.exec_id.is_empty() {
            self.shim.close_input();
        } else {
            self.shim.execs.close_input(&request.exec_id).map_err(status)?;
        }
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, _: PauseRequest) -> Result<Empty> {
        self.shim.pause().map(|()| Empty::new()).map_err(status)
    }

    async fn resume(&self, _: &TtrpcContext, _: ResumeRequest) -> Result<Empty> {
        self.shim.resume().map(|()| Empty::new()).map_err(status)
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let resources = String::from_utf8_lossy(&request.resources.value);
        self.shim.update(&resources).map(|()| Empty::new()).map_err(status)
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Result<Empty> {
        Err(failed(Code::UNIMPLEMENTED, "checkpoints are not supported"))
    }

    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> Result<ConnectResponse> {
        let shim_pid = pid_number(rustix::process::getpid().as_raw_pid());
        let task_pid = self.shim.shown().life.pid().map(pid_number).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ConnectResponse { shim_pid, task_pid, version, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        // With a container still there, only an explicit "now" ends its parent.
        if request.now || self.shim.is_vacant() {
            self.shim.shutdown.notify_one();
        }
        Ok(Empty::new())
    }
}

/// An exit in the service's terms.
#[derive(Default)]
struct Exit {
    pid: u32,
    status: u32,
    at: MessageField<Timestamp>,
}

impl From<ExitRecord> for Exit {
    fn from(record: ExitRecord) -> Self {
        Self {
            pid: record.pid.map(pid_number).unwrap_or_default(),
            status: status_code(&record.ending),
            at: timestamp(record.at_nanoseconds),
        }
    }
}

impl From<ExecExit> for Exit {
    fn from(exit: ExecExit) -> Self {
        let status = match &exit.ending {
            ExecEnding::Exited(ending) => status_code(ending),
            ExecEnding::TimedOut => status_code(&Ending::Signal(crate::container::KILL)),
        };
        Self { pid: pid_number(exit.pid), status, at: timestamp(exit.at) }
    }
}

fn state_of_container(shown: Shown) -> Result<StateResponse> {
    let mut response = StateResponse::new();
    response.pid = shown.life.pid().map(pid_number).unwrap_or_default();
    response.status = match (&shown.life, shown.pausing) {
        (Life::Empty, _) => {
            return Err(failed(Code::NOT_FOUND, "there is no container"));
        }
        (Life::Created { .. }, _) => Status::CREATED.into(),
        (Life::Running { .. }, Pausing::Runs) => Status::RUNNING.into(),
        (Life::Running { .. }, Pausing::Paused) => Status::PAUSED.into(),
        (Life::Exited(record), _) => {
            response.exit_status = status_code(&record.ending);
            response.exited_at = timestamp(record.at_nanoseconds);
            Status::STOPPED.into()
        }
    };
    name_streams(&mut response, shown.names);
    Ok(response)
}

fn state_of_exec(shown: ShownExec) -> StateResponse {
    let mut response = StateResponse::new();
    response.pid = shown.pid.map(pid_number).unwrap_or_default();
    response.status = match (shown.pid, shown.exit) {
        (_, Some(exit)) => {
            let exit = Exit::from(exit);
            response.exit_status = exit.status;
            response.exited_at = exit.at;
            Status::STOPPED.into()
        }
        (Some(_), None) => Status::RUNNING.into(),
        (None, None) => Status::CREATED.into(),
    };
    name_streams(&mut response, shown.names);
    response
}

fn name_streams(response: &mut StateResponse, names: Option<Names>) {
    if let Some(names) = names {
        response.terminal = names.terminal == Terminal::Present;
        response.stdin = names.input;
        response.stdout = names.output;
        response.stderr = names.error;
    }
}

fn timestamp(nanoseconds: u64) -> MessageField<Timestamp> {
    const SECOND: u64 = 1_000_000_000;
    let mut timestamp = Timestamp::new();
    timestamp.seconds = i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX);
    timestamp.nanos = i32::try_from(nanoseconds % SECOND).unwrap_or(0);
    MessageField::some(timestamp)
}

fn pid_number(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

fn cells(count: u32) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn status(error: ShimError) -> ttrpc::Error {
    let code = match error.kind() {
        FailureKind::Malformed => Code::INVALID_ARGUMENT,
        FailureKind::Version => Code::UNIMPLEMENTED,
        FailureKind::WrongState => Code::FAILED_PRECONDITION,
        FailureKind::NotFound => Code::NOT_FOUND,
        FailureKind::Refused => Code::INTERNAL,
    };
    failed(code, chain(&error))
}

fn failed(code: Code, text: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, text))
}
