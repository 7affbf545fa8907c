//! Limits as the kernel has them, on either version of cgroups.

use anyhow::{Context, Result};

/// What is in a file of a controller in the cgroup of a process; the file has one name in version 1 and one in version 2.
pub fn in_force(process: i64, controller: &str, v1: &str, v2: &str) -> Result<String> {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let value = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let file = if controllers.split(',').any(|one| one == controller) {
            format!("/sys/fs/cgroup/{controllers}{path}/{v1}")
        } else {
            format!("/sys/fs/cgroup{path}/{v2}")
        };
        std::fs::read_to_string(file).ok()
    });
    let value = value.with_context(|| format!("no {controller} in {groups}"))?;
    Ok(value.trim().to_owned())
}

/// How much memory the cgroup of a process may have, in bytes.
pub fn memory(process: i64) -> Result<i64> {
    Ok(in_force(process, "memory", "memory.limit_in_bytes", "memory.max")?.parse()?)
}
