//! From a profile to a filter: names to numbers, numbers to ranges of equal verdict, ranges to a balanced tree.

use super::program::{ARCHITECTURE, Assembler, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, Label, NUMBER};
use super::{Architecture, Comparison, Condition, ENOSYS, Filter, Profile, Rule, Verdict, numbers};
use std::collections::BTreeMap;

/// Why a profile has no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Two rules without conditions say different things.
    #[error("the seccomp profile contradicts itself about {name:?}")]
    Contradiction {
        /// The call.
        name: String,
    },
    /// There is no such argument.
    #[error(
        "the seccomp profile has a condition on argument {argument} of {name:?}; there are 0 to 5"
    )]
    Argument {
        /// The call.
        name: String,
        /// The argument.
        argument: u8,
    },
    /// The kernel takes no program that long.
    #[error("the seccomp profile needs {instructions} instructions; the kernel takes 4096")]
    TooLong {
        /// How long it is.
        instructions: usize,
    },
}

/// A filter, and what of the profile is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The filter.
    pub filter: Filter,
    /// Names that are no call of any architecture here.
    pub unknown: Vec<String>,
}

/// Compiles a profile.
///
/// # Errors
/// If the profile contradicts itself, or is too long for the kernel.
pub fn compile(profile: &Profile) -> Result<Compiled, CompileError> {
    let tables = tables(profile)?;
    let mut assembler = Assembler::default();
    let mut next = assembler.verdict(Verdict::KillProcess);
    // From the last architecture to the first: the native one, which is asked for most, is reached first.
    for (architecture, decisions) in tables.iter().rev() {
        let section = section(&mut assembler, *architecture, decisions, profile.default);
        next = assembler.branch(JUMP_EQUAL, architecture.token(), section, next);
    }
    let entry = assembler.load(ARCHITECTURE, next);
    let program = assembler.finish(entry);
    if program.len() > Filter::MOST_INSTRUCTIONS {
        return Err(CompileError::TooLong { instructions: program.len() });
    }
    let unknown = unknown(profile, &tables);
    Ok(Compiled { filter: Filter::new(program, &profile.flags), unknown })
}

/// What becomes of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Rules with conditions, in order; the first that holds decides.
    pub(super) conditional: Vec<(Vec<Condition>, Verdict)>,
    /// Else this; none: the default.
    pub(super) otherwise: Option<Verdict>,
}

/// The decisions of an architecture by call number.
pub(super) type Decisions = BTreeMap<u32, Decision>;

/// The decisions for the native architecture and for those of the profile that run on it.
pub(super) fn tables(profile: &Profile) -> Result<Vec<(Architecture, Decisions)>, CompileError> {
    let wanted = |architecture: &&Architecture| {
        **architecture == Architecture::NATIVE || profile.architectures.contains(architecture)
    };
    let architectures = Architecture::compatible().iter().filter(wanted);
    architectures.map(|one| Ok((*one, decisions(profile, *one)?))).collect()
}

/// The verdict for numbers that no rule is about.
pub(super) fn unlisted(decisions: &Decisions, default: Verdict, number: u32) -> Verdict {
    let newest = decisions.last_key_value().map_or(0, |(newest, _)| *newest);
    if number > newest && matches!(default, Verdict::Errno(_)) {
        Verdict::Errno(ENOSYS)
    } else {
        default
    }
}

fn decisions(profile: &Profile, architecture: Architecture) -> Result<Decisions, CompileError> {
    let is_named =
        |call| profile.rules.iter().any(|rule| rule.names.iter().any(|name| name == call));
    let explicit = MULTIPLEXERS.map(is_named);
    let mut decisions = Decisions::new();
    for rule in &profile.rules {
        for name in &rule.names {
            if let Some(number) = numbers::number(architecture, name) {
                add(decisions.entry(number).or_default(), name, &rule.conditions, rule.verdict)?;
            }
            add_multiplexed(&mut decisions, explicit, (architecture, name), rule)?;
        }
    }
    Ok(decisions)
}

