//! The programs that the daemon starts: there, and running here.

use super::finding::{Area, Finding};
use super::scratch::existing;
use crate::config::{CheckpointKeys, CheckpointLevel, Settings};
use cringle_service::checkpoint::Criu;
use cringle_service::supervisor::{self, PinError, ShimProgram};
use serde::Deserialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// How long a program may take to tell its versions.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that it may say.
const OUTPUT_LIMIT: u64 = 1 << 20;

pub(super) async fn check(settings: &Settings, beside: &Path) -> Vec<Finding> {
    let mut findings = shim(&settings.shim.path.path(beside), settings.daemon.root.as_path());
    findings.push(own_plugins(&settings.network.plugin_program.path(beside)).await);
    findings.push(checkpoints(&settings.checkpoint).await);
    findings
}

/// Runs the shim as the daemon does, from a copy in memory, and has it try what pods with users of their own need.
fn shim(path: &Path, root: &Path) -> Vec<Finding> {
    let shown = format!("\"{}\"", path.display());
    let fails = |error: &dyn std::error::Error| {
        let detail = format!("{shown}: {}", cringle_service::error::chain(error));
        let hint = "install it beside the daemon, or name it in `shim.path`";
        Finding::failure(Area::Programs, "shim", detail, hint)
    };
    let program = match ShimProgram::load(path) {
        Ok(program) => program,
        Err(error) => return vec![fails(&error)],
    };
    let runs = Finding::fine(Area::Programs, "shim", format!("{shown} runs"));
    match supervisor::probe(&program, existing(root)) {
        Ok(()) => vec![
            runs,
            Finding::fine(Area::Kernel, "user namespaces", "work, with mapped ids in `root`"),
        ],
        Err(error @ PinError::Run(_)) => vec![fails(&error)],
        Err(PinError::Refused(words)) => {
            let hint = "pods with users of their own are refused; needs Linux 5.19, user namespaces \
                        (sysctl user.max_user_namespaces) and a file system with idmapped mounts";
            vec![runs, Finding::warning(Area::Kernel, "user namespaces", words, hint)]
        }
    }
}

async fn own_plugins(path: &Path) -> Finding {
    let shown = format!("\"{}\"", path.display());
    match versions(path, "loopback").await {
        Ok(versions) => {
            let detail = format!("{shown} runs, CNI {}", versions.join(", "));
            Finding::fine(Area::Programs, "network plugins", detail)
        }
        Err(error) => {
            let hint = "the daemon has them built in; install it if others are to use them";
            let detail = format!("{shown}: {error}");
            Finding::warning(Area::Programs, "network plugins", detail, hint)
        }
    }
}

/// Whether checkpoints can be made. Who needs none has nothing to do.
async fn checkpoints(settings: &CheckpointKeys) -> Finding {
    const SUBJECT: &str = "criu";
    if settings.level == CheckpointLevel::None {
        return Finding::fine(Area::Programs, SUBJECT, "not needed: checkpoint.level is \"none\"");
    }
    match Criu::find(settings.criu.path()).await {
        Ok(criu) => {
            let detail =
                format!("\"{}\" works, version {}", criu.program().display(), criu.version());
            Finding::fine(Area::Programs, SUBJECT, detail)
        }
        Err(problem) => {
            let hint = "only checkpoints of containers need it";
            Finding::fine(Area::Programs, SUBJECT, problem).with_hint(hint)
        }
    }
}

#[derive(Deserialize)]
struct Versions {
    #[serde(default, rename = "supportedVersions")]
    supported: Vec<String>,
}

/// The versions of the protocol that a network plugin speaks, by its own word (CNI 1.1, VERSION).
///
/// # Errors
/// Why it does not tell them.
pub(super) async fn versions(program: &Path, name: &str) -> Result<Vec<String>, String> {
    let told = tokio::time::timeout(PATIENCE, ask(program, name)).await;
    let told = told.map_err(|_elapsed| format!("did not end within {} s", PATIENCE.as_secs()))?;
    let told = told.map_err(|error| error.to_string())?;
    let versions: Versions =
        serde_json::from_slice(&told).map_err(|error| format!("answered no versions: {error}"))?;
    Ok(versions.supported)
}

async fn ask(program: &Path, name: &str) -> std::io::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg0(name)
        .env_remove("NOTIFY_SOCKET")
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read it tells by its answer.
        if input.write_all(br#"{"cniVersion":"1.1.0"}"#).await.is_err() {}
    }
    let mut told = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(OUTPUT_LIMIT).read_to_end(&mut told).await?;
    }
    child.wait().await?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn script(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("program");
        cringle_store::atomic::replace(&path, text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_plugin_tells_its_versions_or_why_not() {
        let place = tempfile::tempdir().unwrap();
        let good = "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.4.0\",\"1.0.0\"]}'\n";
        assert_eq!(versions(&script(place.path(), good), "x").await.unwrap(), ["0.4.0", "1.0.0"]);
        let silent = script(place.path(), "#!/bin/sh\nexit 3\n");
        assert!(versions(&silent, "x").await.unwrap_err().starts_with("answered no versions"));
        versions(&place.path().join("nothing"), "x").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_criu_that_is_not_there_is_a_hint_and_no_failure() {
        let keys = |level| CheckpointKeys {
            criu: PathBuf::from("/nonexistent/criu").try_into().unwrap(),
            level,
            timeout: "1s".to_owned().try_into().unwrap(),
        };
        let missing = checkpoints(&keys(CheckpointLevel::CheckpointOnly)).await;
        assert_eq!(missing.verdict, Verdict::Ok);
        assert!(missing.detail.contains("/nonexistent/criu") && missing.hint.is_some());
        let off = checkpoints(&keys(CheckpointLevel::None)).await;
        assert_eq!((off.verdict, off.hint), (Verdict::Ok, None));
    }

    #[test]
    fn a_shim_that_is_not_there_fails() {
        let place = tempfile::tempdir().unwrap();
        let findings = shim(&place.path().join("shim"), place.path());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].verdict, Verdict::Failed);
    }
}
