//! What the host holds that a runtime could leave behind, taken before and after a test and compared.

use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Files that belong to an instance and not to a pod or an image.
const STANDING: &[&str] = &["lock", "last_reserved_ip.0", "boot", "parents", "names.json"];

/// Where to look.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Directories whose files count; a process that names one counts too.
    pub directories: Vec<PathBuf>,
    /// The instance's own cgroup, in every hierarchy.
    pub cgroup: String,
    /// The bridge, which the network's configuration asks for and no pod does.
    pub bridge: String,
}

/// What was there at one moment; each line says its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks now, in the namespaces of this thread.
    pub fn take(scope: &Scope) -> Result<Self> {
        let mut lines = BTreeSet::new();
        lines.extend(processes(scope)?);
        lines.extend(mounts()?);
        lines.extend(cgroups(scope));
        lines.extend(links(scope)?);
        lines.extend(nft_elements()?);
        let found = scope.directories.iter().flat_map(|directory| files(directory));
        lines.extend(found.map(|path| format!("file {}", path.display())));
        Ok(Self(lines))
    }

    /// Waits until nothing is there that was not there then; else names what there is.
    pub async fn again(&self, scope: &Scope) -> Result<()> {
        let mut left = Vec::new();
        let settled = wait::until("nothing is left on the host", async || {
            left = Self::take(scope)?.since(self);
            Ok(left.is_empty())
        });
        if settled.await.is_err() {
            bail!("left on the host:\n{}", left.join("\n"));
        }
        Ok(())
    }

    /// What is here and is not in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Processes that name one of the directories or are in the instance's cgroup.
fn processes(scope: &Scope) -> Result<Vec<String>> {
    let mut words: Vec<String> =
        scope.directories.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    words.push(format!("/{}", scope.cgroup));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let directory = entry?.path();
        let Some(number) = process_number(&directory) else { continue };
        // A process that ends while we look is not left behind.
        let Some(traces) = traces_of(&directory) else { continue };
        if words.iter().any(|word| traces.contains(word)) {
            found.push(format!("process {number}: {traces}"));
        }
    }
    Ok(found)
}

/// The processes in a container's cgroup.
pub fn processes_in(container: &str) -> Result<Vec<u32>> {
    processes_with(|directory| {
        // A process that ends while we look has no cgroup any more.
        fs::read_to_string(directory.join("cgroup")).is_ok_and(|groups| groups.contains(container))
    })
}

/// The processes of a container and its shim.
pub fn processes_of(container: &str) -> Result<Vec<u32>> {
    processes_with(|place| traces_of(place).is_some_and(|traces| traces.contains(container)))
}

fn processes_with(matches: impl Fn(&Path) -> bool) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let directory = entry?.path();
        found.extend(process_number(&directory).filter(|_| matches(&directory)));
    }
    Ok(found)
}

fn process_number(directory: &Path) -> Option<u32> {
    let number = directory.file_name()?.to_str()?.parse().ok()?;
    (number != std::process::id()).then_some(number)
}

fn traces_of(directory: &Path) -> Option<String> {
    let command = fs::read(directory.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let place = fs::read_link(directory.join("cwd")).ok()?;
    let groups = fs::read_to_string(directory.join("cgroup")).ok()?;
    Some(format!("{command} in {} {}", place.display(), groups.replace('\n', " ")))
}

fn mounts() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let line = |line: &str| {
        let place = line.split(' ').nth(4)?;
        let kind = line.split(" - ").nth(1)?.split(' ').next()?;
        Some(format!("mount {place} ({kind})"))
    };
    Ok(table.lines().filter_map(line).collect())
}

fn cgroups(scope: &Scope) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in children(Path::new(CGROUPS)) {
        let root = hierarchy.join(&scope.cgroup);
        if root.is_dir() {
            found.extend(tree(&root).into_iter().filter(|path| path.is_dir()));
            found.push(root);
        }
    }
    found.into_iter().map(|path| format!("cgroup {}", path.display())).collect()
}

fn links(scope: &Scope) -> Result<Vec<String>> {
    let listing = json(&["ip", "-j", "link", "show"])?;
    let names = listing.as_array().context("ip lists links")?.iter();
    let names = names.filter_map(|link| link["ifname"].as_str());
    Ok(names.filter(|name| *name != scope.bridge).map(|name| format!("link {name}")).collect())
}

/// Elements of sets and maps: what is about one pod. Tables and chains belong to the instance.
fn nft_elements() -> Result<Vec<String>> {
    let listing = json(&["nft", "-j", "list", "ruleset"])?;
    let mut found = Vec::new();
    for entry in listing["nftables"].as_array().context("nft lists a ruleset")? {
        for kind in ["set", "map"] {
            let owner = &entry[kind];
            for element in owner["elem"].as_array().into_iter().flatten() {
                found.push(format!("nft {} {}: {element}", owner["table"], owner["name"]));
            }
        }
    }
    Ok(found)
}

/// Files below a directory, but for those that belong to the instance.
#[must_use]
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let ours = tree(directory).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir())
            && !STANDING.contains(&name)
    });
    ours.collect()
}

/// Everything below a directory; what vanishes meanwhile is left out.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut pending = vec![directory.to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for path in children(&directory) {
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn json(command: &[&str]) -> Result<Value> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .with_context(|| format!("failed to run \"{}\"", command[0]))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
