//! What pods and containers use: the numbers are compared with what the containers are made to do.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, ContainerStats, ContainerStatsFilter, ContainerStatsRequest, CpuUsage,
    FilesystemUsage, ImageFsInfoRequest, LinuxPodSandboxStats, ListContainerStatsRequest,
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest, Metric,
    PodSandboxStatsFilter, PodSandboxStatsRequest, StreamContainerStatsRequest,
    StreamPodSandboxMetricsRequest, StreamPodSandboxStatsRequest, UInt64Value,
};
use cringle_tests::client::Cri;
use cringle_tests::footprint::Footprint;
use cringle_tests::page::{ask, get, value_on};
use cringle_tests::request::{container, pod, with_memory};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tonic::Code;

const MEBIBYTE: u64 = 1 << 20;

/// All the metrics that the conformance suite knows, without what they begin with.
const NAMES: &str = "blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total \
    cpu_cfs_throttled_seconds_total cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total \
    file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes fs_reads_bytes_total fs_reads_total \
    fs_usage_bytes fs_writes_bytes_total fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen \
    memory_cache memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file \
    memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes memory_working_set_bytes \
    network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total \
    network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total \
    network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total \
    pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total \
    pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total \
    processes sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes \
    spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads threads_max \
    ulimits_soft";

fn value(field: &Option<UInt64Value>) -> Result<u64> {
    Ok(field.as_ref().context("there is a value")?.value)
}

async fn stats(stage: &Stage, id: &str) -> Result<ContainerStats> {
    let request = ContainerStatsRequest { container_id: id.to_owned() };
    let mut cri = stage.cri.clone();
    let answer = cri.runtime.container_stats(request).await?;
    answer.into_inner().stats.context("the answer has stats")
}

async fn pod_stats(stage: &Stage, id: &str) -> Result<LinuxPodSandboxStats> {
    let request = PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
    let mut cri = stage.cri.clone();
    let answer = cri.runtime.pod_sandbox_stats(request).await?.into_inner();
    answer.stats.and_then(|stats| stats.linux).context("the answer has stats of Linux")
}

async fn listed(stage: &Stage, filter: Option<ContainerStatsFilter>) -> Result<Vec<String>> {
    let request = ListContainerStatsRequest { filter };
    let mut cri = stage.cri.clone();
    let answer = cri.runtime.list_container_stats(request).await?.into_inner();
    let ids = answer.stats.into_iter().filter_map(|stats| Some(stats.attributes?.id));
    Ok(ids.collect())
}

fn idle(name: &str) -> ContainerConfig {
    container(name, BUSYBOX, &["sleep", "600"])
}

/// A rate is the time used since the rate before it, of one thread: how much that is, the machine's other work decides.
fn require_rate(before: &CpuUsage, after: &CpuUsage) -> Result<()> {
    let used = value(&after.usage_core_nano_seconds)? - value(&before.usage_core_nano_seconds)?;
    let elapsed = u128::try_from(after.timestamp - before.timestamp)?;
    let expected = u128::from(used) * 1_000_000_000 / elapsed;
    let told = u128::from(value(&after.usage_nano_cores)?);
    ensure!(told.abs_diff(expected) <= expected / 1000, "{before:?} {after:?}");
    ensure!((1..1_200_000_000).contains(&told), "{after:?}");
    Ok(())
}

