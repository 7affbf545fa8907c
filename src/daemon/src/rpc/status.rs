//! The one place where an error becomes a gRPC code.
//!
//! Every error of the use cases is matched by name, without a wildcard, so that a new one has to find its code here. The
//! message is the chain of causes in one line. What may hold a secret (an address with credentials, a header) is left out
//! where the error is made, not here.

mod image;

use cringle_cdi::ApplyError;
use cringle_domain::refusal::Refusal;
use cringle_image::FillError;
use cringle_network::GenerateError;
use cringle_nri::HookError;
use cringle_proto_shim::control::FailureKind;
use cringle_service::ServiceError;
use cringle_service::bundle::BundleError;
use cringle_service::checkpoint::CheckpointError;
use cringle_service::events::Ended;
use cringle_service::supervisor::{ExecError, SupervisorError};
use cringle_streaming::TokenError;
use rustix::io::Errno;
use std::any::Any;
use std::error::Error as StdError;
use std::io;
use tonic::{Code, Status};

/// The status of a use case that failed.
pub(super) fn failed(error: &ServiceError) -> Status {
    let mut code = code(error);
    if code == Code::Internal && is_exhausted(error) {
        code = Code::ResourceExhausted;
    }
    let prefix = prefix(error).map_or_else(String::new, |prefix| format!("{prefix}: "));
    Status::new(code, format!("{prefix}{}", line(error)))
}

/// The status of a refusal.
pub(super) fn refused(refusal: &Refusal) -> Status {
    Status::new(refusal_code(refusal), line(refusal))
}

/// The status of a request whose task panicked: a bug.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Status::internal(format!("internal error: a task panicked: {text}"))
}

/// The status of a network configuration that could not be made.
pub(super) fn network_not_generated(error: &GenerateError) -> Status {
    let code = match error {
        GenerateError::Read { .. } | GenerateError::Fill { .. } | GenerateError::Use { .. } => {
            Code::FailedPrecondition
        }
        GenerateError::Write { .. } if is_exhausted(error) => Code::ResourceExhausted,
        GenerateError::Write { .. } => Code::Internal,
    };
    Status::new(code, line(error))
}

/// The status that a stream of events ends with. Either way the client has to look at the lists and subscribe again.
pub(super) fn events_ended(ended: Ended) -> Status {
    match ended {
        Ended::FellBehind(count) => {
            Status::resource_exhausted(format!("the reader of events fell behind by {count}"))
        }
        Ended::Closed => Status::unavailable("the runtime ends"),
    }
}

/// The status of a request for a URL for which there is no room.
pub(super) fn not_kept(error: &TokenError) -> Status {
    let code = match error {
        TokenError::Full { .. } => Code::ResourceExhausted,
        TokenError::Random(_) => Code::Internal,
    };
    Status::new(code, line(error))
}

