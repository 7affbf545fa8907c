//! Limits of a container, as asked for and as merged by updates.

use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits. Absent means "as it is": no limit at creation, unchanged at an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds per period; negative: none.
    pub cpu_quota: Option<i64>,
    /// Relative weight, 2 to 262144 (v1 units).
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Memory plus swap limit in bytes (v1 sense).
    pub memory_and_swap_limit: Option<u64>,
    /// `/proc/PID/oom_score_adj`, -1000 to 1000.
    pub oom_score_adjustment: Option<i16>,
    /// CPUs in list form (cpuset(7)).
    pub cpuset_cpus: Option<String>,
    /// Memory nodes in list form.
    pub cpuset_memory_nodes: Option<String>,
    /// Page size name as the kernel has it (`2MB`) to limit in bytes.
    pub huge_pages: BTreeMap<String, u64>,
    /// cgroup v2 files to values.
    pub unified: BTreeMap<String, String>,
    /// Memory in bytes that is left to it while others want some. Only plugins ask for it.
    #[serde(default)]
    pub memory_reservation: Option<u64>,
    /// How many processes it may have; zero or less: any number. Only plugins ask for it.
    #[serde(default)]
    pub pids_limit: Option<i64>,
}

/// What a client says that a whole pod may use. The cgroup that holds a pod to it is the client's: here it is kept, shown and
/// told to those who ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodResources {
    /// What the pod needs beyond its containers.
    pub overhead: Resources,
    /// What its containers may use together.
    pub containers: Resources,
}

/// New values for what a whole pod may use; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodResourcesChange {
    /// Replaces the overhead.
    pub overhead: Option<Resources>,
    /// Replaces what the containers may use together.
    pub containers: Option<Resources>,
}

impl PodResources {
    /// These with what a change names in place of their own.
    #[must_use]
    pub fn changed(&self, change: PodResourcesChange) -> Self {
        Self {
            overhead: change.overhead.unwrap_or_else(|| self.overhead.clone()),
            containers: change.containers.unwrap_or_else(|| self.containers.clone()),
        }
    }
}

impl Resources {
    /// These limits with an update's values in place of their own; what the update leaves out stays.
    ///
    /// # Errors
    /// Invalid, when the outcome is not what the kernel could take ([`Resources::check`]).
    pub fn merged(&self, update: &Self) -> Result<Self, Refusal> {
        let mut merged = self.clone();
        merged.cpu_period = update.cpu_period.or(self.cpu_period);
        merged.cpu_quota = update.cpu_quota.or(self.cpu_quota);
        merged.cpu_shares = update.cpu_shares.or(self.cpu_shares);
        merged.memory_limit = update.memory_limit.or(self.memory_limit);
        merged.memory_and_swap_limit = update.memory_and_swap_limit.or(self.moved_sum(update));
        merged.oom_score_adjustment = update.oom_score_adjustment.or(self.oom_score_adjustment);
        merged.cpuset_cpus = update.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone());
        merged.cpuset_memory_nodes =
            update.cpuset_memory_nodes.clone().or_else(|| self.cpuset_memory_nodes.clone());
        merged.memory_reservation = update.memory_reservation.or(self.memory_reservation);
        merged.pids_limit = update.pids_limit.or(self.pids_limit);
        merged
            .huge_pages
            .extend(update.huge_pages.iter().map(|(size, limit)| (size.clone(), *limit)));
        merged
            .unified
            .extend(update.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
        merged.check()?;
        Ok(merged)
    }

    /// The limit of memory and swap together after an update that names memory alone: the share of swap stays what it
    /// was, so that a container without swap can be given more memory.
    fn moved_sum(&self, update: &Self) -> Option<u64> {
        let sum = self.memory_and_swap_limit?;
        match (self.memory_limit, update.memory_limit) {
            (Some(old), Some(new)) => Some(sum.saturating_sub(old).saturating_add(new)),
            (None, _) | (_, None) => Some(sum),
        }
    }

