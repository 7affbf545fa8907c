//! The daemon as a service of the host: its unit file, what it tells the service manager, and what it keeps from its shims.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{Mount, NamespaceMode, NamespaceOption, StatusRequest, StatusResponse};
use cringle_tests::client::{Cri, message};
use cringle_tests::footprint::parent;
use cringle_tests::program;
use cringle_tests::request::{container, namespaces, pod, with_namespaces};
use cringle_tests::stage::{BUSYBOX, on_stage, skip};
use cringle_tests::wait;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit() -> Result<String> {
    Ok(fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/daemon/cringle.service"),
    )?)
}

/// The values of a directive, in their order.
fn values<'u>(unit: &'u str, directive: &str) -> Vec<&'u str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == directive).map(|(_, value)| value).collect()
}

#[test]
fn the_unit_has_what_keeps_containers_alive_and_nothing_that_they_would_inherit() -> Result<()> {
    let unit = unit()?;
    for (directive, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("KillMode", "process"),
        ("Delegate", "yes"),
        ("Restart", "always"),
        ("OOMScoreAdjust", "-999"),
        ("TasksMax", "infinity"),
        ("WatchdogSec", "60s"),
        ("ExecStart", "/usr/local/bin/cringle serve"),
    ] {
        ensure!(values(&unit, directive) == [value], "{directive} is not {value}");
    }
    // Whatever is not listed here has to be thought about: most directives work on all descendants of the daemon.
    let harmless = [
        "Description",
        "After",
        "Before",
        "StartLimitIntervalSec",
        "Type",
        "NotifyAccess",
        "ExecStart",
        "Restart",
        "RestartSec",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "WatchdogSec",
        "KillMode",
        "Delegate",
        "OOMScoreAdjust",
        "LimitNOFILE",
        "TasksMax",
        "WantedBy",
    ];
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, _)) = line.split_once('=') {
            ensure!(harmless.contains(&name), "{name} is not known to be harmless");
        }
    }
    Ok(())
}

#[test]
fn systemd_finds_no_fault_with_the_unit() -> Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("there is no systemd-analyze");
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cringle.service");
    // It wants the program to be there.
    let text = unit()?.replace("/usr/local/bin/cringle serve", "/bin/true");
    std::io::Write::write_all(&mut fs::File::create(&path)?, text.as_bytes())?;
    let judge = || Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let output = judge()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let about: Vec<&str> = said.lines().filter(|line| line.contains("cringle")).collect();
    ensure!(output.status.success() && about.is_empty(), "{about:?} {:?}", output.status);
    // It would find one.
    let broken = text.replace("KillMode=process", "KillMode=everything");
    std::io::Write::write_all(&mut fs::File::create(&path)?, broken.as_bytes())?;
    let said = judge()?.stderr;
    ensure!(String::from_utf8_lossy(&said).contains("kill mode"), "a fault is found");
    Ok(())
}

#[test]
fn what_is_installed_is_what_the_unit_starts() -> Result<()> {
    let place = tempfile::tempdir()?;
    let programs = place.path().join("dist");
    fs::create_dir_all(&programs)?;
    let names = ["cringle", "containerd-shim-cringle-v2", "cringle-cni"];
    for name in names {
        std::io::Write::write_all(&mut fs::File::create(programs.join(name))?, name.as_bytes())?;
    }
    let output = Command::new("make")
        .arg("-C")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .arg("install")
        .arg(format!("DIST={}", programs.display()))
        .arg(format!("DESTDIR={}", place.path().join("image").display()))
        .arg("PREFIX=/opt/cringle")
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = place.path().join("image/opt/cringle");
    for name in names {
        use std::os::unix::fs::PermissionsExt as _;
        let path = root.join("bin").join(name);
        ensure!(fs::read_to_string(&path)? == name, "{name} is another");
        ensure!(path.metadata()?.permissions().mode() & 0o777 == 0o755, "{name} can be run");
    }
    let unit = fs::read_to_string(root.join("lib/systemd/system/cringle.service"))?;
    ensure!(values(&unit, "ExecStart") == ["/opt/cringle/bin/cringle serve"], "{unit}");
    Ok(())
}

/// What the service manager was told so far, taken.
fn told(manager: &UnixDatagram) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match manager.recv(&mut buffer) {
            Ok(length) => told.push(String::from_utf8(buffer[..length].to_vec())?),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(told),
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn the_service_manager_is_told_and_the_watchdog_only_while_requests_are_answered() -> Result<()> {
    on_stage(async |stage| {
        let place = stage.directory().join("manager");
        let manager = UnixDatagram::bind(&place)?;
        manager.set_nonblocking(true)?;
        stage.daemon.stop().await?;
        stage.daemon.tell("NOTIFY_SOCKET", &place.display().to_string());
        stage.daemon.tell("WATCHDOG_USEC", "300000");
        stage.start_again().await?;
        let heard = async |wanted: &str| {
            let mut all = Vec::new();
            wait::until(wanted, async || {
                all.extend(told(&manager)?);
                Ok(all.iter().any(|line| line.contains(wanted)))
            })
            .await
        };
        heard("READY=1").await?;
        heard("WATCHDOG=1").await?;

        // Somebody else sits on the socket and answers nothing.
        let (socket, aside) = (stage.daemon.socket(), stage.directory().join("aside.sock"));
        fs::rename(&socket, &aside)?;
        let deaf = UnixListener::bind(&socket)?;
        let log = stage.directory().join("daemon.log");
        let complaints = || {
            Ok::<_, anyhow::Error>(
                fs::read_to_string(&log)?.matches("does not answer itself").count(),
            )
        };
        // One request is made after the other: after a complaint the next one goes to the deaf.
        let before = complaints()?;
        wait::until("the daemon notices", async || Ok(complaints()? > before)).await?;
        drop(told(&manager)?);
        let before = complaints()?;
        wait::until("it notices again", async || Ok(complaints()? > before)).await?;
        let meanwhile = told(&manager)?;
        ensure!(meanwhile.is_empty(), "all was said to be well: {meanwhile:?}");
        drop(deaf);
        fs::rename(&aside, &socket)?;
        heard("WATCHDOG=1").await?;
        stage.daemon.stop().await?;
        heard("STOPPING=1").await?;
        stage.start_again().await
    })
}

/// The descriptors of a process that lead to this pipe.
fn holds(process: u32, pipe: &str) -> Result<bool> {
    let entries = fs::read_dir(format!("/proc/{process}/fd"))?;
    let mut links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.any(|link| link == Path::new(pipe)))
}

