//! A process of a container: everything about it decided, and the straight line from a prepared child to `execve`.

mod allowed;

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cringle_kernel::capability::CapabilitySets;
use cringle_kernel::credential;
use cringle_kernel::error::SystemError;
use cringle_kernel::process::{self, Texts};
use cringle_kernel::rlimit::{self, LimitPair, LimitedResource};
use cringle_kernel::terminal::{self, Size, Terminal};
use oci_spec::runtime::Process;
use rustix::fs::{FileType, Uid};
use rustix::io::Errno;

use super::Stdio;
use super::bounds::Bounds;
use super::error::{Attempting as _, EngineError, Result};
use super::home;
use super::namespaces::UserPlan;
use super::priority::Priorities;
use super::security::{self, Privileges};
use super::sync::End;

/// What a process becomes when it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The program that its arguments name.
    Program,
    /// The reaper of a PID namespace, which is no program.
    Reaper,
}

/// A process, decided.
#[derive(Debug)]
pub(super) struct ProcessPlan {
    /// What it becomes.
    pub role: Role,
    arguments: Texts,
    environment: Texts,
    /// Where to look for the program, in this order.
    candidates: Vec<CString>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Its user, inside.
    pub user: u32,
    group: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: CapabilitySets,
    limits: Vec<(LimitedResource, LimitPair)>,
    priorities: Priorities,
    privileges: Privileges,
    oom_score: Option<i32>,
    bounds: Arc<Bounds>,
    /// The size of its terminal, if it has one and the size is known.
    window: Option<Size>,
}

/// Where a program without "/" in its name is looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The umask if none is asked for.
const DEFAULT_UMASK: u32 = 0o022;

/// Plans a process of a container with these bounds: its init, or another one.
///
/// # Errors
/// A field that makes no sense or is not supported.
pub(super) fn plan(process: &Process, bounds: &Arc<Bounds>) -> Result<ProcessPlan> {
    security::refuse_unsupported(process)?;
    let arguments = process.args().as_deref().unwrap_or_default();
    let environment = process.env().as_deref().unwrap_or_default();
    let Some(program) = arguments.first().filter(|program| !program.is_empty()) else {
        return Err(EngineError::invalid("process.args", "it names no program"));
    };
    if !process.cwd().is_absolute() {
        let problem = format!("{:?} is not absolute", process.cwd());
        return Err(EngineError::invalid("process.cwd", problem));
    }
    let user = process.user();
    Ok(ProcessPlan {
        role: Role::Program,
        arguments: texts(arguments, "process.args")?,
        environment: texts(environment, "process.env")?,
        candidates: candidates(program, environment)?,
        directory: process.cwd().clone(),
        user: user.uid(),
        group: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(DEFAULT_UMASK),
        capabilities: security::capabilities(process.capabilities().as_ref())?,
        limits: limits(process)?,
        priorities: Priorities::of(process)?,
        privileges: Privileges::of(process),
        oom_score: process.oom_score_adj(),
        bounds: Arc::clone(bounds),
        window: process.console_size().map(|size| Size {
            rows: u16::try_from(size.height()).unwrap_or_default(),
            columns: u16::try_from(size.width()).unwrap_or_default(),
        }),
    })
}

/// The user outside for one inside.
///
/// # Errors
/// The user namespace does not map it.
pub(super) fn owner(user: u32, users: Option<&UserPlan>) -> Result<u32> {
    let Some(users) = users else { return Ok(user) };
    users.mappings.user_outside(user).ok_or_else(|| {
        EngineError::invalid("process.user.uid", format!("{user} is not in the user namespace"))
    })
}

fn texts(texts: &[String], field: &str) -> Result<Texts> {
    Texts::new(texts.iter().map(String::as_str))
        .map_err(|_nul| EngineError::invalid(field, "it has a NUL byte in it"))
}

