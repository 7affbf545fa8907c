//! Seccomp profiles as text for the spec: the built-in one, made once for each set of capabilities, and files of clients.

use super::BundleError;
use cringle_domain::plan::PlannedSeccomp;
use cringle_domain::security::CapabilitySet;
use cringle_kernel::capability::CapabilitySet as KernelSet;
use cringle_kernel::seccomp::{
    Circumstances, CompileError, Profile, ReadError, compile, default_profile, read_profile,
};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The largest profile that is read.
const LARGEST: u64 = 4 << 20;

/// How many sets of capabilities are remembered: a node sees a handful.
const REMEMBERED: usize = 64;

/// Why a client's profile cannot be used. There is no container without it then (CVE-2023-2431).
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be opened or read.
    #[error("failed to read the file")]
    Read(#[source] std::io::Error),
    /// It is a directory, a device or a pipe.
    #[error("it is not a plain file")]
    NotAFile,
    /// It is larger than any profile.
    #[error("it is larger than 4 MiB")]
    TooLarge,
    /// It is no profile.
    #[error(transparent)]
    Malformed(#[from] ReadError),
    /// It is a profile that cannot be made into a filter.
    #[error(transparent)]
    Uncompilable(#[from] CompileError),
    /// It cannot be written into the spec.
    #[error("failed to encode it")]
    Encode(#[source] serde_json::Error),
}

type Known = HashMap<u64, Arc<RawValue>>;

/// The built-in profile by the bits of the bounding set: nearly all containers of a node have the same.
static DEFAULTS: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The profile as `linux.seccomp`; none for the unconfined. `capabilities` is the container's bounding set.
pub(super) fn of(
    seccomp: &PlannedSeccomp,
    capabilities: CapabilitySet,
) -> Result<Option<Arc<RawValue>>, BundleError> {
    let named = |path: &Path, source| BundleError::Profile { path: path.to_owned(), source };
    match seccomp {
        PlannedSeccomp::Unconfined => Ok(None),
        PlannedSeccomp::RuntimeDefault => built_in(capabilities)
            .map(Some)
            .map_err(|source| named(Path::new("runtime/default"), source)),
        PlannedSeccomp::Localhost(path) => {
            of_file(path, capabilities).map(Some).map_err(|source| named(path, source))
        }
    }
}

fn built_in(capabilities: CapabilitySet) -> Result<Arc<RawValue>, ProfileError> {
    // A thread that panicked with the map in hand left it whole: it is only ever inserted into.
    let mut known = DEFAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.get(&capabilities.bits()) {
        return Ok(Arc::clone(text));
    }
    let text = encode(&default_profile(KernelSet::from_bits(capabilities.bits())))?;
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(capabilities.bits(), Arc::clone(&text));
    Ok(text)
}

fn of_file(path: &Path, capabilities: CapabilitySet) -> Result<Arc<RawValue>, ProfileError> {
    checked(&content(path)?, capabilities)
}

/// A profile as somebody wrote it, which can be made into a filter.
pub(super) fn checked(
    text: &[u8],
    capabilities: CapabilitySet,
) -> Result<Arc<RawValue>, ProfileError> {
    let circumstances = Circumstances {
        capabilities: KernelSet::from_bits(capabilities.bits()),
        kernel: kernel_version(),
    };
    let profile = read_profile(text, &circumstances)?;
    // The shim compiles it again; a profile that it would refuse is refused here, where the client still listens.
    compile(&profile)?;
    encode(&profile)
}

/// The file's content. A pipe in its place must not hold us up, nor a device fill our memory.
fn content(path: &Path) -> Result<Vec<u8>, ProfileError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| ProfileError::Read(errno.into()))?;
    let found = rustix::fs::fstat(&file).map_err(|errno| ProfileError::Read(errno.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(ProfileError::NotAFile);
    }
    let mut content = Vec::new();
    let length = std::fs::File::from(file)
        .take(LARGEST + 1)
        .read_to_end(&mut content)
        .map_err(ProfileError::Read)?;
    if length as u64 > LARGEST { Err(ProfileError::TooLarge) } else { Ok(content) }
}

/// Major and minor version of the running kernel.
fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn encode(profile: &Profile) -> Result<Arc<RawValue>, ProfileError> {
    let text = profile.to_json().map_err(ProfileError::Encode)?;
    serde_json::from_slice::<Box<RawValue>>(&text).map(Arc::from).map_err(ProfileError::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ALLOWING: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["chmod","fchmodat"],"action":"SCMP_ACT_ERRNO"}]}"#;

    fn localhost(path: &Path) -> Result<Option<Arc<RawValue>>, BundleError> {
        of(&PlannedSeccomp::Localhost(path.to_owned()), CapabilitySet::EMPTY)
    }

    fn file(directory: &Path, content: &str) -> std::path::PathBuf {
        let path = directory.join("profile.json");
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        path
    }

    #[test]
    fn the_unconfined_have_no_profile_and_the_others_the_built_in_one() {
        let capabilities = CapabilitySet::from_names(["SYS_ADMIN"]).unwrap();
        assert!(of(&PlannedSeccomp::Unconfined, capabilities).unwrap().is_none());
        let plain = of(&PlannedSeccomp::RuntimeDefault, CapabilitySet::EMPTY).unwrap().unwrap();
        let mighty = of(&PlannedSeccomp::RuntimeDefault, capabilities).unwrap().unwrap();
        let again = of(&PlannedSeccomp::RuntimeDefault, CapabilitySet::EMPTY).unwrap().unwrap();
        assert!(Arc::ptr_eq(&plain, &again));
        assert!(!plain.get().contains("\"mount\""));
        assert!(mighty.get().contains("\"mount\""));
    }

    #[test]
    fn a_clients_profile_is_taken_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let text = localhost(&file(directory.path(), ALLOWING)).unwrap().unwrap();
        assert!(text.get().contains("fchmodat"));
    }

    #[test]
    fn a_profile_that_cannot_be_used_leaves_nobody_unconfined() {
        let directory = tempfile::tempdir().unwrap();
        for content in [
            "",
            "{}",
            "[]",
            r#"{"defaultAction":"SCMP_ACT_NONSENSE"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]}"#,
        ] {
            let refused = localhost(&file(directory.path(), content));
            assert!(matches!(refused, Err(BundleError::Profile { .. })), "{content:?}");
        }
        for path in ["/nowhere/profile.json", "/dev/zero", "/proc/self", "/tmp"] {
            let refused = localhost(Path::new(path));
            assert!(matches!(refused, Err(BundleError::Profile { .. })), "{path}");
        }
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        localhost(&pipe).unwrap_err();
    }
}
