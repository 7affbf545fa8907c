//! The child's half: a straight line from the moment it is cloned to the program it becomes. It reports on its socket and never
//! returns into anything of the parent.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use cringle_kernel::cgroup;
use cringle_kernel::credential;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::path::Root;
use cringle_kernel::process;
use cringle_kernel::sysctl;
use cringle_kernel::terminal::{self, Terminal};

use super::cgroups::CgroupMount;
use super::create::OUTSIDE;
use super::error::{Attempting as _, EngineError, Result};
use super::hooks::{self, Moment};
use super::idmaps::{IdMaps, Layers};
use super::namespaces::Joined;
use super::plan::Plan;
use super::process::ProcessPlan;
use super::sync::End;
use super::{Stdio, devices, gate, mounts, namespaces, rootfs};

/// What an init is given besides its plan.
#[derive(Debug)]
pub(super) struct Given {
    /// Its end of the conversation.
    pub sync: End,
    /// The cgroups to enter (version 1).
    pub tasks: Vec<OwnedFd>,
    /// The cgroups to show.
    pub cgroups: Vec<CgroupMount>,
    /// The namespaces to join.
    pub joined: Joined,
    /// What its mounts get their ids by.
    pub maps: IdMaps,
    /// Its user outside, whose its streams are to be.
    pub owner: u32,
    /// Its streams.
    pub stdio: Stdio,
    /// Where it waits, if not for its parent.
    pub gate: Option<OwnedFd>,
}

/// The life of a container's init. The answer is its exit code, if it does not become its program.
pub(super) fn init(plan: &Plan, given: Given) -> i32 {
    let prepared = prepare(plan, &given).and_then(|(root, terminal)| {
        rootfs::enter(&plan.root, &root)?;
        Ok(terminal)
    });
    let Given { sync, joined, owner, stdio, gate, .. } = given;
    let prepared = prepared.and_then(|terminal| {
        let master = plan.process.take_streams(stdio, terminal, owner)?;
        if let Some(users) = &joined.users {
            plan.process.raise_limits()?;
            namespaces::enter_users(users.as_fd(), plan.namespaces.new)?;
        }
        sync.ready(master.as_ref().map(|master| master.as_fd()))
    });
    if let Err(error) = prepared {
        sync.fail(&error);
        process::quit(1);
    }
    let sync = match gate {
        Some(gate) => {
            // Whoever opens the gate is who hears what becomes of it.
            drop(sync);
            gate::pass(&gate)
        }
        // If whoever cloned us is gone, nobody would ever open the gate, or reap us.
        None => sync.may_go().then_some(sync),
    };
    let Some(sync) = sync else { process::quit(1) };
    // Its program is the container's, so it gets no more power than the container's.
    let confined = || plan.process.change_identity();
    if let Err(error) =
        plan.hooks.run(Moment::StartContainer, own_pid(), hooks::end_at_start(), confined)
    {
        sync.fail(&error);
        process::quit(1);
    }
    plan.process.become_program(sync)
}

