//! Networks of pods: addresses, host ports, what is given back.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is one")]

use anyhow::{Context, Result, ensure};
use cringle_proto_cri::v1::PodSandboxConfig;
use cringle_tests::client::message;
use cringle_tests::request::{container, pod, with_port};
use cringle_tests::stage::{BUSYBOX, Stage, on_stage};
use cringle_tests::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PAGE: &str = "served by the pod";

/// A pod that serves a page on port 80; its id and address.
async fn server(stage: &mut Stage, config: &PodSandboxConfig) -> Result<(String, String)> {
    stage.cri.pull(BUSYBOX).await?;
    let main = container("main", BUSYBOX, &["httpd", "-f", "-p", "80", "-h", "/www"]);
    let (pod_id, _) = stage.cri.start_in_pod(config, &main).await?;
    let status = stage.cri.pod(&pod_id).await?;
    let address = status.network.context("the pod has a network")?.ip;
    until("the page is served", async || Ok(page(&address, 80).await.is_ok())).await?;
    Ok((pod_id, address))
}

/// The page at an address, from this thread's network namespace.
async fn page(address: &str, port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    ensure!(text.contains(PAGE), "{text}");
    Ok(text)
}

#[test]
fn pods_reach_each_other_and_the_host_reaches_them() -> Result<()> {
    on_stage(async |stage| {
        let (first, address) = server(stage, &pod("first")).await?;
        let (second, other) = server(stage, &pod("second")).await?;
        ensure!(address != other, "both have {address}");
        let pods = stage.cri.containers(None).await?;
        for container in pods {
            for target in [&address, &other] {
                let url = format!("http://{target}/index.html");
                let seen =
                    stage.cri.output(&container.id, &["wget", "-q", "-O", "-", &url]).await?;
                ensure!(seen.contains(PAGE), "{seen}");
            }
        }
        stage.cri.take_away(&first).await?;
        stage.cri.take_away(&second).await
    })
}

#[test]
fn a_host_port_leads_to_the_pod_from_loopback_and_from_the_pod_itself() -> Result<()> {
    on_stage(async |stage| {
        let (id, _) = server(stage, &with_port(pod("port"), 8080, 80)).await?;
        page("127.0.0.1", 8080).await?;
        let main = stage.cri.containers(None).await?.remove(0).id;
        // Through the bridge's own address and back to the pod that asks.
        let gateway = stage.cri.output(&main, &["sh", "-c", "ip route | head -n 1"]).await?;
        let gateway = gateway.split_whitespace().nth(2).context("there is a route")?.to_owned();
        let url = format!("http://{gateway}:8080/index.html");
        let seen = stage.cri.output(&main, &["wget", "-q", "-O", "-", &url]).await?;
        ensure!(seen.contains(PAGE), "{seen}");
        stage.cri.take_away(&id).await?;
        ensure!(page("127.0.0.1", 8080).await.is_err(), "the port leads somewhere still");
        Ok(())
    })
}

#[test]
fn a_host_port_that_is_taken_is_refused_and_the_first_pod_keeps_it() -> Result<()> {
    on_stage(async |stage| {
        let (first, _) = server(stage, &with_port(pod("first"), 8080, 80)).await?;
        let refused = stage.cri.run_pod(&with_port(pod("second"), 8080, 80)).await;
        ensure!(message(&refused).contains("8080"), "{refused:?}");
        page("127.0.0.1", 8080).await?;
        ensure!(stage.cri.pods().await?.len() == 1, "the refused pod is listed");
        stage.cri.take_away(&first).await
    })
}

#[test]
fn addresses_are_given_back() -> Result<()> {
    on_stage(async |stage| {
        for _ in 0..3 {
            let id = stage.cri.run_pod(&pod("lease")).await?;
            ensure!(leases(stage)? == 1, "{} leases with one pod", leases(stage)?);
            stage.cri.stop_pod(&id).await?;
            ensure!(leases(stage)? == 0, "{} leases after the stop", leases(stage)?);
            stage.cri.remove_pod(&id).await?;
        }
        Ok(())
    })
}

/// Reserved addresses.
fn leases(stage: &Stage) -> Result<usize> {
    let mut count = 0;
    for network in std::fs::read_dir(stage.daemon.leases())? {
        for entry in std::fs::read_dir(network?.path())? {
            let name = entry?.file_name();
            count += usize::from(name.to_string_lossy().starts_with("10.244."));
        }
    }
    Ok(count)
}

#[test]
fn many_pods_at_once_get_addresses_of_their_own() -> Result<()> {
    on_stage(async |stage| {
        let mut tasks = Vec::new();
        for number in 0..20 {
            let mut cri = stage.cri.clone();
            tasks.push(tokio::spawn(async move {
                let id = cri.run_pod(&pod(&format!("pod-{number}"))).await?;
                let network = cri.pod(&id).await?.network.context("the pod has a network")?;
                anyhow::Ok((id, network.ip))
            }));
        }
        let mut addresses = Vec::new();
        for task in tasks {
            addresses.push(task.await??);
        }
        let unique: std::collections::HashSet<&String> =
            addresses.iter().map(|(_, address)| address).collect();
        ensure!(unique.len() == addresses.len(), "{addresses:?}");
        for (id, _) in &addresses {
            stage.cri.take_away(id).await?;
        }
        Ok(())
    })
}
