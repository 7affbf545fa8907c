//! A container whose processes are made of a checkpoint, by CRIU, instead of being begun.
//!
//! ```text
//!  plan --clone3--> child prepares all that a container has but processes --Ready--> waits --Go--> becomes CRIU
//!                                                     CRIU: processes, siblings of it, stopped --> ends
//!                     verify: are they what the specification allows? --> Created, at a gate of SIGSTOP
//! ```
//! The child is in the container's cgroup and namespaces, but for mounts and process ids: those CRIU makes. The mounts stand
//! as the specification wants them, and CRIU takes from there what comes from outside; all others it makes as they were.
//!
//! The images are foreign: they say which credentials, filters, limits and mounts the processes have. So nothing of it runs
//! before [`verify`] has compared that with what was asked for, and nothing is left if it differs.

mod filters;
mod model;
mod refuge;
mod shared;
mod verify;
mod wire;

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cringle_kernel::cgroup::Cgroup;
use cringle_kernel::clone::Born;
use cringle_kernel::namespace::Namespaces;
use cringle_kernel::process::{self, Exit, Texts};
use cringle_kernel::{criu, mountinfo, proc};
use cringle_proto_shim::record::{
    RESTORE_FILE, RESTORE_IMAGES, RESTORE_WORK, RestoreRecord, VERSION,
};
use rustix::fs::OFlags;
use rustix::io::FdFlags;

use super::child::{self, Given};
use super::create::{cgroup as of_cgroup, end, how};
use super::error::{Attempting as _, EngineError, Result};
use super::hooks::Moment;
use super::mounts::What;
use super::plan::Plan;
use super::process::{ProcessPlan, Role, join_keyring};
use super::sync::{End, Heard};
use super::{Stdio, devices, rootfs};
use model::Model;
use shared::NETWORK;

/// CRIU's log in its directory.
const LOG: &str = "restore.log";
/// The file there that it writes the first process' id to.
const PID: &str = "pid";
/// Under this name images know a PID namespace that is not their container's own.
const PROCESSES: &str = "extRootPidNS";

/// A restoration, decided.
#[derive(Debug)]
pub(super) struct Restore {
    directory: PathBuf,
    program: PathBuf,
    environment: Texts,
    streams: [String; 3],
    /// Namespaces that are joined by path: the word for the kind, and the path.
    joined: Vec<(&'static str, PathBuf)>,
}

impl Restore {
    /// Decides how to restore from a directory.
    ///
    /// # Errors
    /// The container is one that can't be restored, or the directory makes no sense.
    pub(super) fn new(directory: &Path, plan: &Plan, stdio: &Stdio) -> Result<Self> {
        refuse_unsupported(plan, stdio)?;
        let path = directory.join(RESTORE_FILE);
        let text = std::fs::read(&path)
            .map_err(|source| EngineError::Read { path: path.clone(), source })?;
        let record: RestoreRecord =
            serde_json::from_slice(&text).map_err(|source| EngineError::Parse { path, source })?;
        if record.version != VERSION {
            let problem = format!("it is {} and should be {VERSION}", record.version);
            return Err(EngineError::invalid("version of restore.json", problem));
        }
        filters::require(&directory.join(RESTORE_IMAGES), plan.bounds.filter.as_ref())?;
        let words = [(Namespaces::IPC, "ipc"), (Namespaces::UTS, "uts")];
        let word = |kind| words.into_iter().find(|(known, _)| *known == kind);
        let joined = plan.namespaces.joined.iter();
        Ok(Self {
            directory: directory.to_owned(),
            program: record.program,
            environment: Texts::new([format!("PATH={}", record.path)])
                .attempting(|| "make CRIU's environment".to_owned())?,
            streams: record.streams,
            joined: joined
                .filter_map(|(kind, path)| Some((word(*kind)?.1, path.clone())))
                .collect(),
        })
    }

