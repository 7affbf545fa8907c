//! What can go wrong in a use case. `daemon/rpc/status.rs` gives each its gRPC code.

use crate::checkpoint::CheckpointError;
use crate::progress::SoFar;
use crate::supervisor::{ExecError, PinError, SupervisorError};
use cringle_cdi::ApplyError;
use cringle_domain::cdi::DeviceName;
use cringle_domain::container::ContainerRefusal;
use cringle_domain::id::{ContainerId, PodId};
use cringle_domain::pod::PodRefusal;
use cringle_domain::refusal::Refusal;
use cringle_image::PullError;
use cringle_kernel::error::SystemError;
use cringle_network::{AttachError, PlanError};
use cringle_store::format::FormatError;
use cringle_store::holds::HoldsError;
use cringle_store::tracked::AdvanceError;
use std::path::PathBuf;
use std::sync::Arc;

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request is wrong, or asks for what is not offered.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No pod of that id. Code NotFound.
    #[error("no pod \"{0}\"")]
    NoSuchPod(String),
    /// No container of that id. Code NotFound.
    #[error("no container \"{0}\"")]
    NoSuchContainer(String),
    /// The image of a container is not here. Code NotFound.
    #[error("no image \"{0}\" on this node")]
    NoSuchImage(String),
    /// The image of a volume is not here. Code NotFound.
    #[error("no image \"{0}\" on this node, which a volume is of")]
    NoSuchVolumeImage(String),
    /// The image of a volume has nothing at the path that is asked for. Code InvalidArgument.
    #[error("failed to find {sub_path:?} in image \"{image}\"")]
    VolumeOfImage {
        /// The image.
        image: String,
        /// The path.
        sub_path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// This host can't give pods users of their own. Code Unimplemented.
    #[error("user namespaces for pods are not possible on this host: {0}")]
    NoUserNamespaces(String),
    /// This host can't make a mount read-only with all that is mounted below it. Code Unimplemented.
    #[error("recursive read-only mounts are not possible on this host, for \"{}\": {reason}", path.display())]
    NoRecursiveReadOnly {
        /// The mount's path in the container.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A CDI device, but they are off. Code FailedPrecondition.
    #[error("CDI devices are off in the configuration (cdi.enable), and \"{0}\" is one")]
    CdiOff(DeviceName),
    /// A CDI device that cannot be given. Code NotFound if nobody describes it, Unimplemented if it asks for what is not
    /// offered, else FailedPrecondition.
    #[error(transparent)]
    Cdi(#[from] ApplyError),
    /// A prefix that several ids have. Code InvalidArgument.
    #[error("\"{0}\" is the beginning of more than one id")]
    AmbiguousId(String),
    /// A pod of that name is there. Code AlreadyExists.
    #[error("pod \"{name}\" exists already: {pod}")]
    PodExists {
        /// Namespace, name, uid and attempt.
        name: String,
        /// Its id.
        pod: PodId,
    },
    /// A container of that name is there. Code AlreadyExists.
    #[error("container \"{name}\" exists already in its pod: {container}")]
    ContainerExists {
        /// Name and attempt.
        name: String,
        /// Its id.
        container: ContainerId,
    },
    /// Another request for the same name, but with other content, is being carried out. Code Aborted.
    #[error("another request for \"{name}\" with other content is being carried out {so_far}")]
    Busy {
        /// The pod's or container's name, as people write it.
        name: String,
        /// How far it is.
        so_far: SoFar,
    },
    /// The pod can't take containers. Code FailedPrecondition.
    #[error("pod {0} is not ready")]
    PodNotReady(PodId),
    /// The container does not run. Code FailedPrecondition.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// The container was to be started before, and could not be. Code FailedPrecondition.
    #[error("container {container} could not be started: {why}")]
    NeverStarted {
        /// The container.
        container: ContainerId,
        /// What its start said.
        why: String,
    },
    /// The pod's phase does not allow it. Code FailedPrecondition.
    #[error(transparent)]
    PodPhase(PodRefusal),
    /// The container's phase does not allow it. Code FailedPrecondition.
    #[error(transparent)]
    ContainerPhase(ContainerRefusal),
    /// A record could not be written or read. Code Internal.
    #[error("failed to keep the record of {object}")]
    Record {
        /// The pod or container.
        object: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// A file of the daemon's own could not be written, made or removed. Code Internal, or ResourceExhausted if the
    /// file system is full.
    #[error("failed to {action} \"{}\"", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The journal of a pod could not be kept. Code Internal.
    #[error(transparent)]
    Holds(#[from] HoldsError),
    /// The namespaces of a pod could not be made. Code Internal.
    #[error("failed to make the namespaces of pod {pod}")]
    Namespaces {
        /// The pod.
        pod: PodId,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// The namespaces of a pod with users of its own could not be made. Code Internal.
    #[error("failed to make the namespaces of pod {pod}")]
    OwnUsers {
        /// The pod.
        pod: PodId,
        /// Why.
        #[source]
        source: PinError,
    },
    /// Something of the kernel's could not be used. Code Internal.
    #[error("failed to {action}")]
    Kernel {
        /// What was attempted, and on what.
        action: String,
        /// The kernel's answer.
        #[source]
        source: SystemError,
    },
    /// A cgroup could not be used. Code Internal.
    #[error(transparent)]
    Cgroup(cringle_kernel::cgroup::CgroupError),
    /// No network is configured, or it cannot be used. Code Unavailable.
    #[error(transparent)]
    NetworkPlan(#[from] PlanError),
    /// A network could not be attached or detached. Code Internal, or Unavailable if it may go later.
    #[error(transparent)]
    Network(#[from] AttachError),
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The image store failed. Code Internal.
    #[error("failed to {action}")]
    Images {
        /// What was attempted, and on what.
        action: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A bundle could not be made from a plan.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::BundleError),
    /// Plugins do not let it be done.
    #[error(transparent)]
    Plugin(#[from] cringle_nri::HookError),
    /// What a plugin wants of a container can't be done. Its code is that of the reason.
    #[error("failed to make the container as NRI plugin \"{plugin}\" wants it")]
    Adjustment {
        /// The plugin; several, with commas between them, if it is not known which of them.
        plugin: String,
        /// Why.
        #[source]
        source: Box<ServiceError>,
    },
    /// The shim of a container failed. Code Internal.
    #[error("shim of container {container} failed")]
    Supervisor {
        /// The container.
        container: String,
        /// Why.
        #[source]
        source: SupervisorError,
    },
    /// A container could not be started. Code Internal.
    #[error("failed to start container {container}")]
    Start {
        /// The container.
        container: ContainerId,
        /// Why.
        #[source]
        source: SupervisorError,
    },
    /// A program could not be executed in a container.
    #[error("failed to execute in container {container}")]
    Exec {
        /// The container.
        container: ContainerId,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// A container could not be attached to.
    #[error("failed to attach to container {container}")]
    Attach {
        /// The container.
        container: ContainerId,
        /// Why.
        #[source]
        source: SupervisorError,
    },
    /// A port of a pod could not be connected to. Code Unavailable.
    #[error("failed to connect to port {port} of pod {pod}")]
    Forward {
        /// The pod.
        pod: PodId,
        /// Its port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There are no checkpoints. Code Unimplemented.
    #[error(transparent)]
    NoCheckpoints(CheckpointError),
    /// A checkpoint could not be made.
    #[error("failed to make a checkpoint of container {container}")]
    Checkpoint {
        /// The container.
        container: ContainerId,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// A checkpoint of a pod could not be made.
    #[error("failed to make a checkpoint of pod {pod}")]
    PodCheckpoint {
        /// The pod.
        pod: PodId,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// A container could not be made of its checkpoint.
    #[error("failed to restore container \"{name}\"")]
    Restore {
        /// The container's name.
        name: String,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// The operation that this request joined failed.
    #[error(transparent)]
    Joined(Arc<ServiceError>),
    /// A bug: the operation's task panicked. Code Internal.
    #[error("internal error: an operation ended abnormally")]
    Panicked(#[source] tokio::task::JoinError),
}

impl ServiceError {
    /// A failure with a file of our own.
    pub fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    /// A failure with something of the kernel's.
    pub fn kernel(action: impl Into<String>, source: SystemError) -> Self {
        Self::Kernel { action: action.into(), source }
    }
}

impl From<AdvanceError<PodRefusal>> for ServiceError {
    fn from(error: AdvanceError<PodRefusal>) -> Self {
        match error {
            AdvanceError::Refused(refusal) => Self::PodPhase(refusal),
            AdvanceError::Encode(source) => Self::Record { object: "a pod".to_owned(), source },
            AdvanceError::Write { path, source } => Self::file("write record", path, source),
        }
    }
}

impl From<AdvanceError<ContainerRefusal>> for ServiceError {
    fn from(error: AdvanceError<ContainerRefusal>) -> Self {
        match error {
            AdvanceError::Refused(refusal) => Self::ContainerPhase(refusal),
            AdvanceError::Encode(source) => {
                Self::Record { object: "a container".to_owned(), source }
            }
            AdvanceError::Write { path, source } => Self::file("write record", path, source),
        }
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
