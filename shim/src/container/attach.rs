//! Clients that attach to the container's first process.

use super::{Result, Shim, ShimError, State};
use crate::locked;
use crate::process::Life;
use crate::stdio::fan::Attachment;
use crate::stdio::lines::Stream;
use cringle_proto_shim::control::{Report, WantedInput};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// What an attachment is given.
#[derive(Debug)]
pub(crate) struct Attached {
    /// To be ended with the client.
    pub attachment: Arc<Attachment>,
    /// Where the container's input is written to, if it is to be had.
    pub input: Option<OwnedFd>,
    /// The master of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

impl Shim {
    /// Copies what the container says from now on to these pipes; the attachment's end is told to `reports`.
    ///
    /// # Errors
    /// The container does not run, or its output cannot be attached to.
    pub(crate) fn attach(
        &self,
        pipes: Vec<(Stream, OwnedFd)>,
        input: WantedInput,
        reports: UnboundedSender<Report>,
    ) -> Result<Attached> {
        let mut state = locked(&self.state);
        if !matches!(state.life, Life::Running { .. }) {
            return Err(ShimError::NotRunning);
        }
        let fan = Arc::clone(state.streams.fan.as_ref().ok_or(ShimError::NotAttachable)?);
        let State { streams, master, .. } = &mut *state;
        let terminal = master.as_ref().map(OwnedFd::try_clone).transpose();
        let terminal = terminal.map_err(ShimError::WatchStreams)?;
        let attachment = fan.attach(pipes, reports).map_err(ShimError::WatchStreams)?;
        match streams.input(input, master.as_ref()) {
            Ok(input) => Ok(Attached { attachment, input, terminal }),
            Err(error) => {
                fan.detach(&attachment);
                Err(ShimError::WatchStreams(error))
            }
        }
    }

    /// Ends an attachment whose client has gone.
    pub(crate) fn detach(&self, attachment: &Arc<Attachment>) {
        if let Some(fan) = &locked(&self.state).streams.fan {
            fan.detach(attachment);
        }
    }
}