/// The paths at which the program may be, by the container's own `PATH`.
fn candidates(program: &str, environment: &[String]) -> Result<Vec<CString>> {
    let text = |path: &OsStr| {
        let nul = |_nul| EngineError::invalid("process.args", "it has a NUL byte in it");
        CString::new(path.as_bytes()).map_err(nul)
    };
    if program.contains('/') {
        return Ok(vec![text(program.as_ref())?]);
    }
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(':');
    // An empty entry means the working directory, by tradition.
    directories
        .map(|directory| if directory.is_empty() { Path::new(".") } else { Path::new(directory) })
        .map(|directory| text(directory.join(program).as_os_str()))
        .collect()
}

fn limits(process: &Process) -> Result<Vec<(LimitedResource, LimitPair)>> {
    let mut limits: Vec<(LimitedResource, LimitPair)> = Vec::new();
    for asked in process.rlimits().iter().flatten() {
        let name = asked.typ().to_string();
        let Some(resource) = LimitedResource::from_name(&name) else {
            return Err(EngineError::invalid("process.rlimits", format!("{name:?} is not known")));
        };
        if limits.iter().any(|(known, _)| *known == resource) {
            return Err(EngineError::invalid(
                "process.rlimits",
                format!("{name:?} is there twice"),
            ));
        }
        limits.push((resource, LimitPair { soft: asked.soft(), hard: asked.hard() }));
    }
    Ok(limits)
}

