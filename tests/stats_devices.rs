//! What pods and containers use of devices: block devices, huge pages, links of the host.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::{
    ContainerConfig, Device, HugepageLimit, ListMetricDescriptorsRequest,
    ListPodSandboxMetricsRequest, Mount, PodSandboxStatsRequest,
};
use cringle_tests::request::{container, pod};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MEBIBYTE: u64 = 1 << 20;

fn run(words: &[&str]) -> Result<String> {
    let done = Command::new(words[0]).args(&words[1..]).output()?;
    ensure!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

fn idle(name: &str) -> ContainerConfig {
    container(name, BUSYBOX, &["sleep", "600"])
}

/// The only container's values of one metric: its own labels in the order of their keys, and how much.
async fn metric(stage: &Stage, name: &str) -> Result<Vec<(BTreeMap<String, String>, u64)>> {
    let runtime = &mut stage.cri.clone().runtime;
    let request = ListMetricDescriptorsRequest {};
    let described = runtime.list_metric_descriptors(request).await?.into_inner().descriptors;
    let keys = described.into_iter().find(|descriptor| descriptor.name == name);
    let keys = keys.with_context(|| name.to_owned())?.label_keys;
    let request = ListPodSandboxMetricsRequest {};
    let measured = runtime.list_pod_sandbox_metrics(request).await?.into_inner().pod_metrics;
    let own = measured.first().and_then(|pod| pod.container_metrics.first());
    let values = own.context("there is a container")?.metrics.iter();
    let found = values.filter(|metric| metric.name == name).map(|metric| {
        let labels = keys.iter().cloned().zip(metric.label_values.iter().cloned());
        (labels.collect(), metric.value.map(|value| value.value).unwrap_or_default())
    });
    Ok(found.collect())
}

/// A file as a block device.
struct Loop(String);

impl Loop {
    fn of(file: &Path, size: u64) -> Result<Self> {
        fs::File::create(file)?.set_len(size)?;
        let file = file.to_str().context("a path is text")?;
        Ok(Self(run(&["losetup", "--find", "--show", file])?))
    }

    /// Major and minor number.
    fn numbers(&self) -> Result<(String, String)> {
        let name = Path::new(&self.0).file_name().context("a device has a name")?;
        let numbers = fs::read_to_string(Path::new("/sys/block").join(name).join("dev"))?;
        let (major, minor) = numbers.trim().split_once(':').context("two numbers")?;
        Ok((major.to_owned(), minor.to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The test has failed already if this does.
        run(&["losetup", "--detach", &self.0]).unwrap_or_default();
    }
}

/// Where a container's first process is in a v1 hierarchy.
fn group(process: i64, controller: &str) -> Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let line = groups.lines().find_map(|line| line.split_once(&format!(":{controller}:")));
    let (_, path) = line.with_context(|| groups.clone())?;
    Ok(Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/')))
}

#[test]
fn what_is_read_and_written_is_counted_device_by_device() -> Result<()> {
    if !Path::new("/dev/loop-control").exists() {
        return skip("no loop devices");
    }
    if !Path::new("/sys/fs/cgroup/blkio").exists() {
        return skip("no blkio hierarchy of cgroup v1");
    }
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let device = Loop::of(&stage.directory().join("disk"), 16 * MEBIBYTE)?;
        let mut config = idle("main");
        config.devices = vec![Device {
            container_path: "/dev/disk".to_owned(),
            host_path: device.0.clone(),
            permissions: "rwm".to_owned(),
        }];
        let (pod, id) = stage.cri.start_in_pod(&pod("pod"), &config).await?;
        let (major, minor) = device.numbers()?;
        // The kernel counts only for devices that somebody has a limit for.
        let group = group(stage.cri.process(&id).await?, "blkio")?;
        for kind in ["read", "write"] {
            let file = group.join(format!("blkio.throttle.{kind}_bps_device"));
            let limit = format!("{major}:{minor} {}", 1_u64 << 40);
            std::io::Write::write_all(
                &mut fs::File::options().write(true).open(&file)?,
                limit.as_bytes(),
            )
            .with_context(|| file.display().to_string())?;
        }
        let script = "dd if=/dev/disk of=/dev/null bs=64k count=32 iflag=direct && \
                      dd if=/dev/zero of=/dev/disk bs=64k count=16 oflag=direct";
        stage.cri.output(&id, &["sh", "-c", script]).await?;

        for (name, expected) in [
            ("fs_reads_bytes_total", 2 * MEBIBYTE),
            ("fs_writes_bytes_total", MEBIBYTE),
            ("fs_reads_total", 32),
            ("fs_writes_total", 16),
        ] {
            let values = metric(stage, &format!("container_{name}")).await?;
            let own = values.iter().find(|(labels, _)| labels["device"] == device.0);
            let (_, value) = own.with_context(|| format!("{name}: {values:?}"))?;
            ensure!(*value == expected, "{name}: {value}");
        }
        let values = metric(stage, "container_blkio_device_usage_total").await?;
        let of = |operation: &str| {
            let own = values.iter().find(|(labels, _)| {
                (&labels["major"], &labels["minor"]) == (&major, &minor)
                    && labels["operation"] == operation
            });
            own.map(|(_, value)| *value)
        };
        let expected = (Some(2 * MEBIBYTE), Some(MEBIBYTE));
        ensure!((of("Read"), of("Write")) == expected, "{values:?}");
        stage.cri.take_away(&pod).await
    })
}

/// Huge pages that the kernel keeps ready while this is there.
struct Pages(String);

impl Pages {
    const FILE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn reserve(count: u64) -> Result<Self> {
        let before = fs::read_to_string(Self::FILE)?;
        let pages = Self(before.trim().to_owned());
        let wanted = pages.0.parse::<u64>()? + count;
        Self::set(&wanted.to_string())?;
        let now = fs::read_to_string(Self::FILE)?;
        ensure!(now.trim().parse::<u64>()? >= wanted, "{now} huge pages");
        Ok(pages)
    }

    fn set(count: &str) -> Result<()> {
        let mut file = fs::File::options().write(true).open(Self::FILE)?;
        Ok(std::io::Write::write_all(&mut file, count.as_bytes())?)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // What was there before; if that fails, a few pages stay reserved.
        Self::set(&self.0).unwrap_or_default();
    }
}

/// Whether cgroups of some version count huge pages.
fn counts_huge_pages() -> bool {
    let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|place| {
        let controllers = fs::read_to_string(Path::new(place).join("cgroup.controllers"));
        controllers.unwrap_or_default().split_whitespace().any(|name| name == "hugetlb")
    });
    unified.contains(&true) || Path::new("/sys/fs/cgroup/hugetlb").exists()
}

