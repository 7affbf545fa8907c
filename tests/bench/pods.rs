//! Rows about whole pods: up to the running container, and all away again; one after another and ten at a time.

use crate::floor::Floor;
use crate::options::Options;
use crate::sample::Samples;
use crate::table::Table;
use crate::target::Target;
use anyhow::Result;
use cringle_proto_cri::v1::{
    ContainerConfig, LinuxContainerResources, NamespaceMode, NamespaceOption, PodSandboxConfig,
};
use cringle_tests::client::Cri;
use cringle_tests::request::{
    container, namespaces, pod, with_namespaces, with_port, with_security,
};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One row of the table, or two: up and down.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name on the command line.
    pub(crate) key: &'static str,
    title: &'static str,
    pid: NamespaceMode,
    host_ports: i32,
    parallel: usize,
}

/// All of them.
pub(crate) const ROWS: &[Row] = &[
    Row {
        key: "pod",
        title: "one after another",
        pid: NamespaceMode::Container,
        host_ports: 0,
        parallel: 1,
    },
    Row {
        key: "pod-shared-pid",
        title: "PID namespace of the pod",
        pid: NamespaceMode::Pod,
        host_ports: 0,
        parallel: 1,
    },
    Row {
        key: "pod-host-ports",
        title: "two host ports",
        pid: NamespaceMode::Container,
        host_ports: 2,
        parallel: 1,
    },
    Row {
        key: "pod-parallel",
        title: "10 at a time",
        pid: NamespaceMode::Container,
        host_ports: 0,
        parallel: 10,
    },
];

/// What one pod took.
#[derive(Debug, Clone, Copy)]
struct Life {
    up: Duration,
    down: Duration,
}

/// Measures a row for all runtimes, in rounds.
pub(crate) async fn measure(
    row: &Row,
    options: &Options,
    targets: &mut [Target],
    table: &mut Table,
) -> Result<()> {
    let mut up = vec![Samples::default(); targets.len()];
    let mut down = vec![Samples::default(); targets.len()];
    let mut floor = Floor::new(options, row.parallel);
    // Two more rounds than are counted: the first pods of a daemon load what later ones have.
    for round in 0..options.samples / row.parallel + 2 {
        floor.keep_up(round)?;
        for (place, target) in targets.iter_mut().enumerate() {
            for life in together(row, options, target, round).await? {
                if round >= 2 {
                    up[place].push(life.up);
                    down[place].push(life.down);
                }
            }
        }
    }
    table.row(&format!("Run+Create+Start, {}", row.title), &up, floor.up());
    table.row(&format!("Stop+Remove, {}", row.title), &down, floor.down());
    Ok(())
}

/// So many pods at once, all up before any goes down.
async fn together(
    row: &Row,
    options: &Options,
    target: &mut Target,
    round: usize,
) -> Result<Vec<Life>> {
    let mut rising = JoinSet::new();
    for number in 0..row.parallel {
        let name = format!("bench-{}-{round}-{number}", row.key);
        let (config, main) = request(row, &options.image, &name);
        let mut cri = target.cri.clone();
        rising.spawn(async move { bring_up(&mut cri, &config, &main).await });
    }
    let mut falling = JoinSet::new();
    for risen in rising.join_all().await {
        let (pod, id, up) = risen?;
        let mut cri = target.cri.clone();
        falling.spawn(async move {
            let down = take_down(&mut cri, &pod, &id).await?;
            anyhow::Ok(Life { up, down })
        });
    }
    falling.join_all().await.into_iter().collect()
}

/// The pod of a row: bridged, default seccomp profile, 128 MiB.
fn request(row: &Row, image: &str, name: &str) -> (PodSandboxConfig, ContainerConfig) {
    let options = NamespaceOption { pid: row.pid.into(), ..namespaces() };
    let mut config = with_namespaces(pod(name), options.clone());
    for port in 0..row.host_ports {
        config = with_port(config, 18_000 + port, 80 + port);
    }
    (config, resident(image, options))
}

/// A container that waits.
pub(crate) fn resident(image: &str, namespaces: NamespaceOption) -> ContainerConfig {
    let main = container("main", image, &["sleep", "100000"]);
    let mut main = with_security(main, |security| security.namespace_options = Some(namespaces));
    main.log_path = String::new();
    let linux = main.linux.get_or_insert_default();
    linux.resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 128 << 20,
        ..LinuxContainerResources::default()
    });
    main
}

/// From the first call to the answer of the last.
async fn bring_up(
    cri: &mut Cri,
    config: &PodSandboxConfig,
    main: &ContainerConfig,
) -> Result<(String, String, Duration)> {
    let begin = Instant::now();
    let (pod, id) = cri.start_in_pod(config, main).await?;
    Ok((pod, id, begin.elapsed()))
}

async fn take_down(cri: &mut Cri, pod: &str, id: &str) -> Result<Duration> {
    let begin = Instant::now();
    cri.stop(id, 0).await?;
    cri.remove(id).await?;
    cri.take_away(pod).await?;
    Ok(begin.elapsed())
}
