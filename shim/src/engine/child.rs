//! The child's half: a straight line from the moment it is cloned to the program it becomes. It reports on its socket and never
//! returns into anything of the parent.

use std::os::fd::{AsFd as _, OwnedFd};

use cringle_kernel::cgroup;
use cringle_kernel::credential;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_kernel::path::Root;
use cringle_kernel::process;
use cringle_kernel::sysctl;
use cringle_kernel::terminal::{self, Terminal};

use super::cgroups::CgroupMount;
use super::error::{Attempting as _, Result};
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
    /// Its streams.
    pub stdio: Stdio,
    /// Where it waits, if not for its parent.
    pub gate: Option<OwnedFd>,
}

/// The life of a container's init. The answer is its exit code, if it does not become its program.
pub(super) fn init(plan: &Plan, given: Given) -> i32 {
    let Given { sync, tasks, cgroups, joined, stdio, gate } = given;
    let prepared = prepare(plan, &tasks, &cgroups, &joined, &stdio).and_then(|terminal| {
        let master = plan.process.take_streams(stdio, terminal)?;
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
    match sync {
        Some(sync) => plan.process.become_program(sync),
        None => process::quit(1),
    }
}

fn prepare(
    plan: &Plan,
    tasks: &[OwnedFd],
    cgroups: &[CgroupMount],
    joined: &Joined,
    stdio: &Stdio,
) -> Result<Option<Terminal>> {
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
    let (root, sources) = rootfs::raise(&plan.root, || mounts::open_sources(&plan.mounts))?;
    for (mount, source) in plan.mounts.iter().zip(sources) {
        mounts::make(mount, source, &root, cgroups)?;
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
    rootfs::enter(&plan.root, &root)?;
    Ok(terminal)
}

fn open_terminal(root: &Root) -> Result<Terminal> {
    terminal::create(root).attempting(|| "make a terminal".to_owned())
}

/// What another process of a container is given besides its plan.
#[derive(Debug)]
pub(super) struct Visit {
    /// Its end of the conversation.
    pub sync: End,
    /// The cgroups to enter (version 1).
    pub tasks: Vec<OwnedFd>,
    /// The container's init, whose namespaces it joins.
    pub init: OwnedFd,
    /// Which of them.
    pub namespaces: Namespaces,
    /// Its streams.
    pub stdio: Stdio,
}

/// The life of another process of a container, up to its program. It can't be traced or looked into by the container's
/// processes, among which it is from the moment it is cloned.
pub(super) fn visit(plan: &ProcessPlan, visit: Visit) -> i32 {
    let Visit { sync, tasks, init, namespaces, stdio } = visit;
    let prepared = plan.begin().and_then(|()| {
        cgroup::enter(&tasks).attempting(|| "enter the container's cgroup".to_owned())?;
        namespace::join_process(init.as_fd(), namespaces)
            .attempting(|| "join the container's namespaces".to_owned())?;
        let terminal = match stdio {
            Stdio::Terminal => Some(open_terminal(&open_root()?)?),
            Stdio::Pipes { .. } => None,
        };
        let master = plan.take_streams(stdio, terminal)?;
        sync.ready(master.as_ref().map(|master| master.as_fd()))
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