#[test]
fn work_and_memory_are_measured_as_they_are() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        // It fills a buffer of 32 MiB over and over.
        let command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=32M"];
        let config = with_memory(container("main", BUSYBOX, &command), 64 << 20);
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &config).await?;
        let first = stats(stage, &id).await?;
        let (cpu, memory) = (first.cpu.context("cpu")?, first.memory.context("memory")?);
        ensure!(cpu.timestamp > 0 && memory.timestamp > 0, "{cpu:?} {memory:?}");
        let (mut last, mut rates) = (None, Vec::<CpuUsage>::new());
        until("it works and has its memory", async || {
            let now = stats(stage, &id).await?;
            let memory = now.memory.as_ref().context("memory")?;
            let cpu = now.cpu.as_ref().context("cpu")?;
            if cpu.usage_nano_cores != rates.last().and_then(|rate| rate.usage_nano_cores) {
                rates.push(*cpu);
            }
            let settled = rates.len() > 1
                && value(&memory.rss_bytes)? >= 32 * MEBIBYTE
                && value(&cpu.usage_core_nano_seconds)? > 100_000_000;
            last = Some(now);
            Ok(settled)
        })
        .await?;
        let stats = last.context("it was measured")?;
        let cpu = stats.cpu.context("cpu")?;
        require_rate(&rates[rates.len() - 2], &rates[rates.len() - 1])?;
        let memory = stats.memory.context("memory")?;
        let (rss, working_set) = (value(&memory.rss_bytes)?, value(&memory.working_set_bytes)?);
        ensure!((32 * MEBIBYTE..36 * MEBIBYTE).contains(&rss), "{memory:?}");
        ensure!((rss..40 * MEBIBYTE).contains(&working_set), "{memory:?}");
        ensure!(value(&memory.usage_bytes)? >= working_set, "{memory:?}");
        let available = value(&memory.available_bytes)?;
        ensure!(available == 64 * MEBIBYTE - working_set, "{memory:?}");
        // One for each page, and where a huge one fits the kernel may take that: at least one for 2 MiB.
        ensure!(value(&memory.page_faults)? >= 16, "{memory:?}");
        let swap = stats.swap.context("swap")?;
        ensure!(value(&swap.swap_usage_bytes)? == 0, "{swap:?}");
        if Path::new("/proc/pressure/cpu").exists() {
            let pressure = cpu.psi.context("pressure")?;
            ensure!(pressure.some.is_some() && pressure.full.is_some(), "{pressure:?}");
            ensure!(memory.psi.is_some() && stats.io.is_some_and(|io| io.psi.is_some()), "io");
        }
        let pod = pod_stats(stage, &pod_id).await?;
        let sum = value(&pod.memory.context("memory")?.rss_bytes)?;
        ensure!((32 * MEBIBYTE..36 * MEBIBYTE).contains(&sum), "{sum}");
        let processes = pod.process.context("processes")?.process_count;
        ensure!(value(&processes)? == 1 && pod.containers.len() == 1, "{processes:?}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn what_a_container_wrote_is_counted_and_its_links_lead_nowhere() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &idle("main")).await?;
        let layer = async || -> Result<FilesystemUsage> {
            stats(stage, &id).await?.writable_layer.context("there is a writable layer")
        };
        let first = layer().await?;
        ensure!(first.timestamp > 0 && value(&first.used_bytes)? < MEBIBYTE, "{first:?}");
        let script = "dd if=/dev/zero of=/large bs=1M count=8 && busybox ln -s / /tmp/link && sync";
        let mut cri = stage.cri.clone();
        cri.output(&id, &["sh", "-c", script]).await?;
        let mut seen = first.clone();
        until("the file is counted", async || {
            seen = layer().await?;
            Ok(value(&seen.used_bytes)? >= 8 * MEBIBYTE)
        })
        .await?;
        ensure!(value(&seen.used_bytes)? < 9 * MEBIBYTE, "{seen:?}");
        ensure!(value(&seen.inodes_used)? < 30 && seen.timestamp > first.timestamp, "{seen:?}");
        let answer = stage.cri.images.image_fs_info(ImageFsInfoRequest {}).await?.into_inner();
        let (images, containers) = (&answer.image_filesystems[0], &answer.container_filesystems[0]);
        ensure!(images.timestamp > 0 && value(&images.used_bytes)? > 0, "{images:?}");
        ensure!(images.fs_id == containers.fs_id && seen.fs_id == images.fs_id, "{answer:?}");
        ensure!(value(&containers.used_bytes)? >= 8 * MEBIBYTE, "{containers:?}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn traffic_is_that_of_the_pod() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &idle("main")).await?;
        let (other, _) = stage.cri.start_in_pod(&pod("other"), &idle("main")).await?;
        let listener = TcpListener::bind("0.0.0.0:0").await?;
        let port = listener.local_addr()?.port();
        let route = stage.cri.output(&id, &["sh", "-c", "ip route | head -n 1"]).await?;
        let gateway = route.split_whitespace().nth(2).context("there is a route")?.to_owned();
        let script = format!("dd if=/dev/zero bs=1000 count=1000 | nc {gateway} {port}");
        let drained = async {
            let (mut stream, _) = listener.accept().await?;
            let mut received = Vec::new();
            Ok::<_, anyhow::Error>(stream.read_to_end(&mut received).await?)
        };
        let mut cri = stage.cri.clone();
        let command = ["sh", "-c", &script];
        let (_, received) = tokio::try_join!(cri.output(&id, &command), drained)?;
        ensure!(received == 1_000_000, "{received}");
        let network = pod_stats(stage, &pod_id).await?.network.context("network")?;
        let interface = network.default_interface.context("eth0")?;
        ensure!(interface.name == "eth0" && network.timestamp > 0, "{interface:?}");
        let sent = value(&interface.tx_bytes)?;
        ensure!((1_000_000..1_200_000).contains(&sent), "{interface:?}");
        ensure!(value(&interface.rx_bytes)? < 1_000_000, "{interface:?}");
        let network = pod_stats(stage, &other).await?.network.context("network")?;
        let sent = value(&network.default_interface.context("eth0")?.tx_bytes)?;
        ensure!(sent < 100_000, "{sent}");
        stage.cri.take_away(&pod_id).await?;
        stage.cri.take_away(&other).await
    })
}