    /// Whether every value is one that the kernel could take.
    ///
    /// # Errors
    /// Invalid, naming the first field that is out of bounds.
    pub fn check(&self) -> Result<(), Refusal> {
        self.check_cpu()?;
        self.check_memory()?;
        if let Some(size) = self.huge_pages.keys().find(|size| !is_page_size(size)) {
            return Err(invalid(
                "hugepage_limits",
                format!("\"{size}\" is not a page size (2MB, 1GB)"),
            ));
        }
        for (file, value) in &self.unified {
            check_unified(file, value)?;
        }
        Ok(())
    }

    fn check_cpu(&self) -> Result<(), Refusal> {
        if let Some(period) = self.cpu_period.filter(|period| !PERIODS.contains(period)) {
            return Err(invalid("cpu_period", format!("{period} is not in 1000 to 1000000 (µs)")));
        }
        if let Some(quota) = self.cpu_quota.filter(|quota| (1..1000).contains(quota)) {
            return Err(invalid(
                "cpu_quota",
                format!("{quota} is below the least quota, 1000 (µs)"),
            ));
        }
        for (field, list) in
            [("cpuset_cpus", &self.cpuset_cpus), ("cpuset_mems", &self.cpuset_memory_nodes)]
        {
            if let Some(list) = list.as_ref().filter(|list| !is_number_list(list)) {
                return Err(invalid(field, format!("\"{list}\" is not a list such as 0-3,7")));
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Refusal> {
        if let Some(score) = self.oom_score_adjustment.filter(|score| !SCORES.contains(score)) {
            return Err(invalid("oom_score_adj", format!("{score} is not in -1000 to 1000")));
        }
        for (field, limit) in [
            ("memory_limit_in_bytes", self.memory_limit),
            ("memory_swap_limit_in_bytes", self.memory_and_swap_limit),
            ("memory_reservation", self.memory_reservation),
        ] {
            if let Some(limit) = limit.filter(|limit| i64::try_from(*limit).is_err()) {
                return Err(invalid(field, format!("{limit} is more than the kernel can count")));
            }
        }
        match (self.memory_limit, self.memory_and_swap_limit) {
            (Some(memory), Some(both)) if both < memory => Err(invalid(
                "memory_swap_limit_in_bytes",
                format!("{both} (memory and swap together) is below the memory limit {memory}"),
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a path may be the parent of containers' cgroups: absolute within each hierarchy, and nowhere else.
///
/// # Errors
/// Invalid, saying what is wrong with it.
pub fn check_cgroup_parent(path: &str) -> Result<(), Refusal> {
    let refuse = |problem: &str| {
        Err(Refusal::invalid("linux.cgroup_parent", format!("{} {problem}", quoted(path))))
    };
    if !path.starts_with('/') {
        return refuse("is not absolute (the cgroupfs driver takes /kubepods/pod…)");
    }
    if path.len() > 4000 {
        return refuse("is too long");
    }
    if path.chars().any(char::is_control) {
        return refuse("contains a control character");
    }
    if path.split('/').any(|part| part == ".." || part == "." || part.len() > 255) {
        return refuse("contains a component that is no name");
    }
    Ok(())
}

const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
const SCORES: std::ops::RangeInclusive<i16> = -1000..=1000;

fn invalid(field: &str, problem: String) -> Refusal {
    Refusal::invalid(format!("linux.resources.{field}"), problem)
}

fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(256).collect();
    format!("{shown:?}")
}

/// `0-3,7`: what cpuset(7) calls the list format.
fn is_number_list(text: &str) -> bool {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse::<u32>().ok() } else { None }
    };
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => {
            number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
        }
        None => number(part).is_some(),
    })
}

fn is_page_size(text: &str) -> bool {
    ["KB", "MB", "GB"].iter().any(|unit| {
        text.strip_suffix(unit).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// A file of the container's own cgroup that holds a limit; the core files (`cgroup.*`) move processes and stay ours.
fn check_unified(file: &str, value: &str) -> Result<(), Refusal> {
    let plain =
        file.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let names_limit = file
        .split_once('.')
        .is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    if !plain || !names_limit || file.contains("..") || file.starts_with("cgroup.") {
        return Err(invalid("unified", format!("{} is not a limit's file", quoted(file))));
    }
    // Some files take several lines (io.max), so a newline is not wrong here.
    if value.contains('\0') {
        return Err(invalid("unified", format!("the value of \"{file}\" contains NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_replaces_what_it_gives_and_keeps_the_rest() {
        let mut old = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(100),
            cpuset_cpus: Some("0".to_owned()),
            ..Resources::default()
        };
        old.unified.insert("memory.high".to_owned(), "1".to_owned());
        let mut update = Resources { memory_limit: Some(200), ..Resources::default() };
        update.unified.insert("memory.low".to_owned(), "2".to_owned());
        let merged = old.merged(&update).unwrap();
        assert_eq!(merged.cpu_shares, Some(512));
        assert_eq!(merged.memory_limit, Some(200));
        assert_eq!(merged.cpuset_cpus.as_deref(), Some("0"));
        assert_eq!(merged.unified.len(), 2);
        assert_eq!(old.merged(&Resources::default()), Ok(old.clone()));
        let below = Resources { memory_and_swap_limit: Some(50), ..Resources::default() };
        old.merged(&below).unwrap_err();
    }

    #[test]
    fn values_that_the_kernel_could_not_take_are_refused_by_field() {
        let base = Resources::default;
        for (field, wrong) in [
            ("cpu_period", Resources { cpu_period: Some(999), ..base() }),
            ("cpu_period", Resources { cpu_period: Some(1_000_001), ..base() }),
            ("cpu_quota", Resources { cpu_quota: Some(10), ..base() }),
            ("cpuset_cpus", Resources { cpuset_cpus: Some("0-".to_owned()), ..base() }),
            ("cpuset_cpus", Resources { cpuset_cpus: Some("3-1".to_owned()), ..base() }),
            ("cpuset_mems", Resources { cpuset_memory_nodes: Some("0\n1".to_owned()), ..base() }),
            ("oom_score_adj", Resources { oom_score_adjustment: Some(1001), ..base() }),
            ("memory_limit_in_bytes", Resources { memory_limit: Some(u64::MAX), ..base() }),
            (
                "memory_swap_limit_in_bytes",
                Resources { memory_limit: Some(2), memory_and_swap_limit: Some(1), ..base() },
            ),
            ("hugepage_limits", Resources { huge_pages: [("2".to_owned(), 0)].into(), ..base() }),
        ] {
            let refusal = wrong.check().unwrap_err().to_string();
            assert!(refusal.starts_with(&format!("linux.resources.{field}:")), "{refusal}");
        }
        let good = Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(-1),
            cpuset_cpus: Some("0-3,7".to_owned()),
            memory_limit: Some(1),
            memory_and_swap_limit: Some(1),
            huge_pages: [("2MB".to_owned(), 0)].into(),
            unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
            ..base()
        };
        assert_eq!(good.check(), Ok(()));
    }

    #[test]
    fn unified_names_only_limits_of_the_own_cgroup() {
        for file in [
            "",
            "memory",
            ".high",
            "memory.",
            "../memory.high",
            "a/b.c",
            "cgroup.procs",
            "memory..high",
            "m.x\n",
        ] {
            let resources = Resources {
                unified: [(file.to_owned(), "1".to_owned())].into(),
                ..Resources::default()
            };
            assert!(resources.check().is_err(), "{file:?}");
        }
    }

    #[test]
    fn a_cgroup_parent_stays_inside_the_hierarchy() {
        for path in ["/", "/kubepods", "/test.slice", "/kubepods/besteffort/pod1"] {
            assert_eq!(check_cgroup_parent(path), Ok(()), "{path}");
        }
        for path in ["", "kubepods", "/a/../b", "/..", "/a/./b", "/a\nb", "/a\0", "../x"] {
            assert!(check_cgroup_parent(path).is_err(), "{path:?}");
        }
    }
}
