//! What a whole pod may use: as asked for, as updated by the kubelet when it has resized the pod's cgroup, and as shown.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    LinuxContainerResources, LinuxPodSandboxConfig, NamespaceMode, NamespaceOption,
    PodSandboxStatusRequest, UpdatePodSandboxResourcesRequest,
};
use cringle_tests::client::Cri;
use cringle_tests::request::{namespaces, pod, with_namespaces};
use cringle_tests::stage::on_stage;
use serde_json::Value;
use tonic::{Code, Status};

fn limits(memory: i64, shares: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: memory,
        cpu_shares: shares,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    }
}

async fn update(
    cri: &Cri,
    pod: &str,
    overhead: Option<LinuxContainerResources>,
    resources: Option<LinuxContainerResources>,
) -> Result<(), Status> {
    let pod_sandbox_id = pod.to_owned();
    let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources };
    cri.clone().runtime.update_pod_sandbox_resources(request).await?;
    Ok(())
}

async fn shown(cri: &Cri, pod: &str) -> Result<Value> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: true };
    let info = cri.clone().runtime.pod_sandbox_status(request).await?.into_inner().info;
    Ok(serde_json::from_str(info.get("info").context("there is \"info\"")?)?)
}

fn refused(answer: &Result<(), Status>) -> Option<Code> {
    answer.as_ref().err().map(Status::code)
}

#[test]
fn new_limits_of_a_ready_pod_are_kept_and_shown_also_after_a_crash() -> Result<()> {
    on_stage(async |stage| {
        let node = NamespaceOption { network: NamespaceMode::Node.into(), ..namespaces() };
        let mut config = with_namespaces(pod("resized"), node);
        let linux = config.linux.get_or_insert_with(LinuxPodSandboxConfig::default);
        linux.overhead = Some(limits(8 << 20, 2));
        linux.resources = Some(limits(64 << 20, 512));
        let pod = stage.cri.run_pod(&config).await?;
        let info = shown(&stage.cri, &pod).await?;
        ensure!(info["overhead"]["memory_limit_in_bytes"] == 8 << 20, "{info}");
        ensure!(info["resources"]["cpu_shares"] == 512, "{info}");

        // What an update does not name stays.
        update(&stage.cri, &pod, None, Some(limits(128 << 20, 1024))).await?;
        stage.crash().await?;
        let info = shown(&stage.cri, &pod).await?;
        ensure!(info["overhead"]["cpu_shares"] == 2, "{info}");
        ensure!(info["resources"]["memory_limit_in_bytes"] == 128 << 20, "{info}");
        ensure!(info["resources"]["cpu_shares"] == 1024, "{info}");
        let asked = &info["config"]["linux"]["resources"];
        ensure!(asked["memory_limit_in_bytes"] == 64 << 20, "as it was asked for: {info}");

        let wrong = LinuxContainerResources { cpu_period: -1, ..limits(0, 0) };
        let answer = update(&stage.cri, &pod, Some(wrong), None).await;
        ensure!(refused(&answer) == Some(Code::InvalidArgument), "{answer:?}");
        let message = answer.err().map(|status| status.message().to_owned()).unwrap_or_default();
        ensure!(message.contains("overhead.cpu_period"), "{message}");
        let answer = update(&stage.cri, "0123", None, None).await;
        ensure!(refused(&answer) == Some(Code::NotFound), "{answer:?}");
        stage.cri.stop_pod(&pod).await?;
        let answer = update(&stage.cri, &pod, None, Some(limits(1 << 20, 2))).await;
        ensure!(refused(&answer) == Some(Code::FailedPrecondition), "{answer:?}");
        let info = shown(&stage.cri, &pod).await?;
        ensure!(info["resources"]["cpu_shares"] == 1024, "{info}");
        stage.cri.remove_pod(&pod).await
    })
}