#[test]
fn lists_have_what_runs_and_passes_all_of_a_filter() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut config = idle("one");
        config.labels.insert("part".to_owned(), "one".to_owned());
        let (first, one) = stage.cri.start_in_pod(&pod("first"), &config).await?;
        let mut second = pod("second");
        second.labels.insert("tier".to_owned(), "back".to_owned());
        let (second, two) = stage.cri.start_in_pod(&second, &idle("two")).await?;
        let both: BTreeSet<String> = [one.clone(), two.clone()].into();
        ensure!(listed(stage, None).await?.into_iter().collect::<BTreeSet<_>>() == both, "all");
        let filter = |id: &str, pod: &str, part: &str| {
            let label_selector = match part {
                "" => [].into(),
                part => [("part".to_owned(), part.to_owned())].into(),
            };
            let (id, pod_sandbox_id) = (id.to_owned(), pod.to_owned());
            Some(ContainerStatsFilter { id, pod_sandbox_id, label_selector })
        };
        for (filter, expected) in [
            (filter(&one[..13], "", ""), vec![&one]),
            (filter("", &second[..13], ""), vec![&two]),
            (filter("", "", "one"), vec![&one]),
            (filter("", "", "two"), vec![]),
            (filter(&one, &second, ""), vec![]),
            (filter("", &second, "one"), vec![]),
        ] {
            let found = listed(stage, filter.clone()).await?;
            ensure!(found.iter().eq(expected.iter().copied()), "{filter:?}: {found:?}");
        }
        let request = StreamContainerStatsRequest { filter: None };
        let mut stream = stage.cri.runtime.stream_container_stats(request).await?.into_inner();
        let mut streamed = BTreeSet::new();
        while let Some(part) = stream.message().await? {
            let stats = part.container_stats.into_iter();
            streamed.extend(stats.filter_map(|stats| Some(stats.attributes?.id)));
        }
        ensure!(streamed == both, "{streamed:?}");

        let tier = [("tier".to_owned(), "back".to_owned())].into();
        let filter = Some(PodSandboxStatsFilter { id: String::new(), label_selector: tier });
        let request = ListPodSandboxStatsRequest { filter: filter.clone() };
        let answer = stage.cri.runtime.list_pod_sandbox_stats(request).await?.into_inner();
        ensure!(answer.stats.len() == 1, "{answer:?}");
        ensure!(answer.stats[0].attributes.as_ref().is_some_and(|a| a.id == second), "{answer:?}");
        let request = StreamPodSandboxStatsRequest { filter };
        let mut stream = stage.cri.runtime.stream_pod_sandbox_stats(request).await?.into_inner();
        let part = stream.message().await?.context("there is a part")?;
        ensure!(part.pod_sandbox_stats.len() == 1, "{part:?}");
        stage.cri.take_away(&first).await?;
        stage.cri.take_away(&second).await
    })
}

#[test]
fn what_is_not_there_or_does_not_run_has_no_numbers() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let unknown = "f".repeat(64);
        let refused = stats(stage, &unknown).await;
        ensure!(cringle_tests::client::code(&refused) == Some(Code::NotFound), "{refused:?}");
        let request = PodSandboxStatsRequest { pod_sandbox_id: unknown };
        let refused = stage.cri.runtime.pod_sandbox_stats(request).await;
        ensure!(refused.is_err_and(|status| status.code() == Code::NotFound), "pod");
        let brief = container("main", BUSYBOX, &["true"]);
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &brief).await?;
        stage.cri.ended(&id).await?;
        ensure!(listed(stage, None).await?.is_empty(), "an ended container is listed");
        let ended = stats(stage, &id).await?;
        ensure!(ended.cpu.is_none() && ended.memory.is_none(), "{ended:?}");
        ensure!(ended.writable_layer.is_some_and(|layer| layer.timestamp > 0), "layer");
        let pod = pod_stats(stage, &pod_id).await?;
        ensure!(pod.cpu.is_none() && pod.containers.is_empty(), "{pod:?}");
        ensure!(pod.network.is_some(), "{pod:?}");
        stage.cri.take_away(&pod_id).await
    })
}