fn code(error: &ServiceError) -> Code {
    match error {
        ServiceError::Refused(refusal) => refusal_code(refusal),
        ServiceError::NoSuchPod(_)
        | ServiceError::NoSuchContainer(_)
        | ServiceError::NoSuchImage(_)
        | ServiceError::NoSuchVolumeImage(_) => Code::NotFound,
        ServiceError::VolumeOfImage { .. } => Code::InvalidArgument,
        ServiceError::NoUserNamespaces(_) | ServiceError::NoRecursiveReadOnly { .. } => {
            Code::Unimplemented
        }
        ServiceError::CdiOff(_) => Code::FailedPrecondition,
        ServiceError::Cdi(error) => cdi_code(error),
        ServiceError::AmbiguousId(_) => Code::InvalidArgument,
        ServiceError::PodExists { .. } | ServiceError::ContainerExists { .. } => {
            Code::AlreadyExists
        }
        ServiceError::Busy { .. } => Code::Aborted,
        ServiceError::PodNotReady(_)
        | ServiceError::NotRunning(_)
        | ServiceError::NeverStarted { .. }
        | ServiceError::PodPhase(_)
        | ServiceError::ContainerPhase(_) => Code::FailedPrecondition,
        ServiceError::NetworkPlan(_) => Code::Unavailable,
        ServiceError::Pull(error) => image::code(error),
        ServiceError::Bundle(error) => bundle_code(error),
        ServiceError::Plugin(error) => hook_code(error),
        ServiceError::Supervisor { source, .. }
        | ServiceError::Start { source, .. }
        | ServiceError::Attach { source, .. } => supervisor_code(source),
        ServiceError::Forward { .. } => Code::Unavailable,
        ServiceError::Exec { source, .. } => exec_code(source),
        ServiceError::NoCheckpoints(source)
        | ServiceError::Checkpoint { source, .. }
        | ServiceError::PodCheckpoint { source, .. }
        | ServiceError::Restore { source, .. } => checkpoint_code(source),
        ServiceError::Joined(error) => code(error),
        ServiceError::Adjustment { source, .. } => code(source),
        ServiceError::Record { .. }
        | ServiceError::File { .. }
        | ServiceError::Holds(_)
        | ServiceError::Namespaces { .. }
        | ServiceError::OwnUsers { .. }
        | ServiceError::Kernel { .. }
        | ServiceError::Cgroup(_)
        | ServiceError::Network(_)
        | ServiceError::Images { .. }
        | ServiceError::Panicked(_) => Code::Internal,
    }
}

fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Invalid { .. } => Code::InvalidArgument,
        Refusal::Unsupported(_) => Code::Unimplemented,
        Refusal::WrongState(_) => Code::FailedPrecondition,
    }
}

fn cdi_code(error: &ApplyError) -> Code {
    match error {
        ApplyError::Unknown { .. } => Code::NotFound,
        ApplyError::Unsupported { .. } => Code::Unimplemented,
        // What is wrong is on the host, not in the request, and may be put right.
        ApplyError::Conflict { .. } | ApplyError::Edit { .. } => Code::FailedPrecondition,
    }
}

fn bundle_code(error: &BundleError) -> Code {
    match error {
        BundleError::Profile { .. } => Code::InvalidArgument,
        BundleError::Refused(refusal) => refusal_code(refusal),
        BundleError::Express(_) | BundleError::Encode { .. } | BundleError::File { .. } => {
            Code::Internal
        }
    }
}

fn hook_code(error: &HookError) -> Code {
    match error {
        HookError::Refused { .. }
        | HookError::Conflict { .. }
        | HookError::TooMany { .. }
        | HookError::UpdateOfTheNew { .. } => Code::FailedPrecondition,
        HookError::Unanswered { .. } => Code::Unavailable,
        HookError::Rejected { .. } => Code::PermissionDenied,
    }
}

fn supervisor_code(error: &SupervisorError) -> Code {
    match error {
        SupervisorError::Refused { kind, .. } => failure_code(*kind),
        SupervisorError::Silent { .. } => Code::Unavailable,
        SupervisorError::Abandoned => Code::FailedPrecondition,
        SupervisorError::Restore(source) => checkpoint_code(source),
        SupervisorError::LoadProgram { .. }
        | SupervisorError::Bundle { .. }
        | SupervisorError::Socket(_)
        | SupervisorError::Streams(_)
        | SupervisorError::Spawn(_)
        | SupervisorError::Process(_)
        | SupervisorError::Encode(_)
        | SupervisorError::Connection(_)
        | SupervisorError::Task { .. }
        | SupervisorError::Nonsense { .. }
        | SupervisorError::Gone
        | SupervisorError::Cgroup(_) => Code::Internal,
    }
}

