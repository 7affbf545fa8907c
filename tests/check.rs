//! `cringle check`: what it says of this host, and of hosts on which something is missing.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_tests::inventory::{Inventory, files};
use cringle_tests::stage::{Stage, on_stage};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A report.
struct Report {
    good: bool,
    text: String,
    findings: Vec<Value>,
}

impl Report {
    fn of(output: &Output) -> Result<Self> {
        let text = String::from_utf8(output.stdout.clone())?;
        let json: Value = serde_json::from_str(&text)
            .with_context(|| format!("{text:?} {:?}", String::from_utf8_lossy(&output.stderr)))?;
        let good = output.status.success();
        ensure!(good == (json["ok"] == true), "the exit status says otherwise: {text}");
        ensure!(good || output.status.code() == Some(1), "{:?}", output.status);
        let findings = json["findings"].as_array().context("there are findings")?.clone();
        Ok(Self { good, text, findings })
    }

    /// What was found about that.
    fn about(&self, subject: &str) -> Result<(&str, &str)> {
        let found = self.findings.iter().find(|one| one["subject"] == subject);
        let found = found.with_context(|| format!("nothing about {subject:?}: {}", self.text))?;
        let word = |key: &str| found[key].as_str().context("a word");
        let hinted = found["hint"].is_string();
        ensure!(hinted == (found["verdict"] != "ok"), "a hint where one is needed: {found}");
        Ok((word("verdict")?, word("detail")?))
    }

    fn fails(&self, subject: &str, detail: &str) -> Result<()> {
        let (verdict, found) = self.about(subject)?;
        ensure!(verdict == "failed" && found.contains(detail), "{subject}: {verdict}, {found:?}");
        ensure!(!self.good, "one failure is enough");
        Ok(())
    }

    fn is_ok(&self, subject: &str, detail: &str) -> Result<()> {
        let (verdict, found) = self.about(subject)?;
        ensure!(verdict == "ok" && found.contains(detail), "{subject}: {verdict}, {found:?}");
        Ok(())
    }
}

fn check(stage: &Stage, config: &Path) -> Result<Report> {
    let mut command = Command::new(stage.daemon.program());
    Report::of(&command.args(["check", "--json", "--config"]).arg(config).output()?)
}

