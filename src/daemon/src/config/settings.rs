//! Every key there is.

use super::declare::section;
use super::values::{
    AbsolutePath, CgroupDriver, CgroupPath, CheckpointLevel, Interval, LogFormat, LogLevel,
    MetricsAddress, OldestTls, OptionalPath, PerMillion, Period, Program, Switch, TraceEndpoint,
    UnsetSeccomp,
};
use cringle_domain::id::InstanceId;
use cringle_domain::security::CapabilitySet;
use cringle_image::settings::RegistrySettings;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;

/// The whole configuration, a field for each section.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The keys before the first section.
    pub(crate) daemon: DaemonKeys,
    /// Section `log`.
    pub(crate) log: LogKeys,
    /// Section `shim`.
    pub(crate) shim: ShimKeys,
    /// Section `cgroup`.
    pub(crate) cgroup: CgroupKeys,
    /// Section `images`.
    pub(crate) images: ImageKeys,
    /// Section `network`.
    pub(crate) network: NetworkKeys,
    /// Section `pods`.
    pub(crate) pods: PodKeys,
    /// Section `metrics`.
    pub(crate) metrics: MetricsKeys,
    /// Section `containers`.
    pub(crate) containers: ContainerKeys,
    /// Section `cdi`.
    pub(crate) cdi: CdiKeys,
    /// Section `checkpoint`.
    pub(crate) checkpoint: CheckpointKeys,
    /// Section `streaming`.
    pub(crate) streaming: StreamingKeys,
    /// Section `tracing`.
    pub(crate) tracing: TracingKeys,
    /// Section `nri`.
    pub(crate) nri: NriKeys,
}

section! {
    /// Configuration of cringle. Every key is shown with its default.
    DaemonKeys = "" {
        /// Name of this instance: everything it makes on the host bears it. One to eight lower-case letters or digits.
        instance: InstanceId = r#""cringle""#,
        /// What survives a reboot: images, records, writable layers.
        root: AbsolutePath = r#""/var/lib/cringle""#,
        /// What a reboot empties: sockets, mounts, run-time files.
        state: AbsolutePath = r#""/run/cringle""#,
        /// The socket that the kubelet connects to. Its directory is made, mode 0700.
        socket: AbsolutePath = r#""/run/cringle/cringle.sock""#,
        /// Threads that serve requests.
        worker_threads: NonZeroU16 = "2",
        /// How long requests in flight may take when the daemon is told to end.
        drain: Period = r#""10s""#,
    }
}

section! {
    /// The daemon's own log, written to standard error.
    LogKeys = "log" {
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = r#""info""#,
        /// "text" or "json".
        format: LogFormat = r#""text""#,
    }
}

section! {
    /// The process that supervises a container.
    ShimKeys = "shim" {
        /// Its program: an absolute path, or the name of a file beside the daemon's own program.
        path: Program = r#""containerd-shim-cringle-v2""#,
    }
}

section! {
    /// Control groups.
    CgroupKeys = "cgroup" {
        /// Who makes them; the kubelet follows. Only "cgroupfs".
        driver: CgroupDriver = r#""cgroupfs""#,
        /// Pods whose request names no parent are below it, in a cgroup with the instance's name.
        parent: CgroupPath = r#""/cringle""#,
    }
}

section! {
    /// Images.
    ImageKeys = "images" {
        /// How registries are reached, by host. For example:
        ///   [images.registries."docker.io"]
        ///   mirrors = ["https://mirror.example:5000"]
        ///   plain_http = false
        ///   skip_verify = false
        ///   ca_file = "/etc/cringle/mirror.pem"
        ///   client_certificate = { certificate = "/etc/cringle/client.pem", key = "/etc/cringle/client.key" }
        registries: BTreeMap<String, RegistrySettings> = "{}",
        /// Directory with one hosts.toml for each host, as other runtimes have it. It need not exist.
        registry_config_directory: AbsolutePath = r#""/etc/cringle/certs.d""#,
        /// Layers of one image that are fetched at the same time.
        max_concurrent_downloads: NonZeroU16 = "3",
        /// A pull that gets no byte for so long has failed.
        progress_timeout: Period = r#""1m""#,
        /// Images that the kubelet shall not remove to make room: full names, or beginnings that end in "*".
        pinned: Vec<String> = "[]",
    }
}

