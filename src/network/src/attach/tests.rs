use super::*;
use crate::{BuiltinPlugins, NetworkSettings};
use cringle_domain::id::InstanceId;
use cringle_domain::namespaces::{PodNamespaces, PodPid, Sharing};
use cringle_domain::resources::PodResources;
use cringle_domain::security::PodSecurity;
use cringle_domain::spec::{PodMetadata, PortMapping, Protocol};
use cringle_kernel::namespace::{self, Namespaces};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Instant as Clock;

/// Tells what it was told, then answers.
const RECORDER: &str = r#"#!/bin/sh
read -r config
echo "$CNI_COMMAND ${0##*/} $CNI_CONTAINERID $CNI_IFNAME [$CNI_NETNS] $CNI_ARGS" >> DIR/calls
echo "$config" >> DIR/configs
case $CNI_COMMAND in
ADD) echo '{"ips":[{"address":"10.9.0.2/24"}]}';;
esac
"#;

const LIST: &str = r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"a","capabilities":{"portMappings":true}},{"type":"b"}]}"#;

struct Host {
    root: tempfile::TempDir,
    network: Arc<Network>,
}

/// A host in a network namespace of its own, whose threads inherit it.
fn on_host<F: Future<Output = ()>>(work: impl FnOnce(Host) -> F + Send) {
    on_host_with(Duration::from_secs(60), work);
}

/// The same, with that long for an attachment.
fn on_host_with<F: Future<Output = ()>>(
    add_timeout: Duration,
    work: impl FnOnce(Host) -> F + Send,
) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            namespace::unshare(Namespaces::NETWORK).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { work(Host::new(add_timeout)).await });
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

