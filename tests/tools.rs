//! What people's tools rely on: beginnings of ids, the verbose maps, and the address ranges that the kubelet tells.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerFilter, ContainerStatusRequest, ImageStatusRequest, ListPodSandboxRequest,
    NamespaceMode, NamespaceOption, NetworkConfig, PodSandboxFilter, PodSandboxStatusRequest,
    RuntimeConfig, StatusRequest, UpdateRuntimeConfigRequest,
};
use cringle_tests::client::{Cri, code, image};
use cringle_tests::request::{container, namespaces, pod, with_namespaces};
use cringle_tests::stage::{BUSYBOX, on_stage};
use serde_json::Value;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use tonic::{Code, Status};

/// A beginning that more than one of some ids have: there are more of them than digits.
fn shared(ids: &[String]) -> Result<String> {
    let mut seen = std::collections::BTreeSet::new();
    let twice = ids.iter().find(|id| !seen.insert(id.as_bytes()[0]));
    Ok(twice.context("two begin alike")?[..1].to_owned())
}

/// A beginning that only one of some ids has.
fn alone(id: &str, ids: &[String]) -> Result<String> {
    let unique = (1..=id.len())
        .map(|length| &id[..length])
        .find(|prefix| ids.iter().filter(|other| other.starts_with(*prefix)).count() == 1);
    Ok(unique.context("ids differ")?.to_owned())
}

fn refused<T>(answer: &Result<T, Status>) -> Option<Code> {
    answer.as_ref().err().map(Status::code)
}

async fn pods_of(cri: &Cri, id: &str) -> Result<Vec<String>, Status> {
    let filter = PodSandboxFilter { id: id.to_owned(), ..PodSandboxFilter::default() };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let answer = cri.clone().runtime.list_pod_sandbox(request).await?.into_inner();
    Ok(answer.items.into_iter().map(|pod| pod.id).collect())
}

async fn containers_of(cri: &Cri, id: &str, pod: &str) -> Result<Vec<String>> {
    let filter = ContainerFilter {
        id: id.to_owned(),
        pod_sandbox_id: pod.to_owned(),
        ..ContainerFilter::default()
    };
    let found = cri.clone().containers(Some(filter)).await?;
    Ok(found.into_iter().map(|container| container.id).collect())
}

#[test]
fn the_beginning_of_an_id_is_as_good_unless_two_begin_alike() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let node = NamespaceOption { network: NamespaceMode::Node.into(), ..namespaces() };
        let mut pods = Vec::new();
        for number in 0..17 {
            let config = with_namespaces(pod(&format!("pod{number}")), node.clone());
            pods.push(stage.cri.run_pod(&config).await?);
        }
        let config = with_namespaces(pod("pod0"), node);
        let mut ids = Vec::new();
        for number in 0..17 {
            let one = container(&format!("one{number}"), BUSYBOX, &["sleep", "600"]);
            ids.push(stage.cri.create((&alone(&pods[0], &pods)?, &config), &one).await?);
        }
        let mut cri = stage.cri.clone();

        let (own, both) = (alone(&pods[3], &pods)?, shared(&pods)?);
        ensure!(cri.pod(&own).await?.id == pods[3], "a status by its beginning");
        ensure!(pods_of(&cri, &own).await? == [pods[3].clone()], "a list by its beginning");
        ensure!(pods_of(&cri, "x").await?.is_empty(), "nothing begins so");
        ensure!(refused(&pods_of(&cri, &both).await) == Some(Code::InvalidArgument), "which?");
        ensure!(code(&cri.pod(&both).await) == Some(Code::InvalidArgument), "which?");
        ensure!(code(&cri.stop_pod(&both).await) == Some(Code::InvalidArgument), "which?");
        ensure!(code(&cri.remove_pod(&both).await) == Some(Code::InvalidArgument), "which?");
        ensure!(cri.pods().await?.len() == pods.len(), "all are there");

        let (own, both) = (alone(&ids[3], &ids)?, shared(&ids)?);
        ensure!(cri.container(&own).await?.id == ids[3], "a status by its beginning");
        let of_pod = alone(&pods[0], &pods)?;
        ensure!(containers_of(&cri, &own, &of_pod).await? == [ids[3].clone()], "a list");
        ensure!(containers_of(&cri, "", &of_pod).await?.len() == ids.len(), "a pod's");
        let other = alone(&pods[1], &pods)?;
        ensure!(containers_of(&cri, &own, &other).await?.is_empty(), "not in that pod");
        for answer in [
            containers_of(&cri, &both, "").await.map(drop),
            containers_of(&cri, "", &shared(&pods)?).await.map(drop),
            cri.container(&both).await.map(drop),
            cri.start(&both).await,
            cri.stop(&both, 0).await,
            cri.remove(&both).await,
            cri.exec(&both, &["true"], 5).await.map(drop),
        ] {
            ensure!(code(&answer) == Some(Code::InvalidArgument), "{answer:?}");
        }
        cri.start(&own).await?;
        cri.output(&own, &["true"]).await?;
        cri.stop(&own, 0).await?;
        cri.remove(&own).await?;
        ensure!(code(&cri.container(&ids[3]).await) == Some(Code::NotFound), "it is gone");
        ensure!(containers_of(&cri, "", "").await?.len() == ids.len() - 1, "and no other");
        for pod in &pods {
            cri.take_away(pod).await?;
        }
        Ok(())
    })
}