    /// The life of the child that becomes CRIU. The answer is its exit code, if it does not.
    pub(super) fn life(&self, plan: &Plan, given: &Given) -> i32 {
        let prepared = self.prepare(plan, given).and_then(|words| {
            given.sync.ready(None)?;
            Ok(words)
        });
        let (program, arguments, _passed) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                given.sync.fail(&error);
                process::quit(1);
            }
        };
        if !given.sync.may_go() {
            process::quit(1);
        }
        let source = process::execute(&program, &arguments, &self.environment);
        let attempt = format!("execute {:?}", self.program);
        given.sync.fail(&EngineError::Attempt { attempt, source });
        process::quit(1)
    }

    fn prepare(&self, plan: &Plan, given: &Given) -> Result<(CString, Texts, Vec<OwnedFd>)> {
        let (root, _) = child::prepare(plan, given)?;
        rootfs::close(&plan.root, &root)?;
        ProcessPlan::own_pipes(&given.stdio, given.owner)?;
        join_keyring()?;
        shared::keep(&self.directory.join(RESTORE_IMAGES), &given.joined)?;
        let mut words = self.words(&plan.root.stand);
        for point in outside(plan)? {
            let place = plan.root.stand.join(point.strip_prefix("/").unwrap_or(&point));
            words.push("--external".into());
            words.push(format!("mnt[{}]:{}", point.display(), place.display()));
        }
        let passed = self.pass(given, &mut words)?;
        let attempt = || "give CRIU its streams".to_owned();
        let null = devices::open_null(OFlags::RDWR)?;
        rustix::stdio::dup2_stdin(&null).attempting(attempt)?;
        rustix::stdio::dup2_stdout(&null).attempting(attempt)?;
        rustix::stdio::dup2_stderr(&null).attempting(attempt)?;
        let work = self.directory.join(RESTORE_WORK);
        refuge::close(&plan.root.stand, &work, &[&plan.root.stand, &work, &self.program])?;
        let words = Texts::new(words).attempting(|| "call CRIU".to_owned())?;
        let program = CString::new(self.program.as_os_str().as_bytes())
            .map_err(|_nul| EngineError::invalid(RESTORE_FILE, "it has a NUL byte in it"))?;
        Ok((program, words, passed))
    }

    /// What it is given open, and the words that say so.
    fn pass(&self, given: &Given, words: &mut Vec<String>) -> Result<Vec<OwnedFd>> {
        let mut passed = Vec::new();
        let mut pass = |name: &str, descriptor: &OwnedFd| -> Result<()> {
            let kept = inherited(descriptor)?;
            words.push("--inherit-fd".into());
            words.push(format!("fd[{}]:{name}", kept.as_raw_fd()));
            passed.push(kept);
            Ok(())
        };
        for (kind, namespace) in &given.joined.others {
            if *kind == Namespaces::NETWORK {
                pass(NETWORK, namespace)?;
            }
        }
        if let Some(namespace) = &given.joined.pid {
            pass(PROCESSES, namespace)?;
        }
        if let Stdio::Pipes { stdin: Some(stdin), stdout, stderr } = &given.stdio {
            for (name, stream) in self.streams.iter().zip([stdin, stdout, stderr]) {
                if !name.is_empty() {
                    pass(name, stream)?;
                }
            }
        }
        Ok(passed)
    }

    /// What it is called with, but for what is passed to it open.
    fn words(&self, root: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let work = self.directory.join(RESTORE_WORK);
        let flags = [
            "--restore-detached",
            "--restore-sibling",
            "--leave-stopped",
            "--manage-cgroups=ignore",
            "--file-locks",
            "--tcp-close",
        ];
        let named = [
            ("--images-dir", text(&self.directory.join(RESTORE_IMAGES))),
            ("--work-dir", text(&work)),
            ("--log-file", LOG.to_owned()),
            ("--pidfile", text(&work.join(PID))),
            ("--root", text(root)),
        ];
        let mut words: Vec<String> = ["criu", "restore", "--no-default-config", "-v2"]
            .into_iter()
            .chain(flags)
            .map(str::to_owned)
            .collect();
        words.extend(named.into_iter().flat_map(|(word, value)| [word.to_owned(), value]));
        for (kind, path) in &self.joined {
            words.extend(["--join-ns".to_owned(), format!("{kind}:{}", path.display())]);
        }
        words
    }

    /// Lets the child that has prepared everything become CRIU, and waits for what comes of it: the container's first
    /// process, which is stopped like all others.
    ///
    /// # Errors
    /// Why it is not there. What is left of it is in the container's cgroup.
    pub(super) fn carry_out(
        &self,
        plan: &Plan,
        (sync, born): (&End, &Born),
        cgroup: &Cgroup,
    ) -> Result<Born> {
        let model = Model::of(born.pid, plan)?;
        sync.go()?;
        match sync.hear()? {
            Heard::Closed => {}
            Heard::Ready(_) | Heard::Paused => return Err(EngineError::Phase("ready twice")),
        }
        let ended = process::wait(&born.pidfd).attempting(|| "wait for CRIU".to_owned())?;
        if ended != Exit::Code(0) {
            let said = criu::said(&self.directory.join(RESTORE_WORK).join(LOG));
            return Err(EngineError::Restore(format!("criu ended {}: {said}", how(Some(ended)))));
        }
        let init = self.init()?;
        if let Err(error) = verify::verify(&model, &init, (plan, cgroup)) {
            // It may be somewhere else than where all others will be looked for.
            end(&init.pidfd)?;
            return Err(error);
        }
        Ok(init)
    }

    fn init(&self) -> Result<Born> {
        let path = self.directory.join(RESTORE_WORK).join(PID);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| EngineError::Read { path: path.clone(), source })?;
        let pid = text.trim().parse().unwrap_or_default();
        let pidfd = process::open(pid).attempting(|| format!("open process {text:?}"))?;
        let found = proc::stat(pid).attempting(|| "look at the first process".to_owned())?;
        if found.parent != rustix::process::getpid().as_raw_pid() {
            return Err(EngineError::Restore(format!("process {pid} is not a child of the shim")));
        }
        Ok(Born { pid, pidfd })
    }
}

