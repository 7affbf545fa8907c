//! Reading profile files: the JSON of the runtime specification, and its extension that engines share, in which rules
//! depend on capabilities, architecture and kernel. Anything malformed or unknown is an error: a filter that silently
//! lacks a rule is worse than none.

use super::{Architecture, Comparison, Condition, Flag, Profile, Rule, Verdict};
use crate::capability::{Capability, CapabilitySet};
use serde::{Deserialize, Serialize};

/// What a file's rules may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// The capabilities of the process.
    pub capabilities: CapabilitySet,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
}

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not the JSON of a profile.
    #[error("failed to parse the seccomp profile")]
    Parse(#[source] serde_json::Error),
    /// A name or number in it is not known.
    #[error("the seccomp profile has an unknown {what}: {given:?}")]
    Unknown {
        /// What the name is of.
        what: &'static str,
        /// What is in the file.
        given: String,
    },
    /// It asks for what is not supported.
    #[error("the seccomp profile uses {feature}, which is not supported")]
    Unsupported {
        /// What it asks for.
        feature: &'static str,
    },
    /// Two of its entries can't stand together.
    #[error("the seccomp profile has both {first} and {second}")]
    Both {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// Reads a profile.
///
/// # Errors
/// If it is malformed, or asks for something unknown or not supported.
pub fn read_profile(json: &[u8], circumstances: &Circumstances) -> Result<Profile, ReadError> {
    let document: Document = serde_json::from_slice(json).map_err(ReadError::Parse)?;
    document.into_profile(circumstances)
}

impl Profile {
    /// The profile as the runtime specification's `linux.seccomp`.
    ///
    /// # Errors
    /// None that happen: the structure has string keys only.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Document::from_profile(self))
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing)]
    default_errno: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<String>,
    #[serde(default, skip_serializing)]
    arch_map: Option<Vec<ArchitectureGroup>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    #[serde(default, skip_serializing)]
    listener_path: Option<String>,
    #[serde(default, skip_serializing)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
    #[serde(default, skip_serializing, rename = "$schema")]
    _schema: serde::de::IgnoredAny,
    #[serde(default, skip_serializing, rename = "comment")]
    _comment: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchitectureGroup {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default, skip_serializing)]
    name: Option<String>,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default, skip_serializing)]
    errno: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<Argument>>,
    #[serde(default, skip_serializing)]
    includes: Option<Terms>,
    #[serde(default, skip_serializing)]
    excludes: Option<Terms>,
    #[serde(default, skip_serializing, rename = "comment")]
    _comment: serde::de::IgnoredAny,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Terms {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl Document {
    fn into_profile(self, circumstances: &Circumstances) -> Result<Profile, ReadError> {
        if self.listener_path.is_some_and(|path| !path.is_empty()) {
            return Err(ReadError::Unsupported { feature: "a listener" });
        }
        if self.listener_metadata.is_some_and(|text| !text.is_empty()) {
            return Err(ReadError::Unsupported { feature: "a listener" });
        }
        let number = errno(self.default_errno.as_deref(), self.default_errno_ret)?;
        let default = verdict(&self.default_action, number)?;
        let architectures = architectures(self.architectures, self.arch_map.unwrap_or_default())?;
        let mut rules = Vec::new();
        for entry in self.syscalls.unwrap_or_default() {
            rules.extend(entry.into_rule(circumstances)?);
        }
        let flag = |name: String| {
            Flag::from_name(&name).ok_or(ReadError::Unknown { what: "flag", given: name })
        };
        let flags = self.flags.into_iter().map(flag).collect::<Result<_, _>>()?;
        Ok(Profile { default, architectures, rules, flags })
    }

    fn from_profile(profile: &Profile) -> Self {
        Self {
            default_action: profile.default.name().to_owned(),
            default_errno_ret: profile.default.number().map(u32::from),
            architectures: profile.architectures.iter().map(|one| one.name().to_owned()).collect(),
            flags: profile.flags.iter().map(|flag| flag.name().to_owned()).collect(),
            syscalls: Some(profile.rules.iter().map(Entry::from_rule).collect()),
            ..Self::default()
        }
    }
}

impl Entry {
    /// The rule; none if it doesn't apply here.
    fn into_rule(self, circumstances: &Circumstances) -> Result<Option<Rule>, ReadError> {
        let names = match (self.name, self.names) {
            (Some(_), names) if !names.is_empty() => {
                return Err(ReadError::Both { first: "\"name\"", second: "\"names\"" });
            }
            (Some(name), _) => vec![name],
            (None, names) if names.is_empty() => {
                return Err(ReadError::Unknown {
                    what: "rule",
                    given: "one without names".to_owned(),
                });
            }
            (None, names) => names,
        };
        // Everything is checked, also in rules that don't apply: a mistake shows on every host.
        let verdict = verdict(&self.action, errno(self.errno.as_deref(), self.errno_ret)?)?;
        let arguments = self.args.unwrap_or_default();
        let conditions =
            arguments.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
        let included = self.includes.unwrap_or_default().includes(circumstances)?;
        let excluded = self.excludes.unwrap_or_default().excludes(circumstances)?;
        let applies = included && !excluded;
        Ok(applies.then_some(Rule { names, verdict, conditions }))
    }

    fn from_rule(rule: &Rule) -> Self {
        let argument = |condition: &Condition| {
            let (op, value, value_two) = condition.comparison.to_name();
            Argument { index: condition.argument, value, value_two, op: op.to_owned() }
        };
        let args: Vec<Argument> = rule.conditions.iter().map(argument).collect();
        Self {
            names: rule.names.clone(),
            action: rule.verdict.name().to_owned(),
            errno_ret: rule.verdict.number().map(u32::from),
            args: (!args.is_empty()).then_some(args),
            ..Self::default()
        }
    }
}

impl Argument {
    fn condition(&self) -> Result<Condition, ReadError> {
        let comparison = Comparison::from_name(&self.op, self.value, self.value_two)
            .ok_or_else(|| ReadError::Unknown { what: "comparison", given: self.op.clone() })?;
        if self.index > 5 {
            let given = self.index.to_string();
            return Err(ReadError::Unknown { what: "argument", given });
        }
        Ok(Condition { argument: self.index, comparison })
    }
}

impl Terms {
    /// Whether all that must be there is.
    fn includes(&self, circumstances: &Circumstances) -> Result<bool, ReadError> {
        let capabilities = capabilities(self.caps.as_deref())?;
        let kernel = self.min_kernel.as_deref().map(kernel).transpose()?;
        let names = self.arches.as_deref().unwrap_or_default();
        Ok(capabilities.minus(circumstances.capabilities).is_empty()
            && (names.is_empty() || is_native(names))
            && kernel.is_none_or(|least| circumstances.kernel >= least))
    }

    /// Whether any that must not be there is.
    fn excludes(&self, circumstances: &Circumstances) -> Result<bool, ReadError> {
        let capabilities = capabilities(self.caps.as_deref())?;
        let kernel = self.min_kernel.as_deref().map(kernel).transpose()?;
        Ok(!capabilities.and(circumstances.capabilities).is_empty()
            || is_native(self.arches.as_deref().unwrap_or_default())
            || kernel.is_some_and(|least| circumstances.kernel >= least))
    }
}

/// Whether the native architecture is among these names (as engines name them, not the runtime specification).
fn is_native(names: &[String]) -> bool {
    let native: &[&str] = match Architecture::NATIVE {
        Architecture::X86_64 | Architecture::I386 => &["amd64", "x86_64"],
        Architecture::Aarch64 => &["arm64", "aarch64"],
    };
    names.iter().any(|name| native.contains(&name.as_str()))
}

fn capabilities(names: Option<&[String]>) -> Result<CapabilitySet, ReadError> {
    let one = |name: &String| {
        Capability::from_name(name)
            .ok_or_else(|| ReadError::Unknown { what: "capability", given: name.clone() })
    };
    names.unwrap_or_default().iter().map(one).collect()
}

fn kernel(version: &str) -> Result<(u32, u32), ReadError> {
    let number = |text: &str| text.parse::<u32>().ok();
    version
        .split_once('.')
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
        .ok_or_else(|| ReadError::Unknown { what: "kernel version", given: version.to_owned() })
}

/// The error number, given as a number or by name. A name wins, as the number then is only its copy.
fn errno(name: Option<&str>, number: Option<u32>) -> Result<Option<u32>, ReadError> {
    let name = match name {
        None | Some("") => return Ok(number),
        Some(name) => name,
    };
    let known = [
        ("EPERM", 1),
        ("ENOENT", 2),
        ("EAGAIN", 11),
        ("ENOMEM", 12),
        ("EACCES", 13),
        ("EINVAL", 22),
        ("ENOSYS", 38),
        ("EPROTONOSUPPORT", 93),
        ("EOPNOTSUPP", 95),
        ("ENOTSUP", 95),
        ("EAFNOSUPPORT", 97),
    ];
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, named)) => Ok(Some(*named)),
        None => Err(ReadError::Unknown { what: "error", given: name.to_owned() }),
    }
}

