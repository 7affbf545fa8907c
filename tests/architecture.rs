//! Rules about the tree that a compiler doesn't hold: which crate may use which, how large a file may be, where unsafe
//! code stands. The table is the one in `src/README.md`.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Crate → crates of ours that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("cringle-domain", &[]),
    ("cringle-kernel", &[]),
    ("cringle-proto-cri", &[]),
    ("cringle-proto-nri", &[]),
    ("cringle-proto-shim", &[]),
    ("cringle-store", &["cringle-domain"]),
    ("cringle-cdi", &["cringle-domain"]),
    ("cringle-image", &["cringle-domain", "cringle-kernel", "cringle-store"]),
    ("cringle-network", &["cringle-domain", "cringle-store", "cringle-cni"]),
    ("cringle-nri", &["cringle-proto-nri"]),
    (
        "cringle-service",
        &[
            "cringle-domain",
            "cringle-store",
            "cringle-cdi",
            "cringle-image",
            "cringle-network",
            "cringle-nri",
            "cringle-proto-nri",
            "cringle-proto-shim",
            "cringle-kernel",
        ],
    ),
    ("cringle-streaming", &["cringle-domain", "cringle-service"]),
    (
        "cringle-daemon",
        &[
            "cringle-domain",
            "cringle-store",
            "cringle-cdi",
            "cringle-image",
            "cringle-network",
            "cringle-nri",
            "cringle-service",
            "cringle-streaming",
            "cringle-proto-shim",
            "cringle-proto-cri",
            "cringle-kernel",
            "cringle-cni",
        ],
    ),
    ("cringle-shim", &["cringle-kernel", "cringle-proto-shim"]),
    ("cringle-cni", &["cringle-kernel"]),
    ("cringle-tests", &["cringle-proto-cri", "cringle-proto-shim"]),
];

/// Crate → crates of others that would break what it is.
const FOREIGN: &[(&str, &[&str])] = &[
    ("cringle-domain", &["tokio", "libc", "rustix", "nix", "tracing", "tonic", "prost"]),
    ("cringle-kernel", &["tokio", "tracing", "tonic", "futures"]),
    ("cringle-store", &["tonic", "prost", "libc", "nix"]),
    ("cringle-cdi", &["tokio", "tonic", "prost", "libc", "nix"]),
    ("cringle-image", &["tonic", "prost"]),
    ("cringle-network", &["tonic", "prost"]),
    ("cringle-nri", &["tonic", "ttrpc", "libc", "nix"]),
    ("cringle-service", &["tonic", "prost"]),
    ("cringle-streaming", &["tonic", "prost", "libc", "nix"]),
    ("cringle-shim", &["tonic", "prost", "hyper", "rustls", "tracing"]),
    ("cringle-cni", &["tokio", "tracing", "futures"]),
];

/// Lines of a file without its tests.
const FILE_LIMIT: usize = 500;
const MAIN_LIMIT: usize = 150;
const USE_CASE_LIMIT: usize = 150;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, usize, &str)] = &[];

/// Words that say nothing, as the name of a file.
const EMPTY_WORDS: &[&str] =
    &["manager", "helper", "helpers", "util", "utils", "common", "handler", "misc", "data", "info"];

#[test]
fn crates_use_only_what_is_below_them() -> Result<()> {
    let packages = packages()?;
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in &packages {
        let Some(allowed) = table.get(package.name.as_str()) else {
            faults.push(format!("{} is not in the table", package.name));
            continue;
        };
        for used in own_dependencies(package) {
            if !allowed.contains(&used.as_str()) {
                faults.push(format!("{} must not use {used}", package.name));
            }
        }
    }
    let known: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    faults.extend(
        ARROWS
            .iter()
            .filter(|(name, _)| !known.contains(name))
            .map(|(name, _)| format!("{name} is in the table and not in the workspace")),
    );
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn crates_stay_what_they_are() -> Result<()> {
    let mut faults = Vec::new();
    for package in packages()? {
        let refused = FOREIGN
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
            .map_or(&[][..], |row| row.1);
        faults.extend(
            package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal)
                .filter(|dependency| refused.contains(&dependency.name.as_str()))
                .map(|dependency| format!("{} must not use {}", package.name, dependency.name)),
        );
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn files_stay_small() -> Result<()> {
    let mut faults = Vec::new();
    for file in sources()? {
        let limit = limit_of(&file.name);
        let lines = file.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > limit {
            faults.push(format!("{}: {lines} lines, at most {limit}", file.name));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn unsafe_code_is_in_the_kernel_crate_only() -> Result<()> {
    let mut faults = Vec::new();
    for file in sources()? {
        let words = words_of_code(&file.text);
        if !file.name.starts_with("src/kernel/") && words.iter().any(|word| word == "unsafe") {
            faults.push(format!("{} has unsafe code", file.name));
        }
        if file.name != "src/kernel/src/lib.rs" && words.iter().any(|word| word == "unsafe_code") {
            faults.push(format!("{} lifts the lint against unsafe code", file.name));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn names_of_files_say_what_is_in_them() -> Result<()> {
    let mut faults = Vec::new();
    for file in sources()? {
        let path = Path::new(&file.name);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if stem == "mod" {
            faults.push(format!("{}: a module lies beside its directory, not in it", file.name));
        }
        if stem.split('_').any(|word| EMPTY_WORDS.contains(&word)) {
            faults.push(format!("{}: the name says nothing", file.name));
        }
        if !file.text.starts_with("//!") {
            faults.push(format!("{}: does not begin with what it answers for", file.name));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

struct Source {
    /// Path from the root of the tree.
    name: String,
    text: String,
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("the crate has a parent directory")?.to_owned())
}

fn packages() -> Result<Vec<Package>> {
    let manifest = root()?.join("Cargo.toml");
    Ok(MetadataCommand::new().manifest_path(manifest).no_deps().exec()?.packages)
}

fn own_dependencies(package: &Package) -> Vec<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .filter(|dependency| dependency.name.starts_with("cringle-"))
        .map(|dependency| dependency.name.clone())
        .collect()
}

/// All Rust sources but those of a crate's tests: modules of that name, and its directory of them.
fn sources() -> Result<Vec<Source>> {
    let root = root()?;
    let mut pending: Vec<PathBuf> = ["src", "shim", "cni-plugins", "proto", "tests"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "tests") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.file_name().is_some_and(|name| name != "tests.rs")
            {
                let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                found.push(Source { name, text: std::fs::read_to_string(&path)? });
            }
        }
    }
    ensure!(found.len() > 50, "only {} sources were found", found.len());
    Ok(found)
}

fn limit_of(name: &str) -> usize {
    let listed = LONGER.iter().find(|(path, _, _)| *path == name);
    let use_case = ["src/service/src/pod/", "src/service/src/container/"];
    if let Some((_, limit, _)) = listed {
        *limit
    } else if name.ends_with("/main.rs") {
        MAIN_LIMIT
    } else if use_case.iter().any(|prefix| name.starts_with(prefix)) {
        USE_CASE_LIMIT
    } else {
        FILE_LIMIT
    }
}

/// Identifiers and keywords outside comments and string literals.
fn words_of_code(text: &str) -> Vec<String> {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut previous = ' ';
        for letter in line.chars() {
            if letter == '"' && previous != '\\' && previous != '\'' {
                quoted = !quoted;
            }
            if !quoted && letter == '/' && previous == '/' {
                break;
            }
            code.push(if quoted { ' ' } else { letter });
            previous = letter;
        }
        code.push('\n');
    }
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