/// Lets the processes of a container that was restored go on.
///
/// # Errors
/// The kernel refused.
pub(super) fn resume(cgroup: &Cgroup) -> Result<()> {
    let pids = cgroup.pids().map_err(of_cgroup("list the container's processes"))?;
    let opened = pids.iter().filter_map(|pid| process::open(i32::try_from(*pid).ok()?).ok());
    // All of them are opened before one of them runs, which could end others.
    let opened: Vec<OwnedFd> = opened.collect();
    let signal = rustix::process::Signal::CONT.as_raw();
    opened.iter().try_for_each(|one| {
        process::signal(one, signal).attempting(|| "let a restored process go on".to_owned())
    })
}

/// Nothing that was asked for is left out silently.
fn refuse_unsupported(plan: &Plan, stdio: &Stdio) -> Result<()> {
    let asked = [
        ("a terminal of a container that is restored", matches!(stdio, Stdio::Terminal)),
        ("a user namespace of a container that is restored", plan.namespaces.users.is_some()),
        (
            "a startContainer hook of a container that is restored",
            plan.hooks.has(&[Moment::StartContainer]),
        ),
        ("a reaper that is restored", plan.process.role == Role::Reaper),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(EngineError::Unsupported((*what).to_owned())),
        None => Ok(()),
    }
}

/// Child-side: the mounts below the container's root that come from outside, by their place in it. Whatever shows processes
/// or cgroups is made anew, for here it shows those of the host; unless the container is to have those.
fn outside(plan: &Plan) -> Result<Vec<PathBuf>> {
    const OWN: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];
    let mounts = mountinfo::own().attempting(|| "list the container's mounts".to_owned())?;
    let below = mounts.iter().filter_map(|mount| {
        let point = mount.point.strip_prefix(&plan.root.stand).ok()?;
        Some((mount, Path::new("/").join(point)))
    });
    let is_asked_for = |point: &Path| {
        let bound = plan.mounts.iter().filter(|one| matches!(one.what, What::Bind { .. }));
        bound.into_iter().any(|one| point.starts_with(&one.destination))
    };
    let outside = below.filter(|(mount, point)| {
        point != Path::new("/") && (is_asked_for(point) || !OWN.contains(&mount.kind.as_str()))
    });
    Ok(outside.map(|(_, point)| point).collect())
}

/// Child-side: a copy of a descriptor that outlives `execve`.
fn inherited(descriptor: &OwnedFd) -> Result<OwnedFd> {
    /// Above those that a program may think are its own.
    const LOWEST: i32 = 20;
    let attempt = || "pass a descriptor to CRIU".to_owned();
    let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, LOWEST).attempting(attempt)?;
    rustix::io::fcntl_setfd(&copy, FdFlags::empty()).attempting(attempt)?;
    Ok(copy)
}
