//! Where a process' standard streams lead.
//!
//! The Task service names them by text: nothing (`/dev/null`), a FIFO (containerd), `file:///path`, `cri-log:///path` (the
//! shim writes log lines), `cri-output://kept` (the shim reads, and writes no log), and for the input `cri-input://kept` (a
//! pipe that the shim keeps open). A FIFO or a file is given to the process itself, so its bytes never pass through here;
//! only logs, kept output and terminals are read by the shim, and those are drained whatever becomes of what was read. What
//! the shim reads for a log or keeps can be attached to.

pub(crate) mod fan;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod pump;

use crate::engine;
use crate::stdio::fan::{Fan, SharedFan};
use crate::stdio::lines::Stream;
use crate::stdio::log::Log;
use crate::stdio::pump::{Drain, Pump};
use cringle_proto_shim::control::WantedInput;
use cringle_proto_shim::{CRI_LOG_SCHEME, FILE_SCHEME, KEPT_INPUT, KEPT_OUTPUT};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A log that several pumps write to.
pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// Whether a process has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// It has pipes, files or FIFOs.
    Absent,
    /// It has a pseudo-terminal.
    Present,
}

/// The streams as the Task service names them; empty: none.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// Standard input.
    pub input: String,
    /// Standard output.
    pub output: String,
    /// Standard error; not used with a terminal.
    pub error: String,
    /// Whether there is a terminal.
    pub terminal: Terminal,
}

/// Streams made ready: what the process gets, and what stays here.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The process' side.
    pub theirs: engine::Stdio,
    /// Our side.
    pub ours: Ends,
}

/// Our side of a process' streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// The log, if there is one.
    pub log: Option<SharedLog>,
    /// Who is attached, if what the process says can be attached to.
    pub fan: Option<SharedFan>,
    /// What writes to the process: a pipe; a terminal's master is written to instead.
    input: Option<OwnedFd>,
    /// The FIFO that the input comes from.
    input_source: Option<OwnedFd>,
    /// What is read from the process once it runs.
    sources: Vec<(OwnedFd, Drain)>,
    /// Where a terminal's bytes go.
    terminal_drain: Option<Drain>,
    /// Held so that the process' FIFO has a reader, whoever else comes and goes.
    kept: Vec<OwnedFd>,
}

/// Why streams could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The name is none of the forms that we know.
    #[error("stream {0:?} is neither a FIFO's path nor a URL that we know")]
    Unknown(String),
    /// The thing named could not be opened.
    #[error("failed to open stream {path:?}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// No pipe.
    #[error("failed to make a pipe")]
    Pipe(#[source] Errno),
}

/// A stream's far end as named.
enum Sink {
    Nothing,
    Kept,
    Log(PathBuf),
    File(OwnedFd),
    Fifo { writer: OwnedFd, keeper: OwnedFd },
}

/// Opens what `names` names.
///
/// # Errors
/// A name of no known form, or what could not be opened. A log file that cannot be opened is no error: see [`Log::new`].
pub(crate) fn open(names: &Names) -> Result<Streams, StreamError> {
    let mut ours = Ends::default();
    let output = sink(&names.output)?;
    let theirs = match names.terminal {
        Terminal::Present => {
            ours.terminal_drain = Some(terminal_drain(output, &mut ours));
            if !names.input.is_empty() && names.input != KEPT_INPUT {
                ours.input_source = Some(open_fifo(Path::new(&names.input))?);
            }
            engine::Stdio::Terminal
        }
        Terminal::Absent => {
            let stdin = input(&names.input, &mut ours)?;
            let stdout = attach(output, Stream::Output, &mut ours)?;
            let stderr = attach(sink(&names.error)?, Stream::Error, &mut ours)?;
            engine::Stdio::Pipes { stdin, stdout, stderr }
        }
    };
    Ok(Streams { theirs, ours })
}

impl Ends {
    /// Starts to read what the process says, and to write what it is told. `master` is its terminal's, if it has one.
    ///
    /// # Errors
    /// A descriptor that the event loop refuses.
    pub(crate) fn start(&mut self, master: Option<&OwnedFd>) -> std::io::Result<Pump> {
        let mut pump = Pump::default();
        for (source, drain) in self.sources.drain(..) {
            pump.drain(source, drain)?;
        }
        if let (Some(master), Some(drain)) = (master, self.terminal_drain.take()) {
            pump.drain(master.try_clone()?, drain)?;
        }
        if let Some(source) = self.input_source.take() {
            let target = match master {
                Some(master) => Some(master.try_clone()?),
                None => self.input.take(),
            };
            if let Some(target) = target {
                pump.feed(source, target)?;
            }
        }
        Ok(pump)
    }