fn info(map: &HashMap<String, String>) -> Result<Value> {
    Ok(serde_json::from_str(map.get("info").context("there is \"info\"")?)?)
}

#[test]
fn the_verbose_maps_have_what_scripts_look_for() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut config = container("main", BUSYBOX, &["sleep", "600"]);
        config.working_dir = "/tmp".to_owned();
        let (pod_id, id) = stage.cri.start_in_pod(&pod("verbose"), &config).await?;
        let address = stage.cri.pod(&pod_id).await?.network.context("it has a network")?.ip;
        let runtime = &mut stage.cri.runtime;

        let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
        let shown = info(&runtime.container_status(request).await?.into_inner().info)?;
        let process = shown["pid"].as_i64().context("it has a process")?;
        let command = std::fs::read_to_string(format!("/proc/{process}/cmdline"))?;
        ensure!(command.starts_with("sleep\x00600"), "{command:?}");
        ensure!(shown["sandboxID"] == pod_id.as_str(), "{shown}");
        ensure!(shown["snapshotKey"] == id.as_str(), "{shown}");
        ensure!(shown["config"]["metadata"]["name"] == "main", "{shown}");
        ensure!(shown["config"]["image"]["image"] == BUSYBOX, "{shown}");
        ensure!(shown["config"]["command"][0] == "sleep", "{shown}");
        ensure!(shown["runtimeSpec"]["process"]["cwd"] == "/tmp", "{shown}");
        ensure!(shown["runtimeSpec"]["process"]["args"][1] == "600", "{shown}");

        let request = PodSandboxStatusRequest { pod_sandbox_id: pod_id.clone(), verbose: true };
        let shown = info(&runtime.pod_sandbox_status(request).await?.into_inner().info)?;
        ensure!(shown["config"]["metadata"]["name"] == "verbose", "{shown}");
        let namespaces = shown["runtimeSpec"]["linux"]["namespaces"].as_array();
        let network = namespaces.into_iter().flatten().find(|one| one["type"] == "network");
        let pin = network.and_then(|one| one["path"].as_str()).context("a pinned network")?;
        let inode = |path: &str| Ok::<_, std::io::Error>(std::fs::metadata(path)?.ino());
        ensure!(inode(pin)? == inode(&format!("/proc/{process}/ns/net"))?, "the container's");
        let own = &shown["cniResult"]["Interfaces"]["eth0"];
        ensure!(own["IPConfigs"][0]["IP"] == address.as_str(), "{shown}");

        let map = runtime.status(StatusRequest { verbose: true }).await?.into_inner().info;
        ensure!(map["lastCNILoadStatus"] == "OK", "{map:?}");
        let networks: Value = serde_json::from_str(&map["cniconfig"])?;
        let plugin = &networks["Networks"][0]["Config"]["Plugins"][0]["Network"]["type"];
        ensure!(plugin == "bridge", "{networks}");
        ensure!(serde_json::from_str::<Value>(&map["config"])?["stateDir"].is_string(), "{map:?}");

        let request = ImageStatusRequest { image: Some(image(BUSYBOX)), verbose: true };
        let shown = info(&stage.cri.images.image_status(request).await?.into_inner().info)?;
        // A single layer is its own chain.
        ensure!(shown["chainID"] == shown["imageSpec"]["rootfs"]["diff_ids"][0], "{shown}");
        ensure!(shown["imageSpec"]["os"] == "linux", "{shown}");
        stage.cri.take_away(&pod_id).await
    })
}