#[test]
fn huge_pages_are_counted_by_their_size() -> Result<()> {
    if !Path::new(Pages::FILE).exists() || !counts_huge_pages() {
        return skip("the kernel does not count huge pages");
    }
    on_stage(async |stage| {
        stage.cri.pull(BUSYBOX).await?;
        let _pages = Pages::reserve(4)?;
        let place = stage.directory().join("huge");
        fs::create_dir_all(&place)?;
        let place = place.to_str().context("a path is text")?.to_owned();
        run(&["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", &place])?;
        let mut config = idle("main");
        config.mounts = vec![Mount {
            host_path: place.clone(),
            container_path: "/huge".to_owned(),
            ..Mount::default()
        }];
        let resources = config.linux.get_or_insert_default().resources.get_or_insert_default();
        resources.hugepage_limits =
            vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 16 * MEBIBYTE }];
        let (pod, id) = stage.cri.start_in_pod(&pod("pod"), &config).await?;
        let used = async |stage: &Stage| -> Result<Option<u64>> {
            let values = metric(stage, "container_hugetlb_usage_bytes").await?;
            let own = values.iter().find(|(labels, _)| labels["pagesize"] == "2MB");
            Ok(own.map(|(_, value)| *value))
        };
        ensure!(used(stage).await? == Some(0), "{:?}", used(stage).await?);
        stage.cri.output(&id, &["busybox", "fallocate", "-l", "4194304", "/huge/file"]).await?;
        ensure!(used(stage).await? == Some(4 * MEBIBYTE), "{:?}", used(stage).await?);
        stage.cri.output(&id, &["rm", "/huge/file"]).await?;
        ensure!(used(stage).await? == Some(0), "{:?}", used(stage).await?);
        stage.cri.take_away(&pod).await?;
        run(&["umount", &place]).map(drop)
    })
}