    /// What an attachment writes the process' input to, if there is one. `Whole`: nobody else has it from now on.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub(crate) fn input(
        &mut self,
        wanted: WantedInput,
        master: Option<&OwnedFd>,
    ) -> std::io::Result<Option<OwnedFd>> {
        match (wanted, master) {
            (WantedInput::Unwanted, _) => Ok(None),
            (WantedInput::Shared | WantedInput::Whole, Some(master)) => {
                master.try_clone().map(Some)
            }
            (WantedInput::Shared, None) => self.input.as_ref().map(OwnedFd::try_clone).transpose(),
            (WantedInput::Whole, None) => Ok(self.input.take()),
        }
    }

    /// Closes the process' input.
    pub(crate) fn close_input(&mut self) {
        drop(self.input.take());
    }

    /// The process has ended: lets go of everything but the log.
    pub(crate) fn release(&mut self) {
        self.close_input();
        self.kept.clear();
    }
}

impl From<bool> for Terminal {
    fn from(present: bool) -> Self {
        if present { Self::Present } else { Self::Absent }
    }
}

fn sink(name: &str) -> Result<Sink, StreamError> {
    if name.is_empty() {
        return Ok(Sink::Nothing);
    }
    if name == KEPT_OUTPUT {
        return Ok(Sink::Kept);
    }
    if let Some(path) = name.strip_prefix(CRI_LOG_SCHEME) {
        return Ok(Sink::Log(PathBuf::from(path)));
    }
    if let Some(path) = name.strip_prefix(FILE_SCHEME) {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
        return open_path(Path::new(path), flags | OFlags::NONBLOCK).map(Sink::File);
    }
    if !name.starts_with('/') {
        return Err(StreamError::Unknown(name.to_owned()));
    }
    let path = Path::new(name);
    // A FIFO opened for both directions needs no partner (fifo(7)); with it open, the process' own end opens at once too.
    let keeper = open_fifo(path)?;
    let writer = open_path(path, OFlags::WRONLY)?;
    Ok(Sink::Fifo { writer, keeper })
}

/// The process' end of a sink; ours goes to `ours`.
fn attach(sink: Sink, stream: Stream, ours: &mut Ends) -> Result<OwnedFd, StreamError> {
    match sink {
        Sink::Nothing => open_path(Path::new("/dev/null"), OFlags::WRONLY),
        Sink::File(file) => Ok(file),
        Sink::Fifo { writer, keeper } => {
            ours.kept.push(keeper);
            Ok(writer)
        }
        Sink::Log(path) => {
            let drain = ours.log_drain(path, stream);
            ours.drained(drain)
        }
        Sink::Kept => {
            let drain = Drain::Fan(ours.fan(), stream);
            ours.drained(drain)
        }
    }
}

fn terminal_drain(sink: Sink, ours: &mut Ends) -> Drain {
    match sink {
        Sink::Nothing => Drain::Nowhere,
        Sink::Log(path) => ours.log_drain(path, Stream::Output),
        Sink::Kept => Drain::Fan(ours.fan(), Stream::Output),
        Sink::File(file) => Drain::Copy(file),
        Sink::Fifo { writer, keeper } => {
            ours.kept.push(keeper);
            Drain::Copy(writer)
        }
    }
}

fn input(name: &str, ours: &mut Ends) -> Result<Option<OwnedFd>, StreamError> {
    if name.is_empty() {
        return Ok(None);
    }
    if name != KEPT_INPUT {
        ours.input_source = Some(open_fifo(Path::new(name))?);
    }
    let (reader, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(StreamError::Pipe)?;
    ours.input = Some(writer);
    Ok(Some(reader))
}

impl Ends {
    /// Where log lines go; both streams of a process go to one log.
    fn log_drain(&mut self, path: PathBuf, stream: Stream) -> Drain {
        let log = self.log.get_or_insert_with(|| Arc::new(Mutex::new(Log::new(path))));
        Drain::Log(Arc::clone(log), self.fan(), stream)
    }

    fn fan(&mut self) -> SharedFan {
        Arc::clone(self.fan.get_or_insert_with(|| Arc::new(Fan::default())))
    }

    /// A pipe that is read here; gives the process' end.
    fn drained(&mut self, drain: Drain) -> Result<OwnedFd, StreamError> {
        let (reader, writer) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(StreamError::Pipe)?;
        self.sources.push((reader, drain));
        Ok(writer)
    }
}

fn open_fifo(path: &Path) -> Result<OwnedFd, StreamError> {
    open_path(path, OFlags::RDWR | OFlags::NONBLOCK)
}

fn open_path(path: &Path, flags: OFlags) -> Result<OwnedFd, StreamError> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640));
    opened.map_err(|source| StreamError::Open { path: path.to_owned(), source })
}