impl ProcessPlan {
    /// Child-side, first of all: forgets the parent's signals, and sets what needs the host's `/proc`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn begin(&self) -> Result<()> {
        process::reset_signals().attempting(|| "reset signals".to_owned())?;
        match self.oom_score {
            Some(score) => set_oom_score(score),
            None => Ok(()),
        }
    }

    /// Child-side, before a user namespace is entered, from within which hard limits can't be raised: raises them.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn raise_limits(&self) -> Result<()> {
        for &(resource, pair) in &self.limits {
            let own = rlimit::get(resource);
            rlimit::set(resource, LimitPair { hard: own.hard.max(pair.hard), ..own })
                .map(drop)
                .attempting(|| format!("raise resource limit {resource:?}"))?;
        }
        Ok(())
    }

    /// Child-side, before a user namespace is entered, from within which they can't be given away: lets `owner`, who is the
    /// process' user outside, open its streams again.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn own_pipes(stdio: &Stdio, owner: u32) -> Result<()> {
        let Stdio::Pipes { stdin, stdout, stderr } = stdio else { return Ok(()) };
        for stream in stdin.iter().chain([stdout, stderr]) {
            Self::own(stream, owner).attempting(|| "set standard streams".to_owned())?;
        }
        Ok(())
    }

    /// Child-side: becomes the leader of a session on these streams. `terminal` is one that was made inside the container;
    /// `owner` is the process' user where this is called.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn take_streams(
        &self,
        stdio: Stdio,
        terminal: Option<Terminal>,
        owner: u32,
    ) -> Result<Option<OwnedFd>> {
        let attempt = || "set standard streams".to_owned();
        rustix::process::setsid().attempting(attempt)?;
        let (stdin, stdout, stderr, master) = match (stdio, terminal) {
            (Stdio::Pipes { stdin: Some(stdin), stdout, stderr }, _) => {
                (stdin, stdout, stderr, None)
            }
            (Stdio::Pipes { stdin: None, .. }, _) => {
                return Err(EngineError::Unsupported(
                    "a process without standard input".to_owned(),
                ));
            }
            (Stdio::Terminal, Some(Terminal { master, slave })) => {
                if let Some(size) = self.window {
                    terminal::resize(&master, size).attempting(attempt)?;
                }
                terminal::control(&slave).attempting(attempt)?;
                let copy =
                    |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).attempting(attempt);
                (copy(&slave)?, copy(&slave)?, slave, Some(master))
            }
            (Stdio::Terminal, None) => {
                return Err(EngineError::Unsupported("no terminal".to_owned()));
            }
        };
        for stream in [&stdin, &stdout, &stderr] {
            Self::own(stream, owner).attempting(attempt)?;
        }
        // None of these numbers is above two when it is the wrong one: they were made by a parent that has all three open.
        rustix::stdio::dup2_stdin(&stdin).attempting(attempt)?;
        rustix::stdio::dup2_stdout(&stdout).attempting(attempt)?;
        rustix::stdio::dup2_stderr(&stderr).attempting(attempt)?;
        Ok(master)
    }

    /// Lets the process' user open its streams again by `/dev/stdout` and the like.
    fn own(stream: &OwnedFd, owner: u32) -> std::result::Result<(), Errno> {
        let status = rustix::fs::fstat(stream)?;
        let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == rustix::fs::makedev(1, 3);
        if is_null || status.st_uid == owner {
            return Ok(());
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(owner)), None) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Child-side, last of all: becomes the program. It returns only if it could not, with the reason told to the parent, and
    /// the process is to end then without letting go of anything.
    pub(super) fn become_program(&self, sync: End) -> i32 {
        // From here on there are the three streams and the socket, and nothing a path through /proc/self/fd could lead to.
        let sync = match process::keep_only(sync.into_descriptor()) {
            Ok(kept) => End::from_descriptor(kept),
            Err(_no_descriptor) => process::quit(FAILED),
        };
        let error = match self.change_identity() {
            Ok(()) if self.role == Role::Reaper => {
                // Closing the socket is how the parent hears that we have begun.
                process::quit(crate::reaper::run(|| drop(sync)))
            }
            Ok(()) => self.execute(),
            Err(error) => error,
        };
        sync.fail(&error);
        process::quit(FAILED)
    }

    /// Child-side: takes on the process' user, limits and confinement.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn change_identity(&self) -> Result<()> {
        join_keyring()?;
        for &(resource, pair) in &self.limits {
            rlimit::set(resource, pair)
                .map(drop)
                .attempting(|| format!("set resource limit {resource:?}"))?;
        }
        self.priorities.take_on()?;
        if let Some(memory) = &self.bounds.memory {
            memory.take_on()?;
        }
        if let Some(persona) = self.bounds.personality {
            process::set_personality(persona).attempting(|| "set the personality".to_owned())?;
        }
        let attempt = || format!("become user {} and group {}", self.user, self.group);
        credential::set_umask(self.umask);
        self.capabilities.before_identity_change().attempting(attempt)?;
        // The directory may be one that only root may enter, or (on a file server) one that only the user may.
        let entered = rustix::process::chdir(&self.directory);
        credential::become_user(self.user, self.group, &self.groups).attempting(attempt)?;
        let entered = match entered {
            Err(Errno::ACCESS | Errno::PERM) => rustix::process::chdir(&self.directory),
            other => other,
        };
        entered.attempting(|| format!("enter working directory {:?}", self.directory))?;
        check_directory(&self.directory)?;
        security::confine(self.privileges, self.capabilities, self.bounds.filter.as_ref())
    }

    fn execute(&self) -> EngineError {
        let searched =
            self.arguments.as_slice().first().is_some_and(|name| !name.to_bytes().contains(&b'/'));
        let with_home = home::missing(self.environment.as_slice(), self.user)
            .map(|home| self.environment.with(home));
        let environment = with_home.as_ref().unwrap_or(&self.environment);
        let mut denied = None;
        for path in &self.candidates {
            let error = process::execute(path, &self.arguments, environment);
            match error.errno().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::NOTDIR) if searched => {}
                Some(Errno::ACCESS) if searched => denied = denied.or(Some(error)),
                Some(_) | None => return self.not_executed(error, Some(path)),
            }
        }
        let missing = || SystemError::new("execve", "", Errno::NOENT);
        let reason = denied.unwrap_or_else(missing);
        self.not_executed(reason, None)
    }

    /// Says what is missing: the program, or the interpreter it names.
    fn not_executed(&self, error: SystemError, path: Option<&CString>) -> EngineError {
        let program = self.arguments.as_slice().first();
        let program = program.map(|name| name.to_string_lossy()).unwrap_or_default();
        let missing = error.errno() == Some(Errno::NOENT.raw_os_error());
        let hint = match path {
            None if missing => ": executable file not found in $PATH",
            Some(path) if missing && rustix::fs::stat(path.as_c_str()).is_ok() => {
                ": it is there, but the interpreter it names is not"
            }
            Some(_) | None => "",
        };
        let source = SystemError::new("execve", "", error.source);
        EngineError::Attempt { attempt: format!("exec {program:?}{hint}"), source }
    }
}