impl Host {
    fn new(add_timeout: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["conf", "bin"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let network = Network::start(NetworkSettings {
            config_directory: root.path().join("conf"),
            conf_template: None,
            plugin_directories: vec![root.path().join("bin")],
            cache_directory: root.path().join("cache"),
            plugin_program: root.path().join("none"),
            instance: InstanceId::try_from("t".to_owned()).unwrap(),
            builtin_plugins: BuiltinPlugins::InProcess,
            default_network: None,
            add_timeout,
            delete_timeout: Duration::from_secs(60),
        });
        Self { network: network.unwrap(), root }
    }

    fn plugin(&self, name: &str, script: &str) {
        let path = self.root.path().join("bin").join(name);
        let script = script.replace("DIR", self.root.path().to_str().unwrap());
        cringle_store::atomic::replace(&path, script.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn record(&self, list: &str) -> AttachmentRecord {
        AttachmentRecord {
            network: "n".to_owned(),
            configuration: list.to_owned(),
            interface: INTERFACE.to_owned(),
            netns: "/proc/self/ns/net".into(),
            container_id: pod().to_string(),
            arguments: arguments(&spec(), &pod()),
            capabilities: capability::arguments(&spec()).unwrap(),
        }
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.root.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn configure(&self, list: &str) {
        let path = self.root.path().join("conf/10-n.conflist");
        cringle_store::atomic::replace(&path, list.as_bytes()).unwrap();
        self.until(true).await;
    }

    /// Waits until a network is there, or is not.
    async fn until(&self, there: bool) {
        let deadline = Clock::now() + Duration::from_secs(20);
        while self.network.status().is_ok() != there {
            assert!(Clock::now() < deadline, "{:?}", self.network.status());
            tokio::task::yield_now().await;
        }
    }

    /// The text of the failure of an ADD by a plugin that is that script.
    async fn failure(&self, script: &str) -> String {
        self.plugin("a", script);
        let list = LIST.replace(r#",{"type":"b"}"#, "");
        let error = self.network.add(&self.record(&list)).await.unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    }
}

fn pod() -> PodId {
    PodId::from_bytes([7; 32])
}

fn spec() -> PodSpec {
    PodSpec {
        metadata: PodMetadata {
            name: "web;X=1".to_owned(),
            namespace: "default".to_owned(),
            uid: "u".to_owned(),
            attempt: 0,
        },
        hostname: String::new(),
        log_directory: None,
        dns: None,
        port_mappings: vec![PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_address: None,
        }],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: None,
        sysctls: BTreeMap::new(),
        namespaces: PodNamespaces {
            network: Sharing::Pod,
            ipc: Sharing::Pod,
            pid: PodPid::Container,
            ..PodNamespaces::default()
        },
        security: PodSecurity::default(),
        resources: PodResources::default(),
        runtime_handler: String::new(),
    }
}

#[test]
fn a_chain_is_told_everything_forward_and_backward_though_the_directory_changed() {
    on_host(|host| async move {
        host.plugin("a", RECORDER);
        host.plugin("b", RECORDER);
        host.configure(LIST).await;
        let record = host.network.plan(&spec(), &pod(), "/proc/self/ns/net".as_ref()).unwrap();
        assert_eq!(record.configuration, LIST);
        let attached = host.network.add(&record).await.unwrap();
        assert_eq!(attached.addresses, ["10.9.0.2".parse::<IpAddr>().unwrap()]);
        let cached = host.root.path().join(format!("cache/results/n-{}-eth0", pod()));
        let entry: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&cached).unwrap()).unwrap();
        assert_eq!(
            (&entry["kind"], &entry["cniArgs"][1]),
            (&"cniCacheV1".into(), &serde_json::json!(["K8S_POD_NAMESPACE", "default"]))
        );
        assert_eq!(entry["result"]["cniVersion"], "1.1.0");
        std::fs::remove_file(host.root.path().join("conf/10-n.conflist")).unwrap();
        host.until(false).await;
        let gone = AttachmentRecord { netns: "/nonexistent".into(), ..record };
        host.network.delete(&gone).await.unwrap();
        assert!(!cached.exists());
        host.network.delete(&gone).await.unwrap();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=webX1;\
             K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u",
            id = pod()
        );
        let line = |verb: &str, kind: &str, netns: &str| {
            format!("{verb} {kind} {} eth0 [{netns}] {args}", pod())
        };
        let own = "/proc/self/ns/net";
        let calls = host.lines("calls");
        assert_eq!(
            calls[..4],
            [
                line("ADD", "a", own),
                line("ADD", "b", own),
                line("DEL", "b", ""),
                line("DEL", "a", "")
            ]
        );
        let configs: Vec<serde_json::Value> =
            host.lines("configs").iter().map(|one| serde_json::from_str(one).unwrap()).collect();
        assert_eq!(configs[0]["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
        assert!(
            configs[0].get("prevResult").is_none() && configs[1].get("runtimeConfig").is_none()
        );
        for place in [1, 2, 3] {
            assert_eq!(configs[place]["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
        }
        assert!(configs[4].get("prevResult").is_none(), "a repeated DEL has no result any more");
    });
}

#[test]
fn every_way_to_fail_names_the_plugin_and_the_pod() {
    on_host(|host| async move {
        let big = "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\nhead -c 10000000 /dev/zero\n";
        let reported = "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && { touch DIR/undone; exit 0; }\n\
            echo why >&2; echo '{\"code\":103,\"msg\":\"no\",\"details\":\"port\"}'; exit 1\n";
        for (script, expected) in [
            (reported, "code 103: no: port; it wrote: why"),
            ("#!/bin/sh\n[ $CNI_COMMAND = DEL ] || echo garbage\n", "no result"),
            (big, "more than 1 MiB"),
            ("#!/bin/sh\n[ $CNI_COMMAND = DEL ] || kill -9 $$\n", "killed by signal 9"),
        ] {
            let text = host.failure(script).await;
            assert!(text.contains(expected) && text.contains(pod().as_str()), "{text}");
            assert!(text.contains("\"a\""), "{text}");
        }
        assert!(host.root.path().join("undone").exists());
        std::fs::remove_file(host.root.path().join("bin/a")).unwrap();
        let error = host.network.add(&host.record(LIST)).await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("no plugin \"a\""));
    });
}

#[test]
fn a_plugin_that_hangs_is_ended_and_named() {
    on_host_with(Duration::from_secs(2), |host| async move {
        let hangs = "#!/bin/sh\n[ $CNI_COMMAND = DEL ] || exec sleep 600\n";
        let text = host.failure(hangs).await;
        assert!(text.contains("did not end within") && text.contains(pod().as_str()), "{text}");
        assert!(text.contains("\"a\""), "{text}");
    });
}

#[test]
fn a_descendant_that_holds_the_output_open_and_a_program_still_written_to_do_no_harm() {
    on_host(|host| async move {
        host.plugin(
            "a",
            "#!/bin/sh\nsleep 5 &\necho '{\"ips\":[{\"address\":\"10.9.0.2/24\"}]}'\n",
        );
        let list = LIST.replace(r#",{"type":"b"}"#, "");
        let record = host.record(&list);
        let path = host.root.path().join("bin/a");
        let writer = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            drop(writer);
        };
        let (attached, ()) = tokio::join!(host.network.add(&record), release);
        assert_eq!(attached.unwrap().addresses.len(), 1);
    });
}

#[test]
fn status_and_collection_reach_the_plugins() {
    on_host(|host| async move {
        host.plugin("a", RECORDER);
        host.plugin(
            "b",
            "#!/bin/sh\necho '{\"code\":50,\"msg\":\"not yet\"}'; [ $CNI_COMMAND != STATUS ]\n",
        );
        host.configure(LIST).await;
        let error = host.network.probe().await.unwrap_err();
        assert!(error.message.contains("not yet"), "{error}");
        host.network.collect(&[host.record(LIST)]).await.unwrap();
        let configs = host.lines("configs");
        let last: serde_json::Value = serde_json::from_str(configs.last().unwrap()).unwrap();
        let valid = serde_json::json!([{"containerID": pod().as_str(), "ifname": "eth0"}]);
        assert_eq!(
            (&last["cni.dev/valid-attachments"], &last["cni.dev/attachments"]),
            (&valid, &valid)
        );
    });
}

#[test]
fn a_directory_may_be_removed_made_again_and_swapped_by_a_link() {
    on_host(|host| async move {
        let conf = host.root.path().join("conf");
        host.configure(LIST).await;
        let aside = conf.join("10-n.conflist.bak");
        std::fs::rename(conf.join("10-n.conflist"), &aside).unwrap();
        host.until(false).await;
        std::fs::rename(&aside, conf.join("20-n.conf")).unwrap();
        host.until(true).await;
        std::fs::remove_dir_all(&conf).unwrap();
        host.until(false).await;
        std::fs::create_dir_all(&conf).unwrap();
        host.configure(LIST).await;
        std::fs::rename(&conf, host.root.path().join("other")).unwrap();
        host.until(false).await;
        std::os::unix::fs::symlink("other", &conf).unwrap();
        host.until(true).await;
        std::fs::create_dir_all(host.root.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("empty", host.root.path().join("next")).unwrap();
        std::fs::rename(host.root.path().join("next"), &conf).unwrap();
        host.until(false).await;
    });
}

#[test]
fn our_own_chain_runs_in_process_and_strays_are_collected_without_any_configuration() {
    on_host(|host| async move {
        let list = format!(
            r#"{{"cniVersion":"1.1.0","name":"n","plugins":[{{"type":"bridge","bridge":"t0","isGateway":true,"ipMasq":true,
               "ipam":{{"type":"host-local","dataDir":"{}","subnet":"10.9.0.0/24"}}}}]}}"#,
            host.root.path().join("leases").display()
        );
        host.configure(&list).await;
        host.network.probe().await.unwrap();
        let own = || namespace::own(Namespaces::NETWORK).unwrap();
        let pod_netns = std::thread::spawn(move || {
            namespace::unshare(Namespaces::NETWORK).unwrap();
            own()
        });
        let pod_netns = pod_netns.join().unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), pod_netns.as_raw_fd());
        // A foreign program of that name is not what publishes ports that no plugin asked for.
        host.plugin("portmap", "#!/bin/sh\nexit 1\n");
        let record = host.network.plan(&spec(), &pod(), path.as_ref()).unwrap();
        assert!(record.configuration.contains("portmap"));
        let attached = host.network.add(&record).await.unwrap();
        assert_eq!(attached.addresses.len(), 1);
        host.network.check(&record).await.unwrap();
        let counted = || async {
            let count = |context: &mut cringle_cni::context::Context| {
                let links = cringle_cni::sweep::owned_links(context).unwrap().len();
                (links, cringle_cni::sweep::owned_elements(context).unwrap().is_empty())
            };
            host.network.worker.run(count).await.unwrap()
        };
        host.network.collect(std::slice::from_ref(&record)).await.unwrap();
        assert_eq!(counted().await, (1, false), "what is valid stays");
        std::fs::remove_file(host.root.path().join("conf/10-n.conflist")).unwrap();
        host.until(false).await;
        host.network.collect(&[]).await.unwrap();
        assert_eq!(counted().await, (0, true));
        let leases = std::fs::read_dir(host.root.path().join("leases/n")).unwrap();
        let leased = leases.flatten().filter(|one| {
            one.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok())
        });
        assert_eq!(leased.count(), 0, "the cached configuration says where the lease is");
        host.network.delete(&record).await.unwrap();
        host.network.remove_all().await.unwrap();
    });
}
