//! Archives are foreign input: nothing of them but memory and written files gets into a pod that is made of them, and
//! processes that have more than the request allows do not run.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    Capability, ContainerConfig, Int64Value, Mount, RestorePodRequest, SecurityProfile,
    security_profile::ProfileType,
};
use cringle_tests::captured::{
    Captured, ON, captured, counter, goes_on, logged, one, require_nothing, restore,
};
use cringle_tests::client::{code, message};
use cringle_tests::criu;
use cringle_tests::request::with_security;
use cringle_tests::stage::{BUSYBOX, Stage};
use cringle_tests::wait::until;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use tonic::Code;

#[test]
fn criu_can_write_nothing_of_the_host() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let places = [stage.directory().join("breach"), "/etc/cringle-breach".into()];
        let tries: Vec<_> =
            places.iter().map(|place| format!("echo > \"{}\"", place.display())).collect();
        let lines = format!(
            "case \"$1\" in restore) ({}) 2>/dev/null;; esac; exec criu \"$@\"",
            tries.join("; ")
        );
        let script = criu::script(stage.directory(), &lines)?;
        stage.configure(&format!("criu = \"{}\"\n", script.display())).await?;
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        for place in &places {
            ensure!(!place.exists(), "{} was written", place.display());
        }
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn processes_with_more_than_is_asked_for_do_not_run() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let request = |stage: &Stage, container: ContainerConfig| -> Result<RestorePodRequest> {
            let container_configs = vec![container];
            Ok(RestorePodRequest { container_configs, ..captured.request(stage)? })
        };
        // What the images say is more than these allow, as it would be if somebody had changed the images.
        let none = || Capability { drop_capabilities: vec!["ALL".into()], ..Capability::default() };
        let other_user = with_security(counter("main"), |security| {
            security.run_as_user = Some(Int64Value { value: 1000 });
            security.capabilities = Some(none());
        });
        let fixed = with_security(counter("main"), |security| security.no_new_privs = true);
        let mut mounted = counter("main");
        mounted.mounts.push(Mount {
            container_path: "/data".into(),
            host_path: stage.directory().display().to_string(),
            ..Mount::default()
        });
        let read_only = with_security(counter("main"), |security| {
            security.readonly_rootfs = true;
        });
        let masked = with_security(counter("main"), |security| {
            security.masked_paths = vec!["/proc/keys".into()];
        });
        for (container, word) in [
            (other_user, "in Cap"),
            (fixed, "gain privileges"),
            (mounted, "no mount at \"/data\""),
            (read_only, "mount at \"/\""),
            (masked, "\"/proc/keys\""),
        ] {
            let request = request(stage, container)?;
            captured.require_not_started(stage, request, word).await?;
        }
        // A filter that lets everything through: the last word of the last instruction is its verdict.
        captured.rewrite(|name, content| {
            if name == "checkpoint/seccomp.img" {
                let allow = 0x7fff_0000_u32.to_le_bytes();
                let place = content.windows(8).rposition(|code| code[..4] == [6, 0, 0, 0]);
                let place = place.context("a return")? + 4;
                content[place..place + 4].copy_from_slice(&allow);
            }
            Ok(())
        })?;
        let asked = captured.request(stage)?;
        captured.require_not_started(stage, asked, "another filter of system calls").await
    })
}

#[test]
fn a_process_without_a_filter_does_not_run_where_one_is_asked_for() -> Result<()> {
    criu::on_stage(async |stage| {
        stage.configure(ON).await?;
        let unconfined = with_security(counter("main"), |security| {
            security.seccomp = Some(SecurityProfile {
                profile_type: ProfileType::Unconfined.into(),
                localhost_ref: String::new(),
            });
        });
        let captured = Captured::take(stage, vec![unconfined]).await?;
        let mut request = captured.request(stage)?;
        request.container_configs = vec![counter("main")];
        captured.require_not_started(stage, request, "not filtered").await
    })
}