/// The calls that lead to others.
const MULTIPLEXERS: [&str; 2] = ["socketcall", "ipc"];

fn add(
    decision: &mut Decision,
    name: &str,
    conditions: &[Condition],
    verdict: Verdict,
) -> Result<(), CompileError> {
    if let Some(bad) = conditions.iter().find(|condition| condition.argument > 5) {
        return Err(CompileError::Argument { name: name.to_owned(), argument: bad.argument });
    }
    if conditions.is_empty() {
        return match decision.otherwise.replace(verdict) {
            Some(before) if before != verdict => {
                Err(CompileError::Contradiction { name: name.to_owned() })
            }
            Some(_) | None => Ok(()),
        };
    }
    if looks_twice(conditions) {
        let single = conditions.iter().map(|condition| (vec![*condition], verdict));
        decision.conditional.extend(single);
    } else {
        decision.conditional.push((conditions.to_vec(), verdict));
    }
    Ok(())
}

fn looks_twice(conditions: &[Condition]) -> bool {
    conditions.iter().enumerate().any(|(position, condition)| {
        conditions.iter().skip(position + 1).any(|later| later.argument == condition.argument)
    })
}

/// A call that can be made by way of `socketcall` or `ipc` must not be let through there if it is refused directly,
/// unless the profile speaks of `socketcall` or `ipc` itself. The filter can't see that call's own arguments, so a rule
/// with conditions is carried over only if it refuses, and then without them.
fn add_multiplexed(
    decisions: &mut Decisions,
    explicit: [bool; 2],
    (architecture, name): (Architecture, &str),
    rule: &Rule,
) -> Result<(), CompileError> {
    let Some((through, selector)) = numbers::multiplexed(architecture, name) else { return Ok(()) };
    let is_explicit =
        MULTIPLEXERS.iter().zip(explicit).any(|(call, explicit)| *call == through && explicit);
    let is_blind_grant = !rule.conditions.is_empty() && rule.verdict.lets_through();
    let Some(number) = numbers::number(architecture, through) else { return Ok(()) };
    if is_explicit || is_blind_grant {
        return Ok(());
    }
    let selected = Condition { argument: 0, comparison: Comparison::Equal(selector) };
    add(decisions.entry(number).or_default(), through, &[selected], rule.verdict)
}

fn unknown(profile: &Profile, tables: &[(Architecture, Decisions)]) -> Vec<String> {
    let is_known = |name: &str| {
        tables.iter().any(|(architecture, _)| numbers::number(*architecture, name).is_some())
    };
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let mut unknown: Vec<String> = names.filter(|name| !is_known(name)).cloned().collect();
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// A range of numbers, from its first to the next range's first, that fare alike.
struct Range<'a> {
    first: u32,
    fate: Fate<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate<'a> {
    Plain(Verdict),
    Conditional(&'a Decision),
}

/// The instructions for one architecture.
fn section(
    assembler: &mut Assembler,
    architecture: Architecture,
    decisions: &Decisions,
    default: Verdict,
) -> Label {
    /// The bit that marks calls of the x32 variant; no real number is that high.
    const X32: u32 = 0x4000_0000;
    let ranges = ranges(decisions, default);
    let mut entry = tree(assembler, &ranges, default);
    if architecture == Architecture::X86_64 {
        let verdict = if default.lets_through() { Verdict::Errno(ENOSYS) } else { default };
        let refused = assembler.verdict(verdict);
        entry = assembler.branch(JUMP_GREATER_OR_EQUAL, X32, refused, entry);
    }
    assembler.load(NUMBER, entry)
}

fn ranges(decisions: &Decisions, default: Verdict) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    let mut add = |first: u32, fate| {
        if ranges.last().is_none_or(|last| last.fate != fate) {
            ranges.push(Range { first, fate });
        }
    };
    let mut next = 0;
    for (number, decision) in decisions {
        if *number > next {
            add(next, Fate::Plain(unlisted(decisions, default, next)));
        }
        let fate = if decision.conditional.is_empty() {
            Fate::Plain(decision.otherwise.unwrap_or(default))
        } else {
            Fate::Conditional(decision)
        };
        add(*number, fate);
        next = number + 1;
    }
    add(next, Fate::Plain(unlisted(decisions, default, u32::MAX)));
    ranges
}

