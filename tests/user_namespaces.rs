//! Pods with users of their own: who is root inside is nobody on the host, and finds everything as root should.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, IdMapping, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    StatusRequest, UserNamespace,
};
use cringle_tests::client::{code, message};
use cringle_tests::request::{
    container, in_namespaces, namespaces, pod, with_namespaces, with_security,
};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use tonic::Code;

/// The host's id of the pod's root.
const FIRST: u32 = 200_000;
const LENGTH: u32 = 65_536;

fn range() -> IdMapping {
    IdMapping { container_id: 0, host_id: FIRST, length: LENGTH }
}

fn own_users() -> NamespaceOption {
    let users =
        UserNamespace { mode: NamespaceMode::Pod.into(), uids: vec![range()], gids: vec![range()] };
    NamespaceOption { userns_options: Some(users), ..namespaces() }
}

fn own_pod(name: &str) -> PodSandboxConfig {
    with_namespaces(pod(name), own_users())
}

fn own_container(name: &str, command: &[&str]) -> ContainerConfig {
    in_namespaces(container(name, BUSYBOX, command), &own_users())
}

/// The container's first process on the host.
async fn process(stage: &mut Stage, id: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}", stage.cri.process(id).await?)))
}

#[test]
fn root_of_a_pod_is_nobody_on_the_host_in_any_process_of_it() -> Result<()> {
    on_stage(async |stage| {
        let config = own_pod("users");
        let (id, main) = stage.run(&config, &own_container("main", &["sleep", "600"])).await?;
        let place = process(stage, &main).await?;
        ensure!(fs::metadata(&place)?.uid() == FIRST, "the first process is not the pod's root");
        let map = stage.cri.output(&main, &["cat", "/proc/self/uid_map"]).await?;
        let map: Vec<_> = map.split_whitespace().map(str::to_owned).collect();
        ensure!(map == ["0", "200000", "65536"], "{map:?}");
        let seen = stage.cri.output(&main, &["id", "-u"]).await?;
        ensure!(seen == "0\n", "{seen:?}");
        // An exec is in the same namespace, and its streams can be opened again.
        let inside = stage.cri.output(&main, &["readlink", "/proc/self/ns/user"]).await?;
        let outside = fs::read_link(place.join("ns/user"))?;
        ensure!(inside.trim() == outside.to_string_lossy(), "{inside}");
        ensure!(outside != fs::read_link("/proc/self/ns/user")?, "the host's");
        let said = stage.cri.output(&main, &["sh", "-c", "echo said > /dev/stdout"]).await?;
        ensure!(said == "said\n", "{said:?}");

        let status = stage.cri.pod(&id).await?;
        let options = status.linux.and_then(|linux| linux.namespaces).and_then(|all| all.options);
        let shown = options.and_then(|options| options.userns_options);
        ensure!(shown == own_users().userns_options, "{shown:?}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn files_belong_to_root_inside_and_to_nobody_of_the_host_outside() -> Result<()> {
    on_stage(async |stage| {
        let config = own_pod("files");
        let (id, main) = stage.run(&config, &own_container("main", &["sleep", "600"])).await?;
        let paths = "/ /bin /bin/busybox /etc /etc/hosts /etc/hostname /etc/resolv.conf /dev /dev/shm /dev/null";
        let script = format!("stat -c %u:%g {paths}; touch /made /etc/made; echo x >> /etc/hosts");
        let owners = stage.cri.output(&main, &["sh", "-c", &script]).await?;
        ensure!(owners.lines().count() == 10, "{owners}");
        ensure!(owners.lines().all(|owner| owner == "0:0"), "{owners}");
        let root = process(stage, &main).await?.join("root");
        for made in ["made", "etc/made"] {
            let made = fs::metadata(root.join(made))?;
            ensure!((made.uid(), made.gid()) == (FIRST, FIRST), "{made:?}");
        }
        // Nothing on disk is the host's root's.
        let snapshot = stage.daemon.root().join("images/snapshots").join(&main).join("upper");
        let mut left = vec![snapshot];
        while let Some(path) = left.pop() {
            let found = fs::symlink_metadata(&path)?;
            ensure!(found.uid() == FIRST, "\"{}\" is of user {}", path.display(), found.uid());
            if found.is_dir() {
                left.extend(fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())));
            }
        }
        stage.cri.take_away(&id).await
    })
}

#[test]
fn a_volume_with_a_mapping_shows_its_files_as_they_are_and_one_without_as_nobodys() -> Result<()> {
    on_stage(async |stage| {
        let data = stage.directory().join("data");
        fs::create_dir_all(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
        fs::File::create(data.join("file"))?;
        chown(data.join("file"), Some(7), Some(8))?;
        let mount = |target: &str, mappings: Vec<IdMapping>| Mount {
            host_path: data.to_string_lossy().into_owned(),
            container_path: target.to_owned(),
            uid_mappings: mappings.clone(),
            gid_mappings: mappings,
            ..Mount::default()
        };
        let mut main = own_container("main", &["sleep", "600"]);
        main.mounts = vec![mount("/mapped", vec![range()]), mount("/plain", Vec::new())];
        let (id, main) = stage.run(&own_pod("volume"), &main).await?;
        let seen = stage
            .cri
            .output(&main, &["stat", "-c", "%u:%g", "/mapped/file", "/plain/file"])
            .await?;
        ensure!(seen == "7:8\n65534:65534\n", "{seen:?}");
        stage.cri.output(&main, &["touch", "/mapped/new"]).await?;
        ensure!(fs::metadata(data.join("new"))?.uid() == 0, "stored as another's");
        let refused = stage.cri.exec(&main, &["touch", "/plain/new"], 20).await?;
        ensure!(refused.exit_code != 0, "nobody wrote to root's directory");
        let shown = stage.cri.container(&main).await?.mounts;
        ensure!(
            shown[0].uid_mappings == [range()] && shown[1].uid_mappings.is_empty(),
            "{shown:?}"
        );
        stage.cri.take_away(&id).await
    })
}

#[test]
fn the_pods_other_namespaces_belong_to_its_users() -> Result<()> {
    on_stage(async |stage| {
        let mut config = own_pod("owner");
        config.hostname = "ship".to_owned();
        let sysctls = &mut config.linux.get_or_insert_default().sysctls;
        sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
        sysctls.insert("net.ipv4.ip_local_port_range".to_owned(), "20000 20100".to_owned());
        let (id, first) = stage.run(&config, &own_container("first", &["sleep", "600"])).await?;
        let second = own_container("second", &["sleep", "600"]);
        let second = stage.cri.create((&id, &config), &second).await?;
        stage.cri.start(&second).await?;
        let files = ["/proc/sys/kernel/shm_rmid_forced", "/proc/sys/net/ipv4/ip_local_port_range"];
        let set = stage.cri.output(&first, &["cat", files[0], files[1]]).await?;
        ensure!(set.split_whitespace().eq(["1", "20000", "20100"]), "{set:?}");
        let hostname = stage.cri.output(&first, &["hostname"]).await?;
        ensure!(hostname == "ship\n", "{hostname:?}");
        stage.cri.output(&first, &["sh", "-c", "echo shared > /dev/shm/word"]).await?;
        let word = stage.cri.output(&second, &["cat", "/dev/shm/word"]).await?;
        ensure!(word == "shared\n", "{word:?}");
        let devices = stage.cri.output(&first, &["ls", "/sys/class/net"]).await?;
        ensure!(devices.split_whitespace().eq(["eth0", "lo"]), "{devices:?}");
        let status = stage.cri.pod(&id).await?;
        let address = status.network.map(|network| network.ip).unwrap_or_default();
        ensure!(!address.is_empty(), "no address");
        // A low port is the pod's to use.
        let serve = "httpd -p 80 -h /www && wget -q -O - http://127.0.0.1:80/index.html";
        let page = stage.cri.output(&first, &["sh", "-c", serve]).await?;
        ensure!(page.contains("served by the pod"), "{page}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn a_shared_pid_namespace_has_a_reaper_of_the_pods_own_users() -> Result<()> {
    on_stage(async |stage| {
        let shared = NamespaceOption { pid: NamespaceMode::Pod.into(), ..own_users() };
        let config = with_namespaces(pod("shared"), shared.clone());
        let share = |config| in_namespaces(config, &shared);
        let (id, main) =
            stage.run(&config, &share(own_container("main", &["sleep", "601"]))).await?;
        let owner = stage.cri.output(&main, &["stat", "-c", "%u", "/proc/1"]).await?;
        ensure!(owner == "0\n", "the reaper is of user {owner}");
        let seen = stage.cri.output(&main, &["ps", "-o", "pid,args"]).await?;
        ensure!(seen.contains("sleep 601"), "{seen}");
        // What an exec leaves behind is the reaper's child, and gone once it ended; one that nobody waits for would stay.
        stage.cri.output(&main, &["sh", "-c", "sleep 0.1 &"]).await?;
        until("what was left behind is gone", async || {
            let seen = stage.cri.output(&main, &["ps", "-o", "stat,args"]).await?;
            // Names of directories may have any letter.
            let zombies = seen.lines().any(|line| line.starts_with('Z'));
            Ok(!zombies && !seen.contains("sleep 0.1"))
        })
        .await?;
        stage.cri.take_away(&id).await
    })
}

#[test]
fn a_pod_with_users_of_its_own_outlives_the_daemon() -> Result<()> {
    on_stage(async |stage| {
        let config = own_pod("outlives");
        let (id, main) = stage.run(&config, &own_container("main", &["sleep", "600"])).await?;
        stage.crash().await?;
        let seen = stage.cri.output(&main, &["id", "-u"]).await?;
        ensure!(seen == "0\n", "{seen:?}");
        let late = own_container("late", &["sleep", "600"]);
        let late = stage.cri.create((&id, &config), &late).await?;
        stage.cri.start(&late).await?;
        let place = process(stage, &late).await?;
        ensure!(fs::metadata(place)?.uid() == FIRST, "another user after the start");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn what_does_not_go_together_with_users_of_its_own_is_refused_and_leaves_nothing() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let node = i32::from(NamespaceMode::Node);
        let mut twice = own_users();
        if let Some(users) = &mut twice.userns_options {
            users.uids.push(range());
        }
        for options in [
            NamespaceOption { network: node, ..own_users() },
            NamespaceOption { ipc: node, ..own_users() },
            NamespaceOption { pid: node, ..own_users() },
            twice,
        ] {
            let answer = stage.cri.run_pod(&with_namespaces(pod("refused"), options)).await;
            ensure!(code(&answer) == Some(Code::InvalidArgument), "{answer:?}");
        }
        let config = own_pod("refused");
        let id = stage.cri.run_pod(&config).await?;
        let users = UserNamespace { mode: node, ..UserNamespace::default() };
        let options = NamespaceOption { userns_options: Some(users), ..namespaces() };
        let node = in_namespaces(container("node", BUSYBOX, &["sleep", "1"]), &options);
        let stranger = with_security(own_container("stranger", &["id"]), |security| {
            security.run_as_user = Some(cringle_proto_cri::v1::Int64Value { value: 70_000 });
        });
        for wrong in [node, stranger] {
            let answer = stage.cri.create((&id, &config), &wrong).await;
            ensure!(code(&answer) == Some(Code::InvalidArgument), "{answer:?}");
            ensure!(!message(&answer).is_empty(), "{answer:?}");
        }
        let mut main = own_container("main", &["sleep", "600"]);
        main.mounts = vec![Mount {
            host_path: "/proc/sys".to_owned(),
            container_path: "/x".to_owned(),
            uid_mappings: vec![range()],
            gid_mappings: vec![range()],
            ..Mount::default()
        }];
        let main = stage.cri.create((&id, &config), &main).await?;
        let answer = stage.cri.start(&main).await;
        ensure!(message(&answer).contains("may not support it"), "{answer:?}");
        stage.cri.take_away(&id).await
    })
}

#[test]
fn the_status_says_that_pods_can_have_users_of_their_own() -> Result<()> {
    on_stage(async |stage| {
        let status = stage.cri.runtime.status(StatusRequest { verbose: true }).await?.into_inner();
        let handler = status.runtime_handlers.iter().find(|handler| handler.name.is_empty());
        let features = handler.and_then(|handler| handler.features).context("features of \"\"")?;
        ensure!(features.user_namespaces && features.recursive_read_only_mounts, "{features:?}");
        ensure!(status.info["config"].contains("\"stateDir\""), "{:?}", status.info);
        Ok(())
    })
}