#[test]
fn mounts_that_an_archive_tells_of_are_not_made() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        captured.rewrite_document("spec.dump", |spec| {
            let mount = json!({"destination": "/host", "source": "/", "type": "bind", "options": ["rbind", "rw"]});
            if let Some(mounts) = spec["mounts"].as_array_mut() {
                mounts.push(mount);
            }
            spec["root"]["path"] = json!("/");
            spec["linux"]["cgroupsPath"] = json!("/somewhere/else");
        })?;
        captured.rewrite_document("config.dump", |config| {
            config["mounts"] = json!([{"destination": "/host", "source": "/"}]);
        })?;
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        let table = stage.cri.output(&id, &["cat", "/proc/self/mountinfo"]).await?;
        ensure!(!table.contains(" /host "), "{table}");
        stage.cri.output(&id, &["sh", "-c", "test ! -e /host"]).await?;
        let process = stage.cri.process(&id).await?;
        let cgroup = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
        ensure!(!cgroup.contains("somewhere") && cgroup.contains(&id), "{cgroup}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn the_image_is_that_of_the_request_whatever_an_archive_calls_it() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        captured.rewrite_document("config.dump", |config| {
            for key in ["rootfsImage", "rootfsImageRef", "rootfsImageName"] {
                config[key] = json!("registry.example/test/other:1");
            }
        })?;
        captured.rewrite_document("spec.dump", |spec| {
            spec["annotations"]["io.kubernetes.cri.image-name"] = json!("registry.example/x:1");
        })?;
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        stage.cri.start(&id).await?;
        let status = stage.cri.container(&id).await?;
        ensure!(status.image.is_some_and(|image| image.image == BUSYBOX));
        ensure!(stage.cri.all_images().await?.len() == 1, "another image was pulled");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn devices_that_an_archive_tells_of_are_not_given() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        captured.rewrite_document("spec.dump", |spec| {
            spec["annotations"]["cdi.k8s.io/gpu"] = json!("vendor.example/gpu=all");
            spec["linux"]["devices"] =
                json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
            spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        })?;
        captured.rewrite_document("config.dump", |config| {
            config["annotations"] = json!({"cdi.k8s.io/gpu": "vendor.example/gpu=all"});
        })?;
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        stage.cri.output(&id, &["sh", "-c", "test ! -e /dev/kmsg"]).await?;
        let made = "if mknod /tmp/kmsg c 1 11; then ! head -c 1 /tmp/kmsg; fi";
        stage.cri.output(&id, &["sh", "-c", made]).await?;
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn a_log_is_where_the_request_has_it_and_a_link_in_an_archive_is_refused() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let victim = stage.directory().join("victim");
        File::create(&victim)?.write_all(b"untouched")?;
        let link = stage.directory().join("through");
        std::os::unix::fs::symlink(stage.directory(), &link)?;
        let through = link.join("victim").display().to_string();
        for document in ["spec.dump", "config.dump"] {
            captured.rewrite_document(document, |document| {
                document["annotations"]["io.kubernetes.cri-o.LogPath"] = json!(through);
                document["annotations"]["io.kubernetes.container.logPath"] = json!(through);
                document["logPath"] = json!(through);
            })?;
        }
        let (pod, id) = one(restore(stage, captured.request(stage)?).await?)?;
        stage.cri.start(&id).await?;
        goes_on(stage, &id, captured.counts[0]).await?;
        ensure!(fs::read(&victim)? == b"untouched", "the log went elsewhere");
        let log = stage.daemon.pod_logs().join("new/main.log");
        until("the log has lines", async || Ok(!logged(&log)?.is_empty())).await?;
        stage.cri.take_away(&pod).await?;

        // A member that is a link to a file of the host, under a name that a log may have and under one of ours.
        let whole = fs::read(captured.archive())?;
        for name in ["container.log", "checkpoint/restore.log", "deleted.files"] {
            let mut file = File::create(captured.archive())?;
            // Two empty blocks are the end of an archive.
            let end = whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count();
            file.write_all(&whole[..end.next_multiple_of(512)])?;
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let mut builder = tar::Builder::new(file);
            builder.append_link(&mut header, name, &victim)?;
            builder.finish()?;
            let answer = restore(stage, captured.request(stage)?).await;
            ensure!(code(&answer) == Some(Code::InvalidArgument), "{name}: {answer:?}");
            ensure!(message(&answer).contains(name), "{name}: {answer:?}");
        }
        ensure!(fs::read(&victim)? == b"untouched");
        ensure!(stage.cri.pods().await?.is_empty(), "a pod was left");
        Ok(())
    })
}

#[test]
fn an_archive_that_is_cut_off_makes_nothing() -> Result<()> {
    criu::on_stage(async |stage| {
        let captured = captured(stage).await?;
        let good = captured.request(stage)?;
        // Between its members and within one.
        let whole = fs::read(captured.archive())?;
        for length in [0, 512, 10_000, whole.len() / 2, whole.len() - 20_000] {
            File::create(captured.archive())?.write_all(&whole[..length])?;
            let answer = restore(stage, good.clone()).await;
            ensure!(code(&answer) == Some(Code::InvalidArgument), "{length}: {answer:?}");
        }
        require_nothing(stage).await
    })
}
