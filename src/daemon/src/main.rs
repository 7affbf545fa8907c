//! cringle, a container runtime for Kubernetes: the daemon.
//!
//! [`cli`] says what it is called for, [`config`] how it is to be, [`wire`] puts it together and starts it in order, and
//! [`rpc`] speaks to clients.

mod check;
mod cli;
mod config;
mod rpc;
mod wire;

mod listen;
mod nri;
mod prometheus;
mod shutdown;
mod telemetry;
mod watchdog;

use clap::Parser;
use cli::{Check, Cli, Command, Config, DEFAULT_CONFIG, Serve};
use config::{ConfigError, Settings};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Why the program ends with a failure.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("failed to print")]
    Print(#[source] std::io::Error),
    #[error("failed to limit what the heap keeps")]
    Memory(#[source] cringle_kernel::error::SystemError),
    #[error("failed to keep inherited descriptors from programs")]
    Inherited(#[source] cringle_kernel::error::SystemError),
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error("failed to start the threads")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Serve(#[from] wire::ServeError),
}

fn main() -> ExitCode {
    // The worker gets descriptors in place of a command line, and nothing of the daemon's.
    if std::env::args_os().nth(1).is_some_and(|word| word == "unpack") {
        return cringle_image::unpack::worker_main();
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let line = format!("cringle: {}\n", cringle_service::error::chain(&error));
            // There is nowhere else to say it.
            drop(std::io::stderr().write_all(line.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, MainError> {
    match command {
        Command::Serve(serve) => self::serve(serve)?,
        Command::Check(check) => return self::check(&check),
        Command::Config(Config::Default) => print(&config::defaults())?,
        Command::Config(Config::Check { file }) => drop(config::load(&file)?),
        Command::Version => print(concat!("cringle ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(check: &Check) -> Result<ExitCode, MainError> {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let settings = settings(check.config.as_deref());
    let beside = wire::own_directory()?;
    let report = threads.map_err(MainError::Threads)?.block_on(check::run(settings, &beside));
    print(&report.text(if check.json { check::Form::Json } else { check::Form::Table }))?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve(serve: Serve) -> Result<(), MainError> {
    // Before there is a second thread or a program: no shim shall hold open what whoever started us forgot to close.
    cringle_kernel::inherited::keep_from_programs().map_err(MainError::Inherited)?;
    cringle_kernel::memory::be_frugal().map_err(MainError::Memory)?;
    let mut settings = settings(serve.config.as_deref())?;
    if let Some(level) = serve.log_level {
        settings.log.level = level;
    }
    if let Some(socket) = serve.socket {
        settings.daemon.socket = config::absolute(&socket)?;
    }
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.daemon.worker_threads.get().into())
        .enable_all()
        .build()
        .map_err(MainError::Threads)?;
    let inside = threads.enter();
    let telemetry = telemetry::start(&settings)?;
    drop(inside);
    let served = threads.block_on(wire::serve(&settings));
    telemetry.end();
    Ok(served?)
}

fn settings(path: Option<&Path>) -> Result<Settings, ConfigError> {
    match path {
        Some(path) => config::load(path),
        None if Path::new(DEFAULT_CONFIG).exists() => config::load(Path::new(DEFAULT_CONFIG)),
        None => config::load_defaults(),
    }
}

fn print(text: &str) -> Result<(), MainError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(MainError::Print)
}