#[test]
fn what_the_daemon_s_starter_left_open_reaches_no_shim_and_no_container() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        stage.daemon.stop().await?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipe =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&write)))?;
        let pipe = pipe.to_str().context("a pipe has a number")?.to_owned();
        fcntl_setfd(&write, FdFlags::empty())?;
        let started = stage.start_again().await;
        fcntl_setfd(&write, FdFlags::CLOEXEC)?;
        started?;
        let config = container("main", BUSYBOX, &["sleep", "600"]);
        let (pod, id) = stage.cri.start_in_pod(&pod("stray"), &config).await?;
        let process = u32::try_from(stage.cri.process(&id).await?)?;
        let shim = parent(process)?;
        ensure!(holds(stage.daemon.id()?, &pipe)?, "the daemon has inherited it");
        ensure!(!holds(shim, &pipe)?, "the shim holds it");
        ensure!(!holds(process, &pipe)?, "the container holds it");
        drop(read);
        stage.cri.take_away(&pod).await
    })
}

async fn status(cri: &mut Cri) -> Result<StatusResponse> {
    Ok(cri.runtime.status(StatusRequest { verbose: false }).await?.into_inner())
}

/// Whether the runtime is ready, and why not.
fn ready(status: &StatusResponse) -> Result<(bool, String)> {
    let conditions = &status.status.as_ref().context("there is a status")?.conditions;
    let ready = conditions.iter().find(|one| one.r#type == "RuntimeReady");
    let ready = ready.context("there is the condition")?;
    Ok((ready.status, format!("{}: {}", ready.reason, ready.message)))
}

/// A program that runs another one on a kernel without mount_setattr(2), by a filter of system calls.
fn without_mount_setattr(directory: &Path) -> Result<PathBuf> {
    const SCRIPT: &str = r#"#!/usr/bin/env python3
import ctypes, os, struct, sys
# Load the number; if it is 442 (on every architecture) answer ENOSYS, else allow.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 442), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) != 0:
    sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;
    let path = directory.join("old-kernel");
    program::write(&path, SCRIPT)?;
    Ok(path)
}

#[test]
fn on_a_kernel_without_mount_setattr_nothing_is_claimed() -> Result<()> {
    on_stage(async |stage| {
        let now = status(&mut stage.cri).await?;
        ensure!(ready(&now)?.0, "{now:?}");
        ensure!(now.features.is_some_and(|features| features.mount_options), "it is offered");
        stage.cri.pull(BUSYBOX).await?;
        stage.daemon.stop().await?;
        let old = without_mount_setattr(stage.directory())?;
        stage.daemon.run_by(Some(&old));
        stage.start_again().await?;

        let then = status(&mut stage.cri).await?;
        let (is_ready, why) = ready(&then)?;
        ensure!(!is_ready && why.contains("mount-setattr"), "{why}");
        for handler in &then.runtime_handlers {
            let features = handler.features.context("features are told")?;
            ensure!(!features.recursive_read_only_mounts, "{handler:?}");
            ensure!(!features.user_namespaces, "{handler:?}");
        }
        ensure!(then.features.is_some_and(|features| !features.mount_options), "{then:?}");

        // What needs no mount of a container goes on; what does says what is missing.
        let node = NamespaceOption { network: NamespaceMode::Node.into(), ..namespaces() };
        let config = with_namespaces(pod("old"), node);
        let pod = stage.cri.run_pod(&config).await?;
        let mut main = container("main", BUSYBOX, &["true"]);
        main.mounts.push(Mount {
            host_path: stage.directory().display().to_string(),
            container_path: "/data".to_owned(),
            readonly: true,
            recursive_read_only: true,
            ..Mount::default()
        });
        let refused = message(&stage.cri.create((&pod, &config), &main).await);
        ensure!(refused.contains("RROUnsupported: "), "{refused}");
        ensure!(refused.contains("mount-setattr"), "{refused}");
        main.mounts.clear();
        let id = stage.cri.create((&pod, &config), &main).await?;
        let failed = message(&stage.cri.start(&id).await);
        ensure!(failed.contains("mount_setattr"), "{failed}");
        let output = Command::new(&old)
            .arg(stage.daemon.program())
            .args(["check", "--config"])
            .arg(stage.daemon.configuration())
            .output()?;
        let report = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(1), "{report}");
        ensure!(
            report.lines().any(|line| line.starts_with("FAIL") && line.contains("mount-setattr")),
            "{report}"
        );
        stage.cri.take_away(&pod).await?;

        stage.daemon.stop().await?;
        stage.daemon.run_by(None);
        stage.start_again().await?;
        ensure!(ready(&status(&mut stage.cri).await?)?.0, "it is ready again");
        Ok(())
    })
}