section! {
    /// Networks of pods, by CNI.
    NetworkKeys = "network" {
        /// Where the network's configuration is; it may change at any time.
        config_directory: AbsolutePath = r#""/etc/cni/net.d""#,
        /// A template from which the network's configuration is made when the kubelet tells the pods' address ranges, unless
        /// there is one of somebody else's; empty: none is made. Go's template syntax, of which {{.PodCIDR}},
        /// {{range .PodCIDRRanges}}, {{range .Routes}} and, inside, {{if $index}} are understood.
        conf_template: OptionalPath = r#""""#,
        /// Where plugins are.
        plugin_directories: Vec<AbsolutePath> = r#"["/opt/cni/bin"]"#,
        /// Where the results of attachments are kept.
        cache_directory: AbsolutePath = r#""/var/lib/cringle/cni""#,
        /// Where network namespaces are pinned.
        netns_directory: AbsolutePath = r#""/run/netns""#,
        /// Use the plugins that are built in when a plugin's file is missing or is our own.
        builtin_plugins: Switch = "true",
        /// The program with our plugins: an absolute path, or the name of a file beside the daemon's own program.
        plugin_program: Program = r#""cringle-cni""#,
        /// How long attaching a pod to a network may take.
        add_timeout: Period = r#""90s""#,
        /// How long detaching may take.
        delete_timeout: Period = r#""60s""#,
    }
}

section! {
    /// Pods.
    PodKeys = "pods" {
        /// Let every user of a pod with its own network listen on ports below 1024.
        enable_unprivileged_ports: Switch = "true",
        /// Let every group of a pod with its own network send echo requests.
        enable_unprivileged_icmp: Switch = "true",
    }
}

section! {
    /// Measurements.
    MetricsKeys = "metrics" {
        /// Where Prometheus can read them, at /metrics: "127.0.0.1:9090", or "unix:///run/cringle/metrics.sock", a
        /// socket for root alone. Who connects is not asked who they are. Empty: nowhere.
        address: MetricsAddress = r#""""#,
        /// Allow an address that is not a loopback address: then whoever reaches it can read them.
        allow_remote: Switch = "false",
        /// How often it is counted what containers wrote to their root file systems.
        layer_interval: Interval = r#""10s""#,
    }
}

section! {
    /// Containers.
    ContainerKeys = "containers" {
        /// Mount root file systems so that a crash of the host may cost their last writes, and none waits for a disk.
        overlay_volatile: Switch = "true",
        /// Capabilities of containers that are not privileged.
        capabilities: CapabilitySet = r#"[
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID",
]"#,
        /// What a container gets that names no seccomp profile: "unconfined" or "runtime-default".
        unset_seccomp: UnsetSeccomp = r#""unconfined""#,
    }
}

section! {
    /// Devices that vendors describe in files, by the Container Device Interface.
    CdiKeys = "cdi" {
        /// Whether containers can have them. If not, one that asks for such a device is refused.
        enable: Switch = "true",
        /// Where the files are; they may change at any time. A later directory outranks an earlier one. Files and directories
        /// that others than root can write to are not used.
        spec_dirs: Vec<AbsolutePath> = r#"["/etc/cdi", "/var/run/cdi"]"#,
    }
}

section! {
    /// Checkpoints of running containers, made by CRIU, and pods made of them.
    CheckpointKeys = "checkpoint" {
        /// CRIU's program, version 4.1 or later; empty: "criu" is looked up in the system's directories when it is needed.
        criu: OptionalPath = r#""""#,
        /// "none", "checkpoint_only" or "checkpoint_restore": whether they are made, and whether pods are made of them as well.
        /// Who may name a checkpoint for that should be trusted with its content.
        level: CheckpointLevel = r#""checkpoint_only""#,
        /// How long one may take whose request does not say.
        timeout: Interval = r#""2m""#,
    }
}

section! {
    /// Exec, attach and port-forward: the server that clients connect to with the URLs that the kubelet gets.
    StreamingKeys = "streaming" {
        /// Its address. The kubelet passes on what its clients send, so that the loopback address will do; another one is
        /// refused without a certificate.
        address: IpAddr = r#""127.0.0.1""#,
        /// Its port; 0: any that is free.
        port: u16 = "0",
        /// File with its certificate chain, in PEM; empty: connections are not encrypted. It is read again when it changes.
        tls_certificate: OptionalPath = r#""""#,
        /// File with the certificate's key, in PEM.
        tls_key: OptionalPath = r#""""#,
        /// File with the certificates of those who sign for clients, in PEM; empty: clients need no certificate.
        tls_client_ca: OptionalPath = r#""""#,
        /// The oldest version of TLS that is spoken, "1.2" or "1.3".
        tls_min_version: OldestTls = r#""1.2""#,
        /// How long nothing may happen on a connection, pings included, until it is ended; "0s": it is never ended.
        idle_timeout: Period = r#""4h""#,
        /// How long a client may take to make its streams.
        creation_timeout: Period = r#""30s""#,
        /// URLs that may wait for their clients. Each is good once and for a minute.
        max_waiting: NonZeroU16 = "1000",
    }
}