fn checkpoint_code(error: &CheckpointError) -> Code {
    match error {
        CheckpointError::Off | CheckpointError::NoRestore | CheckpointError::Unfit(_) => {
            Code::Unimplemented
        }
        CheckpointError::Unfitting { .. }
        | CheckpointError::Fill { source: FillError::Unfit(_), .. } => Code::InvalidArgument,
        CheckpointError::Fill { source: FillError::TooLarge(_), .. } => Code::ResourceExhausted,
        CheckpointError::Late(_) => Code::DeadlineExceeded,
        CheckpointError::Criu { .. }
        | CheckpointError::Changes { .. }
        | CheckpointError::Cgroup(_)
        | CheckpointError::Kernel(_)
        | CheckpointError::File { .. }
        | CheckpointError::Fill {
            source: FillError::Read { .. } | FillError::Worker(_) | FillError::Failed(_),
            ..
        }
        | CheckpointError::Incomplete
        | CheckpointError::Panicked(_) => Code::Internal,
    }
}

fn exec_code(error: &ExecError) -> Code {
    match error {
        // What the kubelet takes for a probe that timed out.
        ExecError::TimedOut => Code::DeadlineExceeded,
        ExecError::NoRoom => Code::ResourceExhausted,
        ExecError::NotExecuted { kind, .. } => failure_code(*kind),
        ExecError::Supervisor(error) => supervisor_code(error),
    }
}

fn failure_code(kind: FailureKind) -> Code {
    match kind {
        FailureKind::Malformed | FailureKind::Version => Code::Internal,
        // Mostly the program that was asked for: it is not there, or may not be executed.
        FailureKind::Refused | FailureKind::WrongState | FailureKind::NotFound => {
            Code::FailedPrecondition
        }
    }
}

/// The word that a message must begin with for the kubelet to tell the user the reason (R-00d).
fn prefix(error: &ServiceError) -> Option<&'static str> {
    if let ServiceError::Joined(error) = error {
        return prefix(error);
    }
    if let ServiceError::NoSuchVolumeImage(_) | ServiceError::VolumeOfImage { .. } = error {
        return Some("ImageVolumeMountFailed");
    }
    if let ServiceError::NoRecursiveReadOnly { .. } = error {
        return Some("RROUnsupported");
    }
    if let ServiceError::Pull(error) = error { image::prefix(error) } else { None }
}

/// Whether something failed because the machine has no more of it: then it is worth to try again, and no bug.
fn is_exhausted(error: &dyn StdError) -> bool {
    const EXHAUSTED: [Errno; 5] =
        [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| {
        let is_told = |errno| EXHAUSTED.iter().any(|found: &Errno| found.raw_os_error() == errno);
        cause.kind() == io::ErrorKind::StorageFull || cause.raw_os_error().is_some_and(is_told)
    })
}

fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