/// All this is done as the host's root, also for a container with a user namespace: only its root may mount and make devices
/// everywhere. What is made belongs to the container's root from the first moment.
///
/// # Errors
/// The call that failed.
pub(super) fn prepare(plan: &Plan, given: &Given) -> Result<(Root, Option<Terminal>)> {
    let Given { sync, tasks, cgroups, joined, maps, stdio, .. } = given;
    credential::set_umask(0);
    cgroup::enter(tasks).attempting(|| "enter the container's cgroup".to_owned())?;
    plan.process.begin()?;
    namespaces::enter(joined, plan.namespaces.new)?;
    if let Some(name) = &plan.host_name {
        process::set_host_name(name.as_bytes()).attempting(|| format!("set host name {name:?}"))?;
    }
    if let Some(name) = &plan.domain_name {
        process::set_domain_name(name.as_bytes())
            .attempting(|| format!("set domain name {name:?}"))?;
    }
    let mut layers = Layers::new(maps);
    let sources = || mounts::open_sources(&plan.mounts);
    let (root, sources) = rootfs::raise(&plan.root, &mut layers, sources)?;
    if let Some(users) = &plan.namespaces.users {
        let (user, group) = users.root;
        credential::own_what_is_made(user, group)
            .attempting(|| "make files as the root of the user namespace".to_owned())?;
    }
    for (mount, source) in plan.mounts.iter().zip(sources) {
        mounts::make(mount, source, &root, (cgroups, &mut layers))?;
    }
    devices::furnish(&plan.devices, &root)?;
    let terminal = match stdio {
        Stdio::Terminal => Some(open_terminal(&root)?),
        Stdio::Pipes { .. } => None,
    };
    if let Some(terminal) = &terminal {
        devices::set_console(&root, terminal)?;
    }
    // Through the host's procfs, which the container could not have put anything over: parameters are those of the caller's
    // namespaces, wherever they are written.
    for (name, value) in &plan.sysctls {
        sysctl::write(name, value).attempting(|| format!("set sysctl {name:?} to {value:?}"))?;
    }
    rootfs::make_working_directory(&root, &plan.process.directory)?;
    devices::protect(&root, &plan.read_only)?;
    devices::hide(&root, &plan.masked)?;
    run_hooks(plan, sync)?;
    Ok((root, terminal))
}

/// The hooks of the creation. The host's files are still there, and the container's root can still be written.
fn run_hooks(plan: &Plan, sync: &End) -> Result<()> {
    if plan.hooks.has(&OUTSIDE) {
        sync.pause()?;
        if !sync.may_go() {
            return Err(EngineError::Phase("given up by its creator"));
        }
    }
    plan.hooks.run(Moment::CreateContainer, own_pid(), plan.hooks_end, || {
        // What it makes belongs to it, not to the root of a user namespace.
        credential::become_user(0, 0, &[]).attempting(|| "run as root".to_owned())
    })
}

/// This process' id in its own PID namespace.
fn own_pid() -> Option<i32> {
    Some(rustix::process::getpid().as_raw_pid())
}

fn open_terminal(root: &Root) -> Result<Terminal> {
    terminal::create(root).attempting(|| "make a terminal".to_owned())
}

/// What another process of a container is given besides its plan.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    /// Its end of the conversation.
    pub sync: End,
    /// The cgroups to enter (version 1).
    pub tasks: &'a [OwnedFd],
    /// The container's init, whose namespaces it joins.
    pub init: BorrowedFd<'a>,
    /// Which of them.
    pub namespaces: Namespaces,
    /// Its user outside, whose its streams are to be.
    pub owner: u32,
    /// Its streams.
    pub stdio: Stdio,
}

/// The life of another process of a container, up to its program. It can't be traced or looked into by the container's
/// processes, among which it is from the moment it is cloned.
pub(super) fn visit(plan: &ProcessPlan, visit: Visit<'_>) -> i32 {
    let Visit { sync, tasks, init, namespaces, owner, stdio } = visit;
    let prepared = plan.begin().and_then(|()| {
        cgroup::enter(tasks).attempting(|| "enter the container's cgroup".to_owned())?;
        let attempt = || "join the container's namespaces".to_owned();
        if namespaces.has(Namespaces::USER) {
            plan.raise_limits()?;
            ProcessPlan::own_pipes(&stdio, owner)?;
        }
        namespace::join_process(init, namespaces).attempting(attempt)?;
        if namespaces.has(Namespaces::USER) {
            // Whoever comes from outside is nobody inside, and so would be what it makes.
            credential::become_user(0, 0, &[]).attempting(attempt)?;
        }
        let terminal = match stdio {
            Stdio::Terminal => Some(open_terminal(&open_root()?)?),
            Stdio::Pipes { .. } => None,
        };
        // Nobody waits for it to be ready but for its terminal.
        match plan.take_streams(stdio, terminal, plan.user)? {
            Some(master) => sync.ready(Some(master.as_fd())),
            None => Ok(()),
        }
    });
    if let Err(error) = prepared {
        sync.fail(&error);
        process::quit(1);
    }
    plan.become_program(sync)
}

fn open_root() -> Result<Root> {
    Root::open(std::path::Path::new("/")).attempting(|| "open the container's root".to_owned())
}