/// The exit code of a child that did not become its program; nobody sees it but `wait`.
const FAILED: i32 = 127;

/// Lowering the score takes a privilege that a nested host withholds; the own score is the nearest there is then.
fn set_oom_score(score: i32) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let attempt = || format!("set oom_score_adj to {score}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file =
        rustix::fs::open("/proc/self/oom_score_adj", flags, Mode::empty()).attempting(attempt)?;
    match rustix::io::write(&file, score.to_string().as_bytes()) {
        Ok(_) | Err(Errno::ACCESS | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).attempting(attempt),
    }
}

/// Child-side: takes a session keyring of its own.
///
/// # Errors
/// The kernel refused.
pub(super) fn join_keyring() -> Result<()> {
    process::join_session_keyring()
        .or_else(ignore_quota)
        .attempting(|| "make a session keyring".to_owned())
}

/// A user whose key quota is used up gets no keyring of its own; one of the same user is then shared, as on any login.
fn ignore_quota(error: SystemError) -> std::result::Result<(), SystemError> {
    match error.errno().map(Errno::from_raw_os_error) {
        Some(Errno::DQUOT | Errno::PERM) => Ok(()),
        Some(_) | None => Err(error),
    }
}

/// The working directory must be below the root: a path through an open descriptor, or one moved away meanwhile, is not.
fn check_directory(path: &Path) -> Result<()> {
    let attempt = || format!("enter working directory {path:?}");
    let current = rustix::process::getcwd(Vec::new()).attempting(attempt)?;
    if current.to_bytes().first() == Some(&b'/') {
        return Ok(());
    }
    let source = SystemError::new("getcwd", "outside the container", Errno::PERM);
    Err(EngineError::Attempt { attempt: attempt(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(json: &str) -> Result<ProcessPlan> {
        let bounds =
            Arc::new(Bounds { filter: None, personality: None, users: None, memory: None });
        plan(&serde_json::from_str(json).unwrap(), &bounds)
    }

    fn paths(plan: &ProcessPlan) -> Vec<&str> {
        plan.candidates.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn a_program_is_looked_for_where_the_containers_own_path_says() {
        let json =
            r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"],"env":["A=1","PATH=/a::/b"]}"#;
        assert_eq!(paths(&parse(json).unwrap()), ["/a/sh", "./sh", "/b/sh"]);
        let json = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["bin/sh"]}"#;
        assert_eq!(paths(&parse(json).unwrap()), ["bin/sh"]);
    }

    #[test]
    fn a_process_that_makes_no_sense_is_refused() {
        for fields in [
            r#""cwd":"/","args":[]"#,
            r#""cwd":"/","args":[""]"#,
            r#""cwd":"tmp","args":["sh"]"#,
            r#""cwd":"/","args":["s\u0000h"]"#,
            r#""cwd":"/","args":["sh"],"rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":0},{"type":"RLIMIT_CORE","soft":1,"hard":1}]"#,
        ] {
            let json = format!(r#"{{"user":{{"uid":0,"gid":0}},{fields}}}"#);
            assert!(parse(&json).is_err(), "{fields}");
        }
    }
}