/// An error and its causes in one line.
fn line(error: &dyn StdError) -> String {
    cringle_service::error::chain(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cringle_domain::id::{ContainerId, PodId};
    use cringle_service::progress::SoFar;
    use std::sync::Arc;
    use std::time::Duration;

    fn pod() -> PodId {
        PodId::from_bytes([1; 32])
    }

    fn file(errno: Errno) -> ServiceError {
        ServiceError::file("write", "/x", errno.into())
    }

    fn container() -> ContainerId {
        ContainerId::from_bytes([2; 32])
    }

    fn busy() -> ServiceError {
        let so_far = SoFar { stage: "pod_network", age: Duration::from_secs(9) };
        ServiceError::Busy { name: "x".to_owned(), so_far }
    }

    fn exec(source: ExecError) -> ServiceError {
        ServiceError::Exec { container: container(), source }
    }

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let text = || "x".to_owned();
        let kept_for_others = io::Error::new(io::ErrorKind::StorageFull, "for others");
        let reserved = ServiceError::Checkpoint {
            container: container(),
            source: CheckpointError::File {
                action: "write",
                path: "/x".into(),
                source: kept_for_others,
            },
        };
        for (error, expected) in [
            (ServiceError::from(Refusal::invalid("a", "b")), Code::InvalidArgument),
            (ServiceError::from(Refusal::Unsupported(text())), Code::Unimplemented),
            (ServiceError::from(Refusal::WrongState(text())), Code::FailedPrecondition),
            (ServiceError::NoSuchPod(text()), Code::NotFound),
            (ServiceError::NoSuchContainer(text()), Code::NotFound),
            (ServiceError::NoSuchImage(text()), Code::NotFound),
            (ServiceError::NoSuchVolumeImage(text()), Code::NotFound),
            (ServiceError::NoUserNamespaces(text()), Code::Unimplemented),
            (ServiceError::AmbiguousId(text()), Code::InvalidArgument),
            (ServiceError::PodExists { name: text(), pod: pod() }, Code::AlreadyExists),
            (busy(), Code::Aborted),
            (
                ServiceError::NeverStarted { container: container(), why: text() },
                Code::FailedPrecondition,
            ),
            (ServiceError::PodNotReady(pod()), Code::FailedPrecondition),
            (exec(ExecError::TimedOut), Code::DeadlineExceeded),
            (
                exec(ExecError::NotExecuted { kind: FailureKind::Refused, text: text() }),
                Code::FailedPrecondition,
            ),
            (exec(ExecError::Supervisor(SupervisorError::Gone)), Code::Internal),
            (
                exec(ExecError::Supervisor(SupervisorError::Silent { order: "exec" })),
                Code::Unavailable,
            ),
            (file(Errno::IO), Code::Internal),
            (file(Errno::NOSPC), Code::ResourceExhausted),
            (file(Errno::MFILE), Code::ResourceExhausted),
            (reserved, Code::ResourceExhausted),
            (ServiceError::Joined(Arc::new(busy())), Code::Aborted),
            (ServiceError::Joined(Arc::new(file(Errno::NOSPC))), Code::ResourceExhausted),
        ] {
            assert_eq!(failed(&error).code(), expected, "{error:?}");
        }
    }

    #[test]
    fn what_programs_of_others_are_for_has_its_codes_too() {
        let text = || "x".to_owned();
        for (error, expected) in [
            (ServiceError::CdiOff("v/c=d".parse().unwrap()), Code::FailedPrecondition),
            (
                ServiceError::Cdi(ApplyError::Unsupported { path: "/x".into(), what: "x" }),
                Code::Unimplemented,
            ),
            (
                ServiceError::Cdi(ApplyError::Unknown {
                    names: vec![],
                    directories: vec![],
                    faults: vec![],
                }),
                Code::NotFound,
            ),
            (ServiceError::NoCheckpoints(CheckpointError::Off), Code::Unimplemented),
            (
                ServiceError::Checkpoint {
                    container: container(),
                    source: CheckpointError::Late(Duration::from_secs(1)),
                },
                Code::DeadlineExceeded,
            ),
            (
                ServiceError::Adjustment {
                    plugin: text(),
                    source: Box::new(Refusal::Unsupported(text()).into()),
                },
                Code::Unimplemented,
            ),
            (
                ServiceError::Plugin(HookError::Rejected { validator: text(), reason: text() }),
                Code::PermissionDenied,
            ),
        ] {
            assert_eq!(failed(&error).code(), expected, "{error:?}");
        }
    }

    #[test]
    fn the_words_that_the_kubelet_looks_for_come_first() {
        let path = "/data".into();
        let error = ServiceError::NoRecursiveReadOnly { path, reason: "x".to_owned() };
        let joined = ServiceError::Joined(Arc::new(error));
        let status = failed(&joined);
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().starts_with("RROUnsupported: "), "{status:?}");
        let status = failed(&ServiceError::NoSuchVolumeImage("x".to_owned()));
        assert!(status.message().starts_with("ImageVolumeMountFailed: "), "{status:?}");
    }

    #[test]
    fn the_message_is_the_chain_in_one_line() {
        let status = failed(&file(Errno::NOSPC));
        assert_eq!(
            status.message(),
            "failed to write \"/x\": No space left on device (os error 28)"
        );
        let status = refused(&Refusal::invalid("field", "two\nlines"));
        assert_eq!(status.message(), "field: two lines");
    }

    #[test]
    fn a_panic_is_internal_and_says_what_it_said() {
        let payload = std::panic::catch_unwind(|| panic!("broken {}", "invariant")).unwrap_err();
        let status = panicked(&*payload);
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("broken invariant"), "{status:?}");
    }
}
