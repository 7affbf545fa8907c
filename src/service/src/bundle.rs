//! A plan as an OCI bundle: the `config.json` that shims read.
//!
//! Only a translation: whatever is decided is in the plan, whatever is done is the shim's. The seccomp profile is spliced into
//! the document as text, because it is the largest part of it and the same for nearly all containers.
//!
//! Annotations of pods and containers stay out of the document: nothing that a user wrote steers a shim.

mod linux;
mod mounts;
mod process;
mod profiles;

use cringle_domain::id::PodId;
use cringle_domain::plan::{ContainerPlan, Identity, PlannedUsers};
use cringle_domain::planner;
use cringle_domain::refusal::Refusal;
use cringle_domain::resources::Resources;
use cringle_domain::security::CapabilitySet;
use cringle_domain::spec::Terminal;
use cringle_kernel::terminal::Size;
use cringle_proto_shim::{REAPER_ROLE, ROLE_ANNOTATION};
use cringle_store::atomic;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder as SizeBuilder, Linux, LinuxResources, Process, Root, RootBuilder, Spec,
    SpecBuilder, User,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use profiles::ProfileError;

/// The file of a bundle that shims read.
pub const CONFIG: &str = "config.json";
/// The directory of a bundle that the shim mounts the root on.
pub const ROOTFS: &str = "rootfs";
/// The version of the runtime specification that the documents follow.
const VERSION: &str = "1.2.1";
/// Larger documents are not ours.
const LARGEST_CONFIG: u64 = 16 << 20;

/// A bundle that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The client's seccomp profile cannot be used. Code InvalidArgument.
    #[error("failed to use seccomp profile \"{}\"", path.display())]
    Profile {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// The request is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The plan has no form as a document. Code Internal.
    #[error("failed to express the plan as a runtime spec")]
    Express(#[from] OciSpecError),
    /// The document could not be written down or understood. Code Internal.
    #[error("failed to encode or decode {}", path.display())]
    Encode {
        /// The document.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file could not be read or written. Code Internal.
    #[error("failed to {action} \"{}\"", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// The document of a new container before it is written: what others may still change of it.
#[derive(Debug)]
pub struct Draft {
    /// All of it but the seccomp profile.
    pub spec: Spec,
    profile: Option<Arc<RawValue>>,
}

impl Draft {
    /// A plan as a document.
    ///
    /// # Errors
    /// If the profile asked for cannot be used.
    pub fn new(plan: &ContainerPlan) -> Result<Self, BundleError> {
        let profile = profiles::of(&plan.seccomp, plan.process.capabilities.bounding)?;
        let mut spec = container_spec(plan)?;
        spec.set_linux(Some(linux::of(plan)?));
        Ok(Self { spec, profile })
    }

    /// The user and groups of the process as they are by now.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let user = self.spec.process().as_ref().map(Process::user);
        let mut identity = Identity {
            user: user.map(User::uid).unwrap_or_default(),
            group: user.map(User::gid).unwrap_or_default(),
            groups: user.and_then(|user| user.additional_gids().clone()).unwrap_or_default(),
        };
        identity.groups.sort_unstable();
        identity
    }

    /// Replaces the profile by another, in the words of the runtime specification.
    ///
    /// # Errors
    /// If it is no profile, or cannot be made into a filter.
    pub fn confine(
        &mut self,
        profile: &[u8],
        capabilities: CapabilitySet,
    ) -> Result<(), ProfileError> {
        self.profile = Some(profiles::checked(profile, capabilities)?);
        Ok(())
    }

    /// Writes `config.json` into the bundle directory of the container. If there are hooks it makes the directory for the root
    /// too: without that the root is mounted on the bundle itself, and hides the file from hooks that look at it from inside.
    ///
    /// # Errors
    /// If the file cannot be written, or is there.
    pub fn write(mut self, directory: &Path) -> Result<(), BundleError> {
        if self.spec.hooks().is_some() {
            let path = directory.join(ROOTFS);
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|source| BundleError::File { action: "make", path, source })?;
        }
        let linux = self.spec.linux_mut().take().unwrap_or_default();
        let document = Document::new(&self.spec, &linux, self.profile.as_deref());
        create(&directory.join(CONFIG), &document)
    }
}

/// The document of a container as it was written.
///
/// # Errors
/// If the bundle cannot be read.
pub fn written(directory: &Path) -> Result<Spec, BundleError> {
    let path = directory.join(CONFIG);
    decode(&path, &read(&path)?)
}

/// Writes a spec to a file that is not there yet.
///
/// # Errors
/// If it is there, or cannot be written.
pub fn write_new(path: &Path, spec: &Spec) -> Result<(), BundleError> {
    create(path, spec)
}

/// The spec of a pod's reaper: PID 1 of a new PID namespace, with nothing to run and nothing to reach.
///
/// # Errors
/// Only by a bug.
pub fn reaper_spec(
    pod: &PodId,
    cgroup: &str,
    users: Option<&PlannedUsers>,
) -> Result<Spec, BundleError> {
    let annotations = [
        (ROLE_ANNOTATION.to_owned(), REAPER_ROLE.to_owned()),
        ("dev.cringle.pod".to_owned(), pod.to_string()),
    ];
    let mut spec = SpecBuilder::default()
        .version(VERSION)
        .root(root(true)?)
        .process(process::of_reaper()?)
        .mounts(vec![])
        .annotations(HashMap::from(annotations))
        .linux(linux::of_reaper(cgroup, users)?)
        .build()?;
    // It is in the host's UTS namespace, whose name is not ours to set.
    spec.set_hostname(None);
    Ok(spec)
}

/// A container's first process, as its bundle has it: a small part of a large document.
///
/// # Errors
/// If the bundle cannot be read.
pub fn first_process(directory: &Path) -> Result<Box<RawValue>, BundleError> {
    #[derive(Deserialize)]
    struct First {
        process: Box<RawValue>,
    }
    let path = directory.join(CONFIG);
    let First { process } = decode(&path, &read(&path)?)?;
    Ok(process)
}

/// The process of a further program in a container: what its first process is but for the command, without a terminal.
///
/// # Errors
/// If no program can be called so, or the first process makes no sense.
pub fn exec_process(
    directory: &Path,
    first: &RawValue,
    command: Vec<String>,
) -> Result<Process, BundleError> {
    let command = planner::command_line(command, "cmd")?;
    let mut process: Process = decode(&directory.join(CONFIG), first.get().as_bytes())?;
    process.set_args(Some(command)).set_terminal(Some(false));
    Ok(process)
}

/// Gives a process a terminal, or none. A program on one expects to be told its kind.
///
/// # Errors
/// Only by a bug.
pub fn set_terminal(
    process: &mut Process,
    terminal: Terminal,
    size: Option<Size>,
) -> Result<(), BundleError> {
    const KIND: &str = "TERM=";
    process.set_terminal(Some(terminal == Terminal::Present));
    if terminal == Terminal::Absent {
        return Ok(());
    }
    if let Some(size) = size.filter(|size| size.rows > 0 && size.columns > 0) {
        let window = SizeBuilder::default().height(size.rows).width(size.columns).build()?;
        process.set_console_size(Some(window));
    }
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|entry| entry.starts_with(KIND)) {
        environment.push(format!("{KIND}xterm"));
    }
    process.set_env(Some(environment));
    Ok(())
}

