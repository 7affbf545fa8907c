//! CRIU: which program it is, whether it works here, and the call that dumps a process tree.

use super::CheckpointError;
use cringle_kernel::criu;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Where it is looked for; it finds the host's `tar` and `gzip` there as well.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The name it has there.
const NAME: &str = "criu";
/// Images of older ones lack what newer kernels have; 3.17 does not work on kernels of today.
const OLDEST: (u32, u32) = (4, 1);
/// How long it may take to tell its version or to look at the kernel.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end when it is killed.
const KILLING: Duration = Duration::from_secs(10);
/// The most that is kept of what it says.
const OUTPUT_LIMIT: u64 = 64 << 10;
/// Its log in its working directory.
pub(crate) const LOG: &str = "dump.log";
/// Under this name the image knows the network namespace, which is the pod's.
const NETWORK_NAME: &str = "extRootNetNS";
/// And the PID namespace, where that is the pod's.
const PROCESSES_NAME: &str = "extRootPidNS";

/// A program that was found to work.
#[derive(Debug, Clone)]
pub struct Criu {
    program: PathBuf,
    version: String,
}

/// What there is of it.
pub type Finding = Result<Criu, String>;

/// A dump to be made.
#[derive(Debug)]
pub(crate) struct Dump<'a> {
    /// The first process.
    pub(crate) tree: i32,
    /// Where the images go; it is there.
    pub(crate) images: &'a Path,
    /// Where the log goes.
    pub(crate) work: &'a Path,
    /// The directory of the frozen cgroup, unless the kernel can't freeze.
    pub(crate) freezer: Option<&'a Path>,
    /// What is only named in the images.
    pub(crate) outside: &'a super::outside::Outside,
    /// How long it may take.
    pub(crate) patience: Duration,
}

impl Criu {
    /// Finds the program and has it look at this kernel.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub async fn find(configured: Option<&Path>) -> Finding {
        let program = match configured {
            Some(program) => program.to_owned(),
            None => look_up().ok_or_else(|| {
                format!(
                    "there is no program \"{NAME}\" in {PATH}; install it, or name it in checkpoint.criu"
                )
            })?,
        };
        let told = run(&program, &["--version"]).await?;
        let version = version(&told).ok_or_else(|| {
            format!("\"{}\" does not tell its version: {}", program.display(), criu::last(&told))
        })?;
        if version.1 < OLDEST {
            let program = program.display();
            return Err(format!("\"{program}\" is version {}", version.0));
        }
        run(&program, &["check", "--no-default-config"]).await?;
        Ok(Self { program, version: version.0 })
    }

    /// Its file.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where it finds the programs that it needs.
    pub(crate) fn search_path() -> &'static str {
        PATH
    }

    /// Its version, as it tells it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Dumps a process tree, which goes on, or stays frozen if it was.
    ///
    /// # Errors
    /// It could not be run, was late and is ended then, or what its log says.
    pub(crate) async fn dump(&self, dump: &Dump<'_>) -> Result<(), CheckpointError> {
        let mut child = command(&self.program)
            .args(arguments(dump))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(CheckpointError::file("execute", &self.program))?;
        let status = end_of(&mut child, dump.patience).await;
        match status.map_err(CheckpointError::file("wait for", &self.program))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let (status, said) = (status.to_string(), criu::said(&dump.work.join(LOG)));
                Err(CheckpointError::Criu { status, said })
            }
            None => Err(CheckpointError::Late(dump.patience)),
        }
    }
}

/// The word before the working directory on its command line, by which one is found whose daemon died.
pub(crate) const WORK_WORD: &str = "--work-dir";

/// Its log, its images and its statistics are root's alone: a process' memory is in them.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn arguments(dump: &Dump<'_>) -> Vec<OsString> {
    let seconds = dump.patience.as_secs().max(1).to_string();
    let pid = dump.tree.to_string();
    let mut words: Vec<OsString> =
        ["dump", "--no-default-config", "--tree", &pid, "--leave-running"].map(Into::into).into();
    words.extend(["--images-dir".into(), dump.images.into(), WORK_WORD.into(), dump.work.into()]);
    words.extend(["--log-file", LOG, "-v3", "--timeout", &seconds].map(Into::into));
    // Limits are those of who starts it; locks are state like any other. A terminal's other end is the shim's.
    words.extend(["--manage-cgroups=ignore", "--file-locks", "--shell-job"].map(Into::into));
    // What is made of it has other addresses, so that its connections would be of no use. To keep them, CRIU lets nothing
    // through in the whole network of the pod and turns sockets off: if it is killed then, that stays.
    words.extend(["--tcp-close", "--network-lock", "skip"].map(Into::into));
    if let Some(freezer) = dump.freezer {
        words.extend(["--freeze-cgroup".into(), freezer.into()]);
    }
    let outside = dump.outside;
    let mut external = |word: String| words.extend(["--external".into(), word.into()]);
    external(format!("net[{}]:{NETWORK_NAME}", outside.network));
    if let Some(processes) = outside.processes {
        external(format!("pid[{processes}]:{PROCESSES_NAME}"));
    }
    for mount in &outside.mounts {
        let point = mount.display();
        external(format!("mnt[{point}]:{point}"));
    }
    for file in &outside.files {
        external(file.to_string());
    }
    words
}

