//! What a process may be that was not begun but restored: no more than its plan makes of one that is begun.

use cringle_kernel::capability::{Capability, CapabilitySet};
use cringle_kernel::rlimit::{self, LimitedResource};

use super::ProcessPlan;
use crate::engine::security::Privileges;

/// The mode of a process whose system calls are filtered, in `/proc/PID/status`.
const FILTERED: &str = "2";
/// Ways of scheduling that anybody may ask for (sched(7)).
const OTHER: i64 = 0;
const BATCH: i64 = 3;
const IDLE: i64 = 5;

/// How `/proc/PID/limits` calls the limits that bound what a process takes from others.
const LIMITS: [(&str, &str); 10] = [
    ("Max core file size", "CORE"),
    ("Max data size", "DATA"),
    ("Max stack size", "STACK"),
    ("Max processes", "NPROC"),
    ("Max open files", "NOFILE"),
    ("Max locked memory", "MEMLOCK"),
    ("Max pending signals", "SIGPENDING"),
    ("Max msgqueue size", "MSGQUEUE"),
    ("Max nice priority", "NICE"),
    ("Max realtime priority", "RTPRIO"),
];

impl ProcessPlan {
    /// Compares the plan with the `status` of a process in `/proc`. A process may have less than the plan says, and may have
    /// become another user if the plan's may.
    ///
    /// # Errors
    /// What it has more.
    pub(in crate::engine) fn require_allowed(&self, status: &str) -> Result<(), String> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).ok_or_else(|| format!("the kernel does not tell its {name}"))
        };
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let text = field(name)?;
            let bits = u64::from_str_radix(text, 16).map_err(|_odd| format!("{name} is {text}"))?;
            let more = CapabilitySet::from_bits(bits).minus(self.capabilities_at_most(name));
            if !more.is_empty() {
                let names: Vec<_> = more.iter().map(|one| one.to_string()).collect();
                return Err(format!("it has {} in {name}", names.join(", ")));
            }
        }
        if self.privileges == Privileges::Fixed && field("NoNewPrivs")? != "1" {
            return Err("it may gain privileges".to_owned());
        }
        if self.bounds.filter.is_some() && field("Seccomp")? != FILTERED {
            return Err("its system calls are not filtered".to_owned());
        }
        self.require_user(field("Uid")?, field("Gid")?, field("Groups")?)
    }

    /// Compares the plan with the `limits` and the `oom_score_adj` of a process in `/proc`: none may be further than the plan
    /// or, where it says nothing, our own.
    ///
    /// # Errors
    /// Which one is.
    pub(in crate::engine) fn require_bounded(
        &self,
        limits: &str,
        score: &str,
    ) -> Result<(), String> {
        if self.may("CAP_SYS_RESOURCE") {
            return Ok(());
        }
        for (label, name) in LIMITS {
            let Some(resource) = LimitedResource::from_name(name) else { continue };
            let line = limits.lines().find_map(|line| line.strip_prefix(label));
            let hard = line.and_then(|line| line.split_whitespace().nth(1));
            let hard = match hard {
                Some("unlimited") => u64::MAX,
                Some(number) => number.parse().map_err(|_odd| format!("its {name} is {number}"))?,
                None => return Err(format!("the kernel does not tell its {name}")),
            };
            let planned = self.limits.iter().find(|(known, _)| *known == resource);
            let most = planned.map_or_else(|| rlimit::get(resource).hard, |(_, pair)| pair.hard);
            if hard > most {
                return Err(format!("its {name} is {hard} and may be {most}"));
            }
        }
        let score: i32 = score.trim().parse().map_err(|_odd| format!("its score is {score}"))?;
        match self.oom_score.filter(|least| score < *least) {
            Some(least) => Err(format!("its oom_score_adj is {score} and may be {least}")),
            None => Ok(()),
        }
    }

    /// Looks at the `stat` of a thread in `/proc`: one that may not ask for it has no more of the processors than others.
    ///
    /// # Errors
    /// It has.
    pub(in crate::engine) fn require_scheduled(&self, stat: &str) -> Result<(), String> {
        // Fields 19 and 41; the name in field 2 may have anything in it.
        let fields: Vec<&str> = match stat.rsplit_once(')') {
            Some((_, rest)) => rest.split_whitespace().collect(),
            None => Vec::new(),
        };
        let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
        let (Some(nice), Some(policy)) = (field(19), field(41)) else {
            return Err("the kernel does not tell how it is scheduled".to_owned());
        };
        let is_ordinary = nice >= 0 && matches!(policy, OTHER | BATCH | IDLE);
        if is_ordinary || self.may("CAP_SYS_NICE") {
            return Ok(());
        }
        Err(format!("it is scheduled before others: nice {nice}, policy {policy}"))
    }

    /// Whether a process by this plan can have a capability.
    fn may(&self, capability: &str) -> bool {
        let set = match self.privileges {
            Privileges::Fixed => self.capabilities.permitted,
            Privileges::MayGrow => self.capabilities.bounding,
        };
        Capability::from_name(capability).is_some_and(|one| set.contains(one))
    }

    /// A program that is executed may gain what is in the bounding set, unless it is barred from gaining anything.
    fn capabilities_at_most(&self, set: &str) -> CapabilitySet {
        match (self.privileges, set) {
            (Privileges::Fixed, "CapPrm" | "CapEff" | "CapAmb") => {
                self.capabilities.permitted.or(self.capabilities.ambient)
            }
            (Privileges::Fixed | Privileges::MayGrow, _) => self.capabilities.bounding,
        }
    }

    fn require_user(&self, users: &str, groups: &str, others: &str) -> Result<(), String> {
        let all =
            |text: &str, wanted: u32| text.split_whitespace().all(|one| one.parse() == Ok(wanted));
        if !self.may("CAP_SETUID") && !all(users, self.user) {
            let wanted = self.user;
            return Err(format!("its user is {users}; it may be {wanted} only"));
        }
        let known = |text: &str| {
            let mut groups = text.split_whitespace().map(str::parse::<u32>);
            groups.all(|one| one.is_ok_and(|one| one == self.group || self.groups.contains(&one)))
        };
        let all_known = known(groups) && known(others);
        if !self.may("CAP_SETGID") && !all_known {
            return Err(format!("its groups are {groups} and {others}, which are not its own"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn status(changes: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("Uid", "7 7 7 7"),
            ("Gid", "8 8 8 8"),
            ("Groups", "9"),
            ("CapInh", "0"),
            ("CapPrm", "0"),
            ("CapEff", "0"),
            ("CapBnd", "0000000000000400"),
            ("CapAmb", "0"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "0"),
        ];
        for (name, value) in changes {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value));
        }
        fields.iter().map(|(name, value)| format!("{name}:\t{value}\n")).collect()
    }

    #[test]
    fn a_process_may_have_less_than_its_plan_and_not_more() {
        let plan = parse(
            r#"{"user":{"uid":7,"gid":8,"additionalGids":[9]},"cwd":"/","args":["sh"],
                "noNewPrivileges":true,"capabilities":{"bounding":["CAP_NET_BIND_SERVICE"]}}"#,
        )
        .unwrap();
        plan.require_allowed(&status(&[])).unwrap();
        plan.require_allowed(&status(&[("Groups", ""), ("CapBnd", "0")])).unwrap();
        for (name, value, word) in [
            ("Uid", "7 0 7 7", "its user is 7 0 7 7"),
            ("Gid", "0 0 0 0", "its groups are"),
            ("Groups", "9 0", "its groups are"),
            ("CapBnd", "0000000000200400", "CAP_SYS_ADMIN in CapBnd"),
            ("CapEff", "400", "CAP_NET_BIND_SERVICE in CapEff"),
            ("CapEff", "x", "CapEff is x"),
            ("NoNewPrivs", "0", "gain privileges"),
        ] {
            let problem = plan.require_allowed(&status(&[(name, value)])).unwrap_err();
            assert!(problem.contains(word), "{name} {value}: {problem}");
        }
        plan.require_allowed("").unwrap_err();
    }

    #[test]
    fn limits_and_scheduling_are_no_further_than_the_plans() {
        let plan = parse(
            r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"],"oomScoreAdj":100,
                "rlimits":[{"type":"RLIMIT_NOFILE","soft":10,"hard":20}]}"#,
        )
        .unwrap();
        let limits = |files: &str| -> String {
            let value = |name| if name == "NOFILE" { files } else { "0" };
            LIMITS
                .iter()
                .map(|(label, name)| format!("{label}  0  {}  x\n", value(*name)))
                .collect()
        };
        plan.require_bounded(&limits("20"), "100\n").unwrap();
        plan.require_bounded(&limits("21"), "100").unwrap_err();
        plan.require_bounded(&limits("unlimited"), "100").unwrap_err();
        plan.require_bounded(&limits("20"), "-1").unwrap_err();
        plan.require_bounded("", "100").unwrap_err();
        let stat = |nice: &str, policy: &str| {
            let mut fields = vec!["0"; 50];
            (fields[16], fields[38]) = (nice, policy);
            format!("7 (a ) b) {}", fields.join(" "))
        };
        plan.require_scheduled(&stat("0", "0")).unwrap();
        plan.require_scheduled(&stat("19", "5")).unwrap();
        plan.require_scheduled(&stat("-1", "0")).unwrap_err();
        plan.require_scheduled(&stat("0", "1")).unwrap_err();
        plan.require_scheduled("").unwrap_err();
    }

    #[test]
    fn who_may_become_another_may_be_another() {
        let plan = parse(
            r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["sh"],
                "capabilities":{"bounding":["CAP_SETUID","CAP_SETGID"]}}"#,
        )
        .unwrap();
        let bounding = ("CapBnd", "c0");
        plan.require_allowed(&status(&[bounding, ("NoNewPrivs", "0")])).unwrap();
        plan.require_allowed(&status(&[bounding, ("CapEff", "200000")])).unwrap_err();
    }
}