fn verdict(action: &str, number: Option<u32>) -> Result<Verdict, ReadError> {
    if action == "SCMP_ACT_NOTIFY" {
        return Err(ReadError::Unsupported { feature: "SCMP_ACT_NOTIFY" });
    }
    Verdict::from_name(action, number).ok_or_else(|| {
        let number = number.map(|number| format!(" {number}")).unwrap_or_default();
        ReadError::Unknown { what: "action", given: format!("{action}{number}") }
    })
}

/// The architectures named; those that can't run here are of no consequence, but must be real.
fn architectures(
    names: Vec<String>,
    groups: Vec<ArchitectureGroup>,
) -> Result<Vec<Architecture>, ReadError> {
    if !names.is_empty() && !groups.is_empty() {
        return Err(ReadError::Both { first: "\"architectures\"", second: "\"archMap\"" });
    }
    let mut found = Vec::new();
    let mut add = |name: String, wanted: bool| {
        let one = Architecture::from_name(&name);
        if one.is_none() && !ELSEWHERE.contains(&name.as_str()) {
            return Err(ReadError::Unknown { what: "architecture", given: name });
        }
        found.extend(one.filter(|one| wanted && !found.contains(one)));
        Ok(one)
    };
    for name in names {
        add(name, true)?;
    }
    for group in groups {
        // Of the map only the entry of the host's own architecture counts.
        let is_ours = Architecture::from_name(&group.architecture) == Some(Architecture::NATIVE);
        add(group.architecture, is_ours)?;
        for name in group.sub_architectures.unwrap_or_default() {
            add(name, is_ours)?;
        }
    }
    Ok(found)
}

/// Architectures that the specification knows and this program has no table for.
#[rustfmt::skip]
const ELSEWHERE: &[&str] = &[
    "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
    "SCMP_ARCH_NATIVE",
];