/// How it ended; none if it had to be ended.
async fn end_of(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    match tokio::time::timeout(patience, child.wait()).await {
        Ok(status) => status.map(Some),
        Err(_elapsed) => {
            // What it injected gives the processes back when it hears no more of it. One that the kernel holds, in a file
            // system that does not answer, ends when it can.
            match tokio::time::timeout(KILLING, child.kill()).await {
                Ok(killed) => killed.map(|()| None),
                Err(_elapsed) => Ok(None),
            }
        }
    }
}

fn look_up() -> Option<PathBuf> {
    let mut found = PATH.split(':').map(|directory| Path::new(directory).join(NAME));
    found.find(|path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// What it says on both streams.
async fn run(program: &Path, words: &[&str]) -> Result<String, String> {
    let shown = format!("\"{} {}\"", program.display(), words.join(" "));
    let fails = |error: io::Error| format!("failed to execute {shown}: {error}");
    let mut child = command(program)
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fails)?;
    let (mut told, mut complaints) = (Vec::new(), Vec::new());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let hear = async {
        if let (Some(output), Some(errors)) = (output, errors) {
            let heard = tokio::join!(
                async { output.take(OUTPUT_LIMIT).read_to_end(&mut told).await },
                async { errors.take(OUTPUT_LIMIT).read_to_end(&mut complaints).await },
            );
            heard.0.and(heard.1)?;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, hear)
        .await
        .map_err(|_elapsed| format!("{shown} did not end within {PATIENCE:?}"))?
        .map_err(fails)?;
    told.extend(complaints);
    let told = String::from_utf8_lossy(&told).into_owned();
    if status.success() {
        Ok(told)
    } else {
        Err(format!("{shown} ended with {status}: {}", criu::last(&told)))
    }
}

/// `Version: 4.1.1` as text and as numbers.
fn version(told: &str) -> Option<(String, (u32, u32))> {
    let text = told.lines().find_map(|line| line.strip_prefix("Version:"))?.trim();
    let mut numbers = text.split(|one: char| !one.is_ascii_digit()).map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((text.to_owned(), (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::outside::{Outside, OutsideFile};

    fn program(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("criu");
        cringle_store::atomic::replace(&path, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_program_that_is_missing_old_or_unfit_is_told_with_the_reason() {
        let place = tempfile::tempdir().unwrap();
        let absent = Criu::find(Some(&place.path().join("none"))).await.unwrap_err();
        assert!(absent.contains("failed to execute"), "{absent}");
        for (script, word) in [
            ("echo Version: 3.17.1", "is version 3.17.1"),
            ("echo hello", "does not tell its version: hello"),
            (
                "[ $1 = --version ] && echo Version: 4.1.1 && exit; echo no ptrace >&2; exit 1",
                "no ptrace",
            ),
        ] {
            let found = Criu::find(Some(&program(place.path(), script))).await.unwrap_err();
            assert!(found.contains(word), "{script}: {found}");
        }
        let fit = program(place.path(), "[ $1 = --version ] && echo Version: 10.0; exit 0");
        assert_eq!(Criu::find(Some(&fit)).await.unwrap().version(), "10.0");
    }

    #[test]
    fn what_is_not_the_containers_is_named_in_the_call() {
        let outside = Outside {
            network: 7,
            processes: Some(9),
            mounts: vec!["/etc/hosts".into()],
            files: vec![OutsideFile { mount: 58, inode: 18 }],
            streams: Vec::new(),
            stream_names: Vec::new(),
        };
        let dump = Dump {
            tree: 42,
            images: Path::new("/w/checkpoint"),
            work: Path::new("/w"),
            freezer: Some(Path::new("/c")),
            outside: &outside,
            patience: Duration::from_secs(5),
        };
        let words: Vec<_> =
            arguments(&dump).into_iter().map(|word| word.into_string().unwrap()).collect();
        let line = words.join(" ");
        for part in [
            "--tree 42",
            "--leave-running",
            "--freeze-cgroup /c",
            "--external net[7]:extRootNetNS",
            "--external pid[9]:extRootPidNS",
            "--external mnt[/etc/hosts]:/etc/hosts",
            "--external file[3a:12]",
            "--work-dir /w",
            "--timeout 5",
            "--tcp-close --network-lock skip",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