/// Puts a network in the place of the stage's: devices of the pods' own beside a link of the host.
async fn with_macvlan(stage: &mut Stage) -> Result<()> {
    // A link with a carrier, as a card with a cable has.
    run(&["ip", "link", "add", "parent0", "type", "veth", "peer", "name", "cable0"])?;
    run(&["ip", "link", "set", "cable0", "up"])?;
    run(&["ip", "link", "set", "parent0", "up"])?;
    let network = json!({
        "cniVersion": "1.1.0", "name": "beside",
        "plugins": [{
            "type": "macvlan", "master": "parent0", "mode": "bridge",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.9.0/24"}]],
                     "dataDir": stage.daemon.leases()},
        }],
    });
    let networks = stage.directory().join("net.d");
    fs::remove_file(networks.join("10-bridge.conflist"))?;
    let mut file = fs::File::create(networks.join("10-macvlan.conflist"))?;
    std::io::Write::write_all(&mut file, network.to_string().as_bytes())?;
    drop(file);
    stage.daemon.stop().await?;
    stage.start_again().await
}

#[test]
fn traffic_of_a_macvlan_is_counted_in_the_pod() -> Result<()> {
    on_stage(async |stage| {
        with_macvlan(stage).await?;
        stage.cri.pull(BUSYBOX).await?;
        // With an input that ends it would say that it has nothing to send, and its peer would leave half-way.
        let script = "sleep 600 | nc -l -p 8000 > /tmp/got";
        let server = container("main", BUSYBOX, &["sh", "-c", script]);
        let (far, sink) = stage.cri.start_in_pod(&pod("far"), &server).await?;
        let (near, id) = stage.cri.start_in_pod(&pod("near"), &idle("main")).await?;
        let address = stage.cri.pod(&far).await?.network.context("it has a network")?.ip;
        ensure!(address.starts_with("10.244.9."), "{address}");
        let mut cri = stage.cri.clone();
        cringle_tests::wait::until("the server listens", async || {
            let seen = cri.output(&sink, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]).await?;
            Ok(seen.contains(":1F40 "))
        })
        .await?;
        let script = format!("dd if=/dev/zero bs=1000 count=1000 | nc {address} 8000");
        stage.cri.output(&id, &["sh", "-c", &script]).await?;
        for (pod, sends) in [(&near, true), (&far, false)] {
            let request = PodSandboxStatsRequest { pod_sandbox_id: pod.clone() };
            let answer = stage.cri.runtime.pod_sandbox_stats(request).await?.into_inner();
            let network = answer.stats.and_then(|stats| stats.linux?.network).context("network")?;
            let interface = network.default_interface.context("eth0")?;
            ensure!(interface.name == "eth0", "{interface:?}");
            let [sent, received] = [&interface.tx_bytes, &interface.rx_bytes]
                .map(|field| field.as_ref().map(|field| field.value).unwrap_or_default());
            let (much, little) = if sends { (sent, received) } else { (received, sent) };
            ensure!((1_000_000..1_300_000).contains(&much) && little < 200_000, "{interface:?}");
        }
        stage.cri.take_away(&near).await?;
        stage.cri.take_away(&far).await?;
        run(&["ip", "link", "delete", "parent0"]).map(drop)
    })
}