/// A copy of the stage's configuration with one text in place of another.
fn changed(stage: &Stage, from: &str, to: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(stage.daemon.configuration())?;
    ensure!(text.contains(from), "{from:?} is not in {text}");
    let path = stage.directory().join("changed.toml");
    write(&path, &text.replacen(from, to, 1))?;
    Ok(path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    Ok(fs::File::create(path)?.write_all(text.as_bytes())?)
}

#[test]
fn this_host_is_fit_and_stays_as_it_was() -> Result<()> {
    on_stage(async |stage| {
        let config = stage.daemon.configuration();
        let (before, kept) = (Inventory::take(&stage.daemon.scope())?, files(stage.directory()));
        let report = check(stage, &config)?;
        ensure!(report.good, "{}", report.text);
        report.is_ok("socket", "is served by a daemon of this instance")?;
        for (subject, detail) in [
            ("user", "root"),
            ("mount-setattr", "there"),
            ("network namespace", "can be made"),
            ("bridge", "can be made"),
            ("veth", "can be made"),
            ("macvlan", "can be made"),
            ("nftables", "can be made"),
            ("user namespaces", "work"),
            ("root", "is there"),
            ("overlay", "works"),
            ("shim", "runs"),
            ("plugin bridge", "built in"),
            ("plugin host-local", "built in"),
            ("plugin portmap", "built in"),
        ] {
            report.is_ok(subject, detail)?;
        }
        for area in ["daemon", "kernel", "cgroups", "directories", "programs", "network"] {
            ensure!(report.findings.iter().any(|one| one["area"] == area), "nothing about {area}");
        }
        let left = Inventory::take(&stage.daemon.scope())?.since(&before);
        ensure!(left.is_empty(), "left on the host: {left:?}");
        ensure!(files(stage.directory()) == kept, "files were left");

        stage.daemon.stop().await?;
        check(stage, &config)?.is_ok("socket", "is free")?;
        let table = Command::new(stage.daemon.program())
            .args(["check", "--config"])
            .arg(&config)
            .output()?;
        let table = String::from_utf8(table.stdout)?;
        let column = |subject: &str| table.lines().find_map(|line| line.find(subject));
        ensure!(column("mount-setattr").is_some(), "{table}");
        ensure!(column("mount-setattr") == column("user namespaces"), "columns: {table}");
        stage.start_again().await
    })
}

#[test]
fn what_is_wrong_with_a_configuration_or_a_directory_is_told_with_a_hint() -> Result<()> {
    on_stage(async |stage| {
        let typo = changed(stage, "instance =", "instanze =")?;
        check(stage, &typo)?.fails("configuration", "instanze: there is no such key")?;
        let absent = stage.directory().join("absent.toml");
        check(stage, &absent)?.fails("configuration", "No such file")?;

        let root = stage.daemon.root().display().to_string();
        let file = stage.directory().join("file");
        write(&file, "")?;
        let below = changed(stage, &root, &file.join("root").display().to_string())?;
        check(stage, &below)?.fails("root", "is no directory")?;

        let fixed = stage.directory().join("fixed");
        fs::create_dir_all(&fixed)?;
        rustix::mount::mount("none", &fixed, c"tmpfs", MountFlags::RDONLY, None)?;
        let read_only = changed(stage, &root, &fixed.join("root").display().to_string())?;
        let report = check(stage, &read_only);
        rustix::mount::unmount(&fixed, UnmountFlags::empty())?;
        report?.fails("root", "is on a read-only file system")?;

        let small = stage.directory().join("small");
        fs::create_dir_all(&small)?;
        rustix::mount::mount("none", &small, c"tmpfs", MountFlags::empty(), c"size=8m")?;
        let full = changed(stage, &root, &small.join("root").display().to_string())?;
        let report = check(stage, &full)?;
        ensure!(small.read_dir()?.next().is_none(), "something was left in it");
        rustix::mount::unmount(&small, UnmountFlags::empty())?;
        report.fails("space", "MiB free")?;
        report.is_ok("root", "will be made (tmpfs)")
    })
}

#[test]
fn a_missing_program_or_plugin_and_a_taken_socket_are_told_with_a_hint() -> Result<()> {
    on_stage(async |stage| {
        let absent = changed(stage, "[log]", "[shim]\npath = \"/nonexistent/shim\"\n[log]")?;
        check(stage, &absent)?.fails("shim", "/nonexistent/shim")?;

        let socket = stage.directory().join("other.sock");
        let other = UnixListener::bind(&socket)?;
        let own = stage.daemon.socket().display().to_string();
        let taken = changed(stage, &own, &socket.display().to_string())?;
        stage.daemon.stop().await?;
        check(stage, &taken)?.fails("socket", "is served by another program")?;
        drop(other);

        let config = stage.daemon.configuration();
        let networks = stage.directory().join("net.d");
        let list = networks.join("10-bridge.conflist");
        let text = fs::read_to_string(&list)?;
        write(&list, &text.replace("\"portmap\"", "\"teleport\""))?;
        check(stage, &config)?.fails("plugin teleport", "no plugin \"teleport\"")?;
        let plugin = stage.directory().join("plugins/teleport");
        write(&plugin, "#!/bin/sh\necho '{\"supportedVersions\": [\"0.3.0\"]}'\n")?;
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))?;
        check(stage, &config)?.fails("plugin teleport", "speaks CNI 0.3.0")?;
        write(&plugin, "#!/bin/sh\necho '{\"supportedVersions\": [\"1.1.0\"]}'\n")?;
        check(stage, &config)?.is_ok("plugin teleport", "CNI 1.1.0")?;

        write(&list, "{ \"name\": ")?;
        let report = check(stage, &config)?;
        let (verdict, detail) = report.about("configuration")?;
        ensure!(verdict == "ok", "the daemon's own comes first: {detail}");
        let network = report
            .findings
            .iter()
            .find(|one| one["area"] == "network" && one["subject"] == "configuration");
        let network = network.context("the network's configuration")?;
        ensure!(network["verdict"] == "warning", "it may come later: {network}");
        ensure!(network["detail"].as_str().is_some_and(|text| text.contains("passed over")));
        write(&list, &text)?;
        stage.start_again().await
    })
}

#[test]
fn a_user_who_is_not_root_is_told_so() -> Result<()> {
    on_stage(async |stage| {
        // Where everybody may look.
        let place = tempfile::Builder::new().prefix("cringle-test-").tempdir_in("/run")?;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["cringle", "containerd-shim-cringle-v2"] {
            let program = stage.daemon.program().with_file_name(name);
            fs::copy(program, place.path().join(name))?;
        }
        let config = place.path().join("config.toml");
        fs::copy(stage.daemon.configuration(), &config)?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
            .arg(place.path().join("cringle"))
            .args(["check", "--json", "--config"])
            .arg(&config)
            .output()?;
        let report = Report::of(&output)?;
        report.fails("user", "uid 65534")?;
        report.fails("network namespace", "not permitted")?;
        ensure!(report.findings.iter().all(|one| {
            !one["detail"].as_str().is_some_and(|detail| detail.contains("panicked"))
        }));
        Ok(())
    })
}
