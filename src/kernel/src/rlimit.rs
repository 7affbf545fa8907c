//! Resource limits (getrlimit(2)) by name.
//!
//! A hard limit above our own can't be set without CAP_SYS_RESOURCE, which nested hosts often lack: [`set`] then sets
//! what it can and says so.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// A resource with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitedResource(Resource);

impl LimitedResource {
    /// The resource of that name: `RLIMIT_NOFILE`, `NOFILE` or `nofile`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        NAMES.iter().find(|(known, _)| *known == bare).map(|(_, resource)| Self(*resource))
    }
}

/// Name without prefix, and resource.
const NAMES: [(&str, Resource); 16] = [
    ("AS", Resource::As),
    ("CORE", Resource::Core),
    ("CPU", Resource::Cpu),
    ("DATA", Resource::Data),
    ("FSIZE", Resource::Fsize),
    ("LOCKS", Resource::Locks),
    ("MEMLOCK", Resource::Memlock),
    ("MSGQUEUE", Resource::Msgqueue),
    ("NICE", Resource::Nice),
    ("NOFILE", Resource::Nofile),
    ("NPROC", Resource::Nproc),
    ("RSS", Resource::Rss),
    ("RTPRIO", Resource::Rtprio),
    ("RTTIME", Resource::Rttime),
    ("SIGPENDING", Resource::Sigpending),
    ("STACK", Resource::Stack),
];

/// A soft and a hard limit; `u64::MAX` is none, as the kernel has it (`RLIM_INFINITY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitPair {
    /// What is enforced.
    pub soft: u64,
    /// How far the process may raise the soft limit.
    pub hard: u64,
}

/// How a limit was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Exact,
    /// No higher than our own hard limit.
    Clamped(LimitPair),
}

/// The calling process' limits of that resource. Child-side.
#[must_use]
pub fn get(resource: LimitedResource) -> LimitPair {
    let limits = getrlimit(resource.0);
    LimitPair { soft: limits.current.unwrap_or(u64::MAX), hard: limits.maximum.unwrap_or(u64::MAX) }
}

/// Limits the calling process, no higher than it is allowed to. Child-side.
///
/// # Errors
/// What setrlimit(2) answers, EPERM excepted: EINVAL for a soft limit above the hard one.
pub fn set(resource: LimitedResource, wanted: LimitPair) -> Result<Outcome, Errno> {
    if wanted.soft > wanted.hard {
        return Err(Errno::INVAL);
    }
    match write(resource, wanted) {
        Ok(()) => Ok(Outcome::Exact),
        Err(Errno::PERM) => {
            let own = get(resource).hard;
            let clamped = LimitPair { soft: wanted.soft.min(own), hard: wanted.hard.min(own) };
            write(resource, clamped)?;
            Ok(Outcome::Clamped(clamped))
        }
        Err(errno) => Err(errno),
    }
}

fn write(resource: LimitedResource, pair: LimitPair) -> Result<(), Errno> {
    let bound = |value: u64| if value == u64::MAX { None } else { Some(value) };
    setrlimit(resource.0, Rlimit { current: bound(pair.soft), maximum: bound(pair.hard) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;

    #[test]
    fn names_are_known_in_all_three_forms() {
        for name in ["RLIMIT_NOFILE", "NOFILE", "nofile", "rlimit_nofile"] {
            assert_eq!(LimitedResource::from_name(name), Some(LimitedResource(Resource::Nofile)));
        }
        assert_eq!(LimitedResource::from_name("RLIMIT_"), None);
        assert_eq!(LimitedResource::from_name("FILES"), None);
    }

    #[test]
    fn a_lower_limit_is_set_exactly() {
        let core = LimitedResource(Resource::Core);
        assert!(in_child(|| {
            let wanted = LimitPair { soft: 0, hard: 4096.min(get(core).hard) };
            set(core, wanted) == Ok(Outcome::Exact) && get(core) == wanted
        }));
    }

    #[test]
    fn a_hard_limit_above_our_own_is_clamped_to_it() {
        let files = LimitedResource(Resource::Nofile);
        assert!(in_child(|| {
            let low = LimitPair { soft: 100, hard: 200 };
            set(files, low).unwrap();
            // An unprivileged user can't raise it, whatever this machine grants to root.
            crate::credential::become_user(1000, 1000, &[]).unwrap();
            let clamped = LimitPair { soft: 200, hard: 200 };
            set(files, LimitPair { soft: 1000, hard: 2000 }) == Ok(Outcome::Clamped(clamped))
                && get(files) == clamped
        }));
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused() {
        let files = LimitedResource(Resource::Nofile);
        assert_eq!(set(files, LimitPair { soft: 2, hard: 1 }), Err(Errno::INVAL));
    }
}