section! {
    /// Plugins of the Node Resource Interface: programs that are told what happens to pods and containers, and that may change
    /// containers before they are made.
    NriKeys = "nri" {
        /// Whether there are any.
        enable: Switch = "true",
        /// The socket that they connect to, for root alone. Its directory is made, mode 0700. If another runtime listens there,
        /// it is left to that.
        socket: AbsolutePath = r#""/var/run/nri/nri.sock""#,
        /// Take connections. Without that there are only the plugins that are launched.
        external_connections: Switch = "true",
        /// Where plugins are that are launched at the start: executable files named NN-name. It need not exist.
        plugin_path: AbsolutePath = r#""/opt/nri/plugins""#,
        /// Where their configuration is: NN-name.conf or name.conf.
        plugin_config_path: AbsolutePath = r#""/etc/nri/conf.d""#,
        /// How long a plugin may take to register, and to take in what there is.
        plugin_registration_timeout: Period = r#""5s""#,
        /// How long a plugin may take to answer a request; it is dropped if it takes longer.
        plugin_request_timeout: Period = r#""2s""#,
        /// Have what plugins want judged by the built-in validator. What it rejects is below.
        default_validator: Switch = "false",
        /// No plugin may add OCI hooks.
        reject_oci_hook_adjustment: Switch = "false",
        /// No plugin may change the seccomp policy of containers that ask for the runtime's default.
        reject_runtime_default_seccomp_adjustment: Switch = "false",
        /// No plugin may change the seccomp policy of containers that ask for none.
        reject_unconfined_seccomp_adjustment: Switch = "false",
        /// No plugin may change the seccomp policy of containers that bring their own.
        reject_custom_seccomp_adjustment: Switch = "false",
        /// No plugin may change namespaces.
        reject_namespace_adjustment: Switch = "false",
        /// No plugin may change sysctls.
        reject_sysctl_adjustment: Switch = "false",
        /// Plugins, by name or NN-name, without which no container is made. Static pods are no exception.
        required_plugins: Vec<String> = "[]",
        /// The annotation by which a pod says that it can do without required plugins; empty: there is none.
        tolerate_missing_plugins_annotation: String = r#""""#,
    }
}

section! {
    /// Traces of requests and of the stages of a start, for a collector that speaks OpenTelemetry's protocol (OTLP). Only in
    /// builds with the feature "otlp".
    TracingKeys = "tracing" {
        /// The collector's gRPC address, such as "http://127.0.0.1:4317"; empty: nothing is traced. A request whose client
        /// traces it is traced if the client says so.
        endpoint: TraceEndpoint = r#""""#,
        /// Of a million requests whose clients say nothing, how many begin a trace of their own.
        sampling_rate_per_million: PerMillion = "0",
    }
}

impl MetricsKeys {
    /// Keys that do not go together, each with what is wrong with it.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let remote = match &self.address {
            MetricsAddress::Tcp(address) => !address.ip().is_loopback(),
            MetricsAddress::Nowhere | MetricsAddress::Unix(_) => false,
        };
        let problem = "is not a loopback address, which needs allow_remote = true";
        (remote && !self.allow_remote.is_on()).then_some(("address", problem)).into_iter()
    }
}

impl StreamingKeys {
    /// The files of the certificate and its key, if there are both.
    pub(crate) fn certificate(&self) -> Option<(&Path, &Path)> {
        self.tls_certificate.path().zip(self.tls_key.path())
    }

    /// Keys that do not go together, each with what is wrong with it.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let certificate = self.tls_certificate.path().is_some();
        let key = self.tls_key.path().is_some();
        let authority = self.tls_client_ca.path().is_some();
        [
            (
                !self.address.is_loopback() && !certificate && !key,
                "address",
                "is not a loopback address, which needs tls_certificate and tls_key",
            ),
            (certificate && !key, "tls_key", "is missing, but there is a tls_certificate"),
            (key && !certificate, "tls_certificate", "is missing, but there is a tls_key"),
            (
                authority && !certificate && !key,
                "tls_client_ca",
                "needs tls_certificate and tls_key",
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, key, problem)| wrong.then_some((key, problem)))
    }
}