async fn tell_ranges(cri: &Cri, pod_cidr: &str) -> Result<(), Status> {
    let network_config = Some(NetworkConfig { pod_cidr: pod_cidr.to_owned() });
    let runtime_config = Some(RuntimeConfig { network_config });
    let request = UpdateRuntimeConfigRequest { runtime_config };
    cri.clone().runtime.update_runtime_config(request).await?;
    Ok(())
}

#[test]
fn without_a_template_the_address_ranges_change_nothing_but_must_be_some() -> Result<()> {
    on_stage(async |stage| {
        tell_ranges(&stage.cri, "").await?;
        tell_ranges(&stage.cri, "10.99.0.0/24,fd00:99::/64").await?;
        for wrong in ["10.99.0.0", "10.99.0.0/24,", "pods"] {
            let answer = tell_ranges(&stage.cri, wrong).await;
            ensure!(refused(&answer) == Some(Code::InvalidArgument), "{wrong}: {answer:?}");
        }
        Ok(())
    })
}

#[test]
fn with_a_template_pods_get_addresses_of_the_range_that_was_told() -> Result<()> {
    on_stage(async |stage| {
        // The network that the stage has is put aside, and its configuration is the template.
        let networks = stage.directory().join("net.d");
        let there = networks.join("10-bridge.conflist");
        let template = std::fs::read_to_string(&there)?.replace("10.244.7.0/24", "{{.PodCIDR}}");
        ensure!(template.contains("{{.PodCIDR}}"), "{template}");
        std::fs::remove_file(&there)?;
        let place = stage.directory().join("template");
        write(&place, &template)?;
        stage.daemon.stop().await?;
        let settings = stage.directory().join("cringle.toml");
        let line = format!("[network]\nconf_template = \"{}\"\n", place.display());
        write(&settings, &std::fs::read_to_string(&settings)?.replace("[network]\n", &line))?;
        stage.start_again().await?;

        tell_ranges(&stage.cri, "10.99.3.0/24").await?;
        let (mut cri, config) = (stage.cri.clone(), pod("ranged"));
        let pod = cri.run_pod(&config).await?;
        let address = cri.pod(&pod).await?.network.context("it has a network")?.ip;
        ensure!(address.starts_with("10.99.3."), "{address}");
        cri.take_away(&pod).await?;

        write(&place, "{{.Nothing}}")?;
        let answer = tell_ranges(&stage.cri, "10.99.4.0/24").await;
        ensure!(refused(&answer) == Some(Code::FailedPrecondition), "{answer:?}");
        let message = answer.err().map(|status| status.message().to_owned()).unwrap_or_default();
        ensure!(message.contains(".Nothing"), "{message}");
        Ok(())
    })
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    Ok(std::fs::File::create(path)?.write_all(text.as_bytes())?)
}
