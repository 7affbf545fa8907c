//! System call filters (seccomp(2)): profiles in, kernel programs out.
//!
//! A [`Profile`] says by name which calls are allowed. [`compile`] turns it into a [`Filter`]: for each architecture the
//! calls become ranges of equal verdict, and the ranges a balanced tree of comparisons, so that the kernel, which runs
//! the program once per call number when it is loaded, has short paths to walk. [`default_profile`] is ours;
//! [`read_profile`] reads the files that users write.
//!
//! What a profile means, where its format leaves it open:
//! - Of the rules for a call those with conditions come first, in their order; then the one without; then the default.
//! - Conditions of one rule must all hold, unless two of them look at the same argument: then each is a rule of its own
//!   (established files rely on it).
//! - A call newer than every call that the profile names is answered ENOSYS instead of the default error, so that
//!   programs fall back to what the profile does know.
//! - A call by an architecture that is not in the profile ends the process. Calls by the x32 variant of x86-64 get the
//!   default verdict, or ENOSYS if that would let them through.

mod compile;
mod default;
mod filter;
mod numbers;
mod program;
mod read;
#[cfg(test)]
mod tests;

pub use compile::{CompileError, Compiled, compile};
pub use default::{VERSION, default_profile};
pub use filter::{Filter, FilterError, Flag};
pub use read::{Circumstances, ReadError, read_profile};

/// The error of a refused call, unless the profile says otherwise.
const EPERM: u16 = 1;
/// The error of a call that a kernel doesn't have.
const ENOSYS: u16 = 38;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is made, and logged.
    Log,
    /// It fails with that error number.
    Errno(u16),
    /// A tracer decides, told this number; without one it fails with ENOSYS.
    Trace(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

impl Verdict {
    /// The largest error number the kernel takes.
    const MOST: u32 = 4095;

    /// The verdict of that name in the runtime specification, with its error number; EPERM if none is given. None for
    /// names that are unknown or not supported here (`SCMP_ACT_NOTIFY`), and for impossible numbers.
    #[must_use]
    pub fn from_name(name: &str, number: Option<u32>) -> Option<Self> {
        let number = number.unwrap_or(u32::from(EPERM));
        let number = u16::try_from(number).ok().filter(|n| u32::from(*n) <= Self::MOST)?;
        Some(match name {
            "SCMP_ACT_ALLOW" => Self::Allow,
            "SCMP_ACT_LOG" => Self::Log,
            "SCMP_ACT_ERRNO" => Self::Errno(number),
            "SCMP_ACT_TRACE" => Self::Trace(number),
            "SCMP_ACT_TRAP" => Self::Trap,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Self::KillProcess,
            _ => return None,
        })
    }

    /// Its name in the runtime specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "SCMP_ACT_ALLOW",
            Self::Log => "SCMP_ACT_LOG",
            Self::Errno(_) => "SCMP_ACT_ERRNO",
            Self::Trace(_) => "SCMP_ACT_TRACE",
            Self::Trap => "SCMP_ACT_TRAP",
            Self::KillThread => "SCMP_ACT_KILL_THREAD",
            Self::KillProcess => "SCMP_ACT_KILL_PROCESS",
        }
    }

    /// Its number, if it has one.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self {
            Self::Errno(number) | Self::Trace(number) => Some(number),
            Self::Allow | Self::Log | Self::Trap | Self::KillThread | Self::KillProcess => None,
        }
    }

    /// Whether the call is made.
    const fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }

    /// What the filter returns for it (`SECCOMP_RET_*`).
    const fn encoded(self) -> u32 {
        match self {
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | number as u32,
            Self::Trace(number) => 0x7ff0_0000 | number as u32,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// An architecture whose calls can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Architecture {
    /// x86-64.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit Arm.
    Aarch64,
}

impl Architecture {
    /// The one this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The one this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// The architecture of that name in the runtime specification. None for those without a table here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::I386),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Its name in the runtime specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::I386 => "SCMP_ARCH_X86",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }

    /// As the kernel tells the filter (`AUDIT_ARCH_*`).
    const fn token(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Those whose programs run on the native one, itself first.
    const fn compatible() -> &'static [Self] {
        match Self::NATIVE {
            Self::X86_64 | Self::I386 => &[Self::X86_64, Self::I386],
            Self::Aarch64 => &[Self::Aarch64],
        }
    }
}

/// How an argument is compared, as an unsigned number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `argument != value`
    NotEqual(u64),
    /// `argument < value`
    Less(u64),
    /// `argument <= value`
    LessOrEqual(u64),
    /// `argument == value`
    Equal(u64),
    /// `argument >= value`
    GreaterOrEqual(u64),
    /// `argument > value`
    Greater(u64),
    /// `argument & mask == value & mask`
    MaskedEqual {
        /// The bits looked at.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

impl Comparison {
    /// The comparison of that name in the runtime specification with its one or two values.
    #[must_use]
    pub fn from_name(name: &str, value: u64, second: u64) -> Option<Self> {
        Some(match name {
            "SCMP_CMP_NE" => Self::NotEqual(value),
            "SCMP_CMP_LT" => Self::Less(value),
            "SCMP_CMP_LE" => Self::LessOrEqual(value),
            "SCMP_CMP_EQ" => Self::Equal(value),
            "SCMP_CMP_GE" => Self::GreaterOrEqual(value),
            "SCMP_CMP_GT" => Self::Greater(value),
            "SCMP_CMP_MASKED_EQ" => Self::MaskedEqual { mask: value, value: second },
            _ => return None,
        })
    }

    /// Its name in the runtime specification, and its two values.
    #[must_use]
    pub const fn to_name(self) -> (&'static str, u64, u64) {
        match self {
            Self::NotEqual(value) => ("SCMP_CMP_NE", value, 0),
            Self::Less(value) => ("SCMP_CMP_LT", value, 0),
            Self::LessOrEqual(value) => ("SCMP_CMP_LE", value, 0),
            Self::Equal(value) => ("SCMP_CMP_EQ", value, 0),
            Self::GreaterOrEqual(value) => ("SCMP_CMP_GE", value, 0),
            Self::Greater(value) => ("SCMP_CMP_GT", value, 0),
            Self::MaskedEqual { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, value),
        }
    }
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
}

/// What becomes of some calls, perhaps only under conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The calls, by name.
    pub names: Vec<String>,
    /// What becomes of them.
    pub verdict: Verdict,
    /// All must hold; none means always.
    pub conditions: Vec<Condition>,
}

/// Which calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls that no rule is about.
    pub default: Verdict,
    /// Whose calls it is about, besides the native ones.
    pub architectures: Vec<Architecture>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// How it is loaded.
    pub flags: Vec<Flag>,
}