/// What the container of the next test has of each.
const KNOWN: [(&str, u64); 9] = [
    ("spec_cpu_quota", 50_000),
    ("spec_cpu_period", 100_000),
    ("spec_cpu_shares", 512),
    ("spec_memory_limit_bytes", 64 * MEBIBYTE),
    ("processes", 1),
    ("threads", 1),
    ("sockets", 0),
    ("oom_events_total", 0),
    ("memory_swap", 0),
];

/// The label keys of each metric, by its name.
async fn descriptors(cri: &mut Cri) -> Result<BTreeMap<String, Vec<String>>> {
    let answer = cri.runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await?;
    let described = answer.into_inner().descriptors.into_iter();
    Ok(described.map(|descriptor| (descriptor.name, descriptor.label_keys)).collect())
}

#[test]
fn every_metric_is_described_and_has_its_labels_and_a_true_value() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let mut config = with_memory(idle("main"), 64 << 20);
        let resources = config.linux.get_or_insert_default().resources.get_or_insert_default();
        (resources.cpu_quota, resources.cpu_period, resources.cpu_shares) = (50_000, 100_000, 512);
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &config).await?;
        let described = descriptors(&mut stage.cri).await?;
        let names: BTreeSet<String> =
            NAMES.split_whitespace().map(|name| format!("container_{name}")).collect();
        ensure!(names.len() == 56 && described.keys().eq(names.iter()), "{described:?}");

        let request = ListPodSandboxMetricsRequest {};
        let answer = stage.cri.runtime.list_pod_sandbox_metrics(request).await?.into_inner();
        let measured = answer.pod_metrics.first().context("there is a pod")?;
        let own = measured.container_metrics.first().context("there is a container")?;
        ensure!(measured.pod_sandbox_id == pod_id && own.container_id == id, "{measured:?}");
        let all: Vec<&Metric> = measured.metrics.iter().chain(&own.metrics).collect();
        for metric in &all {
            let keys = described.get(&metric.name).with_context(|| metric.name.clone())?;
            ensure!(metric.label_values.len() == keys.len(), "{metric:?}: {keys:?}");
            let label = |name| {
                let place = keys.iter().position(|key| key == name)?;
                metric.label_values.get(place).map(String::as_str)
            };
            ensure!(
                label("pod") == Some("pod") && label("namespace") == Some("test"),
                "{metric:?}"
            );
        }
        // Block devices and huge pages have values where the kernel counts them.
        let counted: BTreeSet<&str> = all.iter().map(|metric| metric.name.as_str()).collect();
        let may_lack = ["blkio", "fs_reads", "fs_writes", "hugetlb", "pressure"];
        let lacking: Vec<&String> = names
            .iter()
            .filter(|name| !counted.contains(name.as_str()))
            .filter(|name| !may_lack.iter().any(|word| name.contains(word)))
            .collect();
        ensure!(lacking.is_empty(), "{lacking:?}");
        let number = |name: &str| -> Result<u64> {
            let found = all.iter().find(|metric| metric.name == format!("container_{name}"));
            value(&found.with_context(|| name.to_owned())?.value)
        };
        for (name, expected) in KNOWN {
            let found = number(name)?;
            ensure!(found == expected, "{name}: {found}");
        }
        let process = stage.cri.process(&id).await?;
        let open = std::fs::read_dir(format!("/proc/{process}/fd"))?.count();
        ensure!(number("file_descriptors")? == u64::try_from(open)?, "{open}");
        let started = u64::try_from(stage.cri.container(&id).await?.started_at)? / 1_000_000_000;
        ensure!(number("start_time_seconds")? == started, "{started}");
        ensure!(number("last_seen")? >= started && number("memory_max_usage_bytes")? > 0, "past");

        let request = StreamPodSandboxMetricsRequest {};
        let mut stream = stage.cri.runtime.stream_pod_sandbox_metrics(request).await?.into_inner();
        let part = stream.message().await?.context("there is a part")?;
        ensure!(part.pod_sandbox_metrics.len() == 1, "{part:?}");
        stage.cri.take_away(&pod_id).await
    })
}

