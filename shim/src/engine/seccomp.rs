//! The system call filter of a specification, compiled before the container has a process.

use cringle_kernel::seccomp::{
    Architecture, Comparison, Condition, Filter, Flag, Profile, Rule, Verdict, compile as assemble,
};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSyscall};

use super::error::{EngineError, Result};

/// Compiles a profile.
///
/// # Errors
/// It makes no sense, or asks for what is not supported: a container never runs with less of a filter than was asked for.
pub(super) fn compile(asked: &LinuxSeccomp) -> Result<Filter> {
    if asked.listener_path().is_some() || asked.listener_metadata().is_some() {
        return Err(EngineError::Unsupported("linux.seccomp.listenerPath".to_owned()));
    }
    let rules = asked.syscalls().iter().flatten().map(rule).collect::<Result<Vec<_>>>()?;
    let flags = asked.flags().iter().flatten().map(|flag| {
        let name = flag.to_string();
        Flag::from_name(&name).ok_or_else(|| unknown("flag", &name))
    });
    let profile = Profile {
        default: verdict(asked.default_action(), asked.default_errno_ret())?,
        // Those that this machine can't run anyway have no table, and need none.
        architectures: asked.architectures().iter().flatten().filter_map(architecture).collect(),
        rules,
        flags: flags.collect::<Result<Vec<_>>>()?,
    };
    assemble(&profile).map(|compiled| compiled.filter).map_err(EngineError::Seccomp)
}

fn architecture(asked: &Arch) -> Option<Architecture> {
    if *asked == Arch::ScmpArchNative {
        return Some(Architecture::NATIVE);
    }
    Architecture::from_name(&asked.to_string())
}

fn rule(asked: &LinuxSyscall) -> Result<Rule> {
    let conditions = asked.args().iter().flatten().map(condition);
    Ok(Rule {
        names: asked.names().clone(),
        verdict: verdict(asked.action(), asked.errno_ret())?,
        conditions: conditions.collect::<Result<Vec<_>>>()?,
    })
}

fn condition(asked: &LinuxSeccompArg) -> Result<Condition> {
    let argument = u8::try_from(asked.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or_else(|| unknown("argument", &asked.index().to_string()))?;
    let name = asked.op().to_string();
    let second = asked.value_two().unwrap_or_default();
    let comparison = Comparison::from_name(&name, asked.value(), second);
    Ok(Condition { argument, comparison: comparison.ok_or_else(|| unknown("comparison", &name))? })
}

fn verdict(action: LinuxSeccompAction, number: Option<u32>) -> Result<Verdict> {
    let name = action.to_string();
    Verdict::from_name(&name, number).ok_or_else(|| unknown("action", &name))
}

fn unknown(what: &str, name: &str) -> EngineError {
    EngineError::Unsupported(format!("{what} {name} of linux.seccomp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(json: &str) -> Result<Filter> {
        compile(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_word_of_the_specification_that_is_supported_is_understood() {
        let filter = compiled(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
                "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_NATIVE"],
                "flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
                    {"names":["personality"],"action":"SCMP_ACT_ALLOW",
                     "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
                    {"names":["clone"],"action":"SCMP_ACT_ALLOW",
                     "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
                    {"names":["reboot"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
        );
        assert!(filter.unwrap().instructions() > 8);
    }

    #[test]
    fn what_is_not_supported_is_refused_and_not_left_out() {
        for json in [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(compiled(json).is_err(), "{json}");
        }
    }
}
