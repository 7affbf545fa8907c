//! UpdateContainerResources: of containers that are created and that run, all limits or none.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest,
};
use cringle_tests::client::code;
use cringle_tests::limit::{self, in_force};
use cringle_tests::request::{container, pod, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use tonic::Code;

const MIB: i64 = 1 << 20;

async fn update(stage: &Stage, id: &str, resources: LinuxContainerResources) -> Result<()> {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(resources),
        ..UpdateContainerResourcesRequest::default()
    };
    stage.cri.clone().runtime.update_container_resources(request).await?;
    Ok(())
}

/// The limits that the status says.
async fn told(stage: &Stage, id: &str) -> Result<LinuxContainerResources> {
    let status = stage.cri.clone().container(id).await?;
    status.resources.and_then(|resources| resources.linux).context("the status has limits")
}

fn memory(limit: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: limit,
        ..LinuxContainerResources::default()
    }
}

#[test]
fn limits_of_a_created_container_are_those_it_is_started_with() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let pod_config = pod("created");
        let pod = stage.cri.run_pod(&pod_config).await?;
        let config = with_memory(container("main", BUSYBOX, &["sleep", "600"]), 64 * MIB);
        let id = stage.cri.create((&pod, &pod_config), &config).await?;
        update(stage, &id, memory(96 * MIB)).await?;
        ensure!(told(stage, &id).await?.memory_limit_in_bytes == 96 * MIB, "it is told at once");
        let refused = update(stage, &id, memory(-7)).await;
        ensure!(code(&refused) == Some(Code::InvalidArgument), "{refused:?}");

        stage.crash().await?;
        ensure!(told(stage, &id).await?.memory_limit_in_bytes == 96 * MIB, "it is remembered");
        stage.cri.start(&id).await?;
        let limit = limit::memory(stage.cri.process(&id).await?)?;
        ensure!(limit == 96 * MIB, "{limit}");

        stage.cri.stop(&id, 0).await?;
        let late = update(stage, &id, memory(80 * MIB)).await;
        ensure!(code(&late) == Some(Code::FailedPrecondition), "{late:?}");
        stage.cri.take_away(&pod).await
    })
}

#[test]
fn an_update_that_the_kernel_refuses_leaves_everything_as_it_was() -> Result<()> {
    on_stage(async |stage| {
        let mut config = with_memory(container("main", BUSYBOX, &["sleep", "600"]), 64 * MIB);
        let resources = config.linux.as_mut().and_then(|linux| linux.resources.as_mut());
        let resources = resources.context("it has limits")?;
        (resources.cpu_period, resources.cpu_quota) = (100_000, 50_000);
        let (pod, id) = stage.run(&pod("refused"), &config).await?;
        let process = stage.cri.process(&id).await?;
        let quota = || in_force(process, "cpu", "cpu.cfs_quota_us", "cpu.max");
        let before = (quota()?, limit::memory(process)?, told(stage, &id).await?);

        let change = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 70_000,
            cpuset_cpus: "4000".to_owned(),
            ..memory(80 * MIB)
        };
        let refused = update(stage, &id, change).await;
        ensure!(refused.is_err(), "there is no such processor");
        let after = (quota()?, limit::memory(process)?, told(stage, &id).await?);
        ensure!(before == after, "{before:?} {after:?}");

        let change =
            LinuxContainerResources { cpu_period: 100_000, cpu_quota: 70_000, ..memory(80 * MIB) };
        update(stage, &id, change).await?;
        ensure!(quota()?.starts_with("70000") && limit::memory(process)? == 80 * MIB, "changed");
        let told = told(stage, &id).await?;
        ensure!(told.cpu_quota == 70_000 && told.memory_limit_in_bytes == 80 * MIB, "{told:?}");
        let status = stage.cri.container(&id).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        stage.cri.take_away(&pod).await
    })
}
