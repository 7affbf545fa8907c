//! Exec, Attach and PortForward.

use super::fields::filled;
use super::pod;
use cringle_domain::refusal::Refusal;
use cringle_domain::spec::Terminal;
use cringle_proto_cri::v1;
use cringle_service::streams::{AttachRequest, ExecRequest, Streams};

/// What is to be executed, and where.
///
/// # Errors
/// If no container is named.
pub(in crate::rpc) fn exec_request(
    request: v1::ExecRequest,
) -> Result<(String, ExecRequest), Refusal> {
    let v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
    let streams = Streams { input: stdin.into(), output: stdout.into(), error: stderr.into() };
    let request = ExecRequest { command: cmd, streams, terminal: terminal(tty) };
    Ok((filled(container_id, "container_id")?, request))
}

/// What is attached to, and how.
///
/// # Errors
/// If no container is named.
pub(in crate::rpc) fn attach_request(
    request: v1::AttachRequest,
) -> Result<(String, AttachRequest), Refusal> {
    let v1::AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
    let streams = Streams { input: stdin.into(), output: stdout.into(), error: stderr.into() };
    let request = AttachRequest { streams, terminal: terminal(tty) };
    Ok((filled(container_id, "container_id")?, request))
}

/// A pod, and its ports that connections may be forwarded to; none: the client names one with each connection.
///
/// # Errors
/// If no pod is named, or a number is no port.
pub(in crate::rpc) fn port_forward_request(
    request: v1::PortForwardRequest,
) -> Result<(String, Vec<u16>), Refusal> {
    let v1::PortForwardRequest { pod_sandbox_id, port } = request;
    let ports = port.into_iter().map(|number| pod::port(number, "port")).collect::<Result<_, _>>();
    Ok((filled(pod_sandbox_id, "pod_sandbox_id")?, ports?))
}

fn terminal(tty: bool) -> Terminal {
    if tty { Terminal::Present } else { Terminal::Absent }
}