/// Limits as a document, for an update.
///
/// # Errors
/// If a limit is larger than a document can say.
pub fn resources(resources: &Resources) -> Result<LinuxResources, BundleError> {
    linux::resources(resources, &[])
}

/// Replaces the limits of a container that has not started; what devices it may use stays.
///
/// # Errors
/// If the bundle cannot be read or written.
pub fn rewrite_resources(directory: &Path, limits: &Resources) -> Result<(), BundleError> {
    let path = directory.join(CONFIG);
    let failed = |source| BundleError::Encode { path: path.clone(), source };
    let mut document: serde_json::Value = decode(&path, &read(&path)?)?;
    let place = &mut document["linux"]["resources"];
    let devices = place["devices"].take();
    *place = serde_json::to_value(resources(limits)?).map_err(failed)?;
    if !devices.is_null() {
        place["devices"] = devices;
    }
    let text = serde_json::to_vec(&document).map_err(failed)?;
    atomic::replace(&path, &text).map_err(|source| BundleError::File {
        action: "write",
        path: path.clone(),
        source,
    })
}

/// The document of a container, whole.
///
/// # Errors
/// If it cannot be read.
pub fn document(directory: &Path) -> Result<serde_json::Value, BundleError> {
    let path = directory.join(CONFIG);
    decode(&path, &read(&path)?)
}

/// Everything but `linux`.
fn container_spec(plan: &ContainerPlan) -> Result<Spec, BundleError> {
    let mut spec = SpecBuilder::default()
        .version(VERSION)
        .root(root(plan.rootfs != cringle_domain::mounts::Access::ReadWrite)?)
        .process(process::of(&plan.process)?)
        .mounts(mounts::of(&plan.mounts)?)
        .build()?;
    spec.set_linux(None).set_hostname(None).set_annotations(None);
    Ok(spec)
}

fn root(readonly: bool) -> Result<Root, BundleError> {
    Ok(RootBuilder::default().path(ROOTFS).readonly(readonly).build()?)
}

/// A spec with its profile as text.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    spec: &'a Spec,
    linux: Confined<'a>,
}

#[derive(Serialize)]
struct Confined<'a> {
    #[serde(flatten)]
    linux: &'a Linux,
    #[serde(skip_serializing_if = "Option::is_none")]
    seccomp: Option<&'a RawValue>,
}

impl<'a> Document<'a> {
    fn new(spec: &'a Spec, linux: &'a Linux, seccomp: Option<&'a RawValue>) -> Self {
        Self { spec, linux: Confined { linux, seccomp } }
    }
}

fn create(path: &Path, document: &impl Serialize) -> Result<(), BundleError> {
    let text = serde_json::to_vec(document)
        .map_err(|source| BundleError::Encode { path: path.to_owned(), source })?;
    // The directory is the container's own and new: nobody reads the file before the shim is told to.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&text))
        .map_err(|source| BundleError::File { action: "write", path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_CONFIG).read_to_end(&mut text))
        .map_err(|source| BundleError::File { action: "read", path: path.to_owned(), source })?;
    Ok(text)
}

fn decode<'a, T: Deserialize<'a>>(path: &Path, text: &'a [u8]) -> Result<T, BundleError> {
    serde_json::from_slice(text)
        .map_err(|source| BundleError::Encode { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