/// Halves the ranges until one is left; the accumulator holds the call's number.
fn tree(assembler: &mut Assembler, ranges: &[Range<'_>], default: Verdict) -> Label {
    let middle = ranges.len() / 2;
    match (ranges, ranges.get(middle)) {
        ([only], _) => leaf(assembler, only.fate, default),
        (_, Some(border)) => {
            let (low, high) = ranges.split_at(middle);
            let high = tree(assembler, high, default);
            let low = tree(assembler, low, default);
            assembler.branch(JUMP_GREATER_OR_EQUAL, border.first, high, low)
        }
        (_, None) => assembler.verdict(default),
    }
}

fn leaf(assembler: &mut Assembler, fate: Fate<'_>, default: Verdict) -> Label {
    let decision = match fate {
        Fate::Plain(verdict) => return assembler.verdict(verdict),
        Fate::Conditional(decision) => decision,
    };
    let next = assembler.verdict(decision.otherwise.unwrap_or(default));
    let rules: Vec<Conditional<'_>> =
        decision.conditional.iter().map(|(list, verdict)| (list.as_slice(), *verdict)).collect();
    chain(assembler, &rules, next)
}

/// A rule whose conditions are yet to be tested.
type Conditional<'a> = (&'a [Condition], Verdict);

/// Tests rule after rule; `next` is where to go if none holds. What neighbours have in common is tested once.
fn chain(assembler: &mut Assembler, rules: &[Conditional<'_>], next: Label) -> Label {
    let Some((first, verdict)) = rules.first() else { return next };
    let Some((condition, more)) = first.split_first() else {
        return assembler.verdict(*verdict);
    };
    let alike = rules.iter().take_while(|rule| is_alike(rule, condition)).count();
    if !more.is_empty() && alike > 1 {
        let next = chain(assembler, rules.get(alike..).unwrap_or_default(), next);
        let rest: Vec<Conditional<'_>> = rules
            .iter()
            .take(alike)
            .map(|(conditions, verdict)| (conditions.get(1..).unwrap_or_default(), *verdict))
            .collect();
        let holds = chain(assembler, &rest, next);
        return assembler.compare(condition.argument, condition.comparison, holds, next);
    }
    let values = equal_values(rules);
    let count = values.len().max(1);
    let next = chain(assembler, rules.get(count..).unwrap_or_default(), next);
    if count > 1 {
        let holds = assembler.verdict(*verdict);
        return assembler.any_of(condition.argument, &values, holds, next);
    }
    let mut holds = assembler.verdict(*verdict);
    for condition in first.iter().rev() {
        holds = assembler.compare(condition.argument, condition.comparison, holds, next);
    }
    holds
}

/// Whether the rule starts with that condition and goes on after it.
fn is_alike((conditions, _): &Conditional<'_>, condition: &Condition) -> bool {
    conditions.len() > 1 && conditions.first() == Some(condition)
}

/// The values of the rules at the front that do nothing but compare one and the same argument for equality, with one
/// and the same verdict, and values that differ in their low word only.
fn equal_values(rules: &[Conditional<'_>]) -> Vec<u64> {
    let plain = |(conditions, verdict): &Conditional<'_>| match conditions {
        [Condition { argument, comparison: Comparison::Equal(value) }] => {
            Some((*argument, value >> 32, *verdict, *value))
        }
        _ => None,
    };
    let key = |rule: (u8, u64, Verdict, u64)| (rule.0, rule.1, rule.2);
    let all = rules.iter().map_while(plain);
    let first = rules.first().and_then(plain).map(key);
    all.take_while(|rule| Some(key(*rule)) == first).map(|rule| rule.3).collect()
}
