//! URLs of the streaming server: what clients of exec, attach and port-forward ask for first.

use crate::client::Cri;
use anyhow::Result;
use cringle_proto_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};

/// A program with all three streams.
#[must_use]
pub fn exec(id: &str, command: &[&str]) -> ExecRequest {
    ExecRequest {
        container_id: id.to_owned(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    }
}

/// A program on a terminal.
#[must_use]
pub fn on_terminal(id: &str, command: &[&str]) -> ExecRequest {
    ExecRequest { tty: true, stderr: false, ..exec(id, command) }
}

/// All streams of a container without a terminal.
#[must_use]
pub fn attachment(id: &str) -> AttachRequest {
    AttachRequest {
        container_id: id.to_owned(),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    }
}

impl Cri {
    /// A URL for an exec.
    pub async fn exec_url(&mut self, request: ExecRequest) -> Result<String> {
        Ok(self.runtime.exec(request).await?.into_inner().url)
    }

    /// A URL for an attachment.
    pub async fn attach_url(&mut self, request: AttachRequest) -> Result<String> {
        Ok(self.runtime.attach(request).await?.into_inner().url)
    }

    /// A URL for forwarding ports of a pod; none: the client names them.
    pub async fn forward_url(&mut self, pod: &str, ports: &[i32]) -> Result<String> {
        let request = PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: ports.to_vec() };
        Ok(self.runtime.port_forward(request).await?.into_inner().url)
    }
}