#[test]
fn prometheus_can_read_all_of_it() -> Result<()> {
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let (pod_id, id) = stage.cri.start_in_pod(&pod("pod"), &idle("main")).await?;
        let missing = get(&stage.daemon.metrics(), "/").await?;
        ensure!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
        let answer = get(&stage.daemon.metrics(), "/metrics").await?;
        let (head, page) = answer.split_once("\r\n\r\n").context("there is a body")?;
        ensure!(head.starts_with("HTTP/1.1 200 ") && head.contains("version=0.0.4"), "{head}");
        let mut types = BTreeMap::new();
        let mut values = 0;
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a type")?;
                ensure!(types.insert(name, kind).is_none(), "{name} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (series, number) = line.rsplit_once(' ').context("a value")?;
                number.parse::<f64>().with_context(|| line.to_owned())?;
                let name = series.split('{').next().unwrap_or_default();
                let plain = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end).filter(|name| types.contains_key(name)));
                ensure!(types.contains_key(plain.unwrap_or(name)), "{line}");
                values += 1;
            }
        }
        ensure!(values > 100, "{page}");
        for begin in [
            "cringle_rpc_duration_seconds_count{method=\"RunPodSandbox\",code=\"Ok\"} 1",
            "cringle_start_stage_duration_seconds_count{stage=\"pod_network\"} 1",
            "cringle_start_stage_duration_seconds_count{stage=\"container_process\"} 1",
            "cringle_image_pulls_total{result=\"done\"} 1",
            "cringle_containers{phase=\"running\"} 1",
            "cringle_shims 1",
        ] {
            ensure!(page.lines().any(|line| line == begin), "{begin}: {page}");
        }
        the_daemon_measures_itself(stage, page)?;
        let usage = page.lines().find(|line| line.starts_with("container_memory_usage_bytes{"));
        let usage = usage.context("there is memory")?;
        let labels = [format!("name=\"{id}\""), "pod=\"pod\"".into(), "container=\"main\"".into()];
        ensure!(labels.iter().all(|label| usage.contains(label)), "{usage}");
        stage.cri.take_away(&pod_id).await
    })
}

/// What the page says of the daemon's own process is what the kernel says of it.
fn the_daemon_measures_itself(stage: &mut Stage, page: &str) -> Result<()> {
    let value = |name| value_on(page, name);
    let daemon = stage.daemon.id()?;
    let known = Footprint::of(daemon)?;
    let resident = value("process_resident_memory_bytes")? / 1024.0;
    ensure!(resident >= known.memory as f64 / 2.0 && resident < 512.0 * 1024.0, "{resident} KiB");
    ensure!(value("process_virtual_memory_bytes")? / 1024.0 >= resident, "{page}");
    let heap = value("cringle_heap_in_use_bytes")?;
    ensure!(heap > 65_536.0 && heap < 64.0 * 1_048_576.0, "{heap} bytes");
    let threads = value("process_threads")?;
    ensure!((threads - known.threads as f64).abs() < 16.0 && threads >= 3.0, "{threads}: {known}");
    let open = value("process_open_fds")?;
    ensure!((open - known.descriptors as f64).abs() < 8.0, "{open}: {known}");
    let limits = std::fs::read_to_string(format!("/proc/{daemon}/limits"))?;
    let limit = limits.lines().find(|line| line.starts_with("Max open files"));
    let limit = limit.and_then(|line| line.split_whitespace().nth(3)).context("no such limit")?;
    ensure!(value("process_max_fds")? == limit.parse::<f64>()?, "{limit}: {page}");
    let cpu = value("process_cpu_seconds_total")?;
    ensure!(cpu > 0.0 && cpu < 600.0, "{cpu} s");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let age = now - value("process_start_time_seconds")?;
    ensure!((-2.0..600.0).contains(&age), "started {age} s ago");
    Ok(())
}

#[test]
fn prometheus_can_read_it_at_an_address_and_only_there() -> Result<()> {
    on_stage(async |stage| {
        // The stage has a network of its own, in which every port is free.
        let settings = stage.directory().join("cringle.toml");
        let text = std::fs::read_to_string(&settings)?;
        let socket = format!("unix://{}", stage.daemon.metrics().display());
        ensure!(text.contains(&socket), "{text}");
        let text = text.replace(&socket, "127.0.0.1:9090");
        std::io::Write::write_all(&mut std::fs::File::create(&settings)?, text.as_bytes())?;
        stage.daemon.stop().await?;
        stage.start_again().await?;
        ensure!(UnixStream::connect(stage.daemon.metrics()).await.is_err(), "the socket is served");
        let answer = ask(TcpStream::connect("127.0.0.1:9090").await?, "/metrics").await?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        ensure!(answer.contains("\ncringle_shims 0\n"), "{answer}");
        let refused = TcpStream::connect("127.0.0.2:9090").await;
        ensure!(refused.is_err(), "another address is served");
        Ok(())
    })
}
