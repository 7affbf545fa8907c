"""One kubelet without an API server: its configuration, its process, its HTTP interface."""

import json
import os
import pathlib
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request

from stage import paths

PROGRAMS = paths.TOOLS / "kubelet"
# All of them on the loopback of a network namespace that nobody else uses.
PORT, READ_ONLY_PORT, HEALTH_PORT = 10250, 10255, 10248
START_DEADLINE = 60
STOP_DEADLINE = 30
# No proxy between two ends of one machine, and a certificate that the kubelet made itself.
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                   urllib.request.HTTPSHandler(context=ssl._create_unverified_context()))  # pylint: disable=protected-access


class Kubelet:
    """One kubelet with its roots below a directory. Its pods outlive its process."""

    def __init__(self, directory, endpoint, cgroup):
        self.directory = pathlib.Path(directory)
        self.endpoint = endpoint
        self.cgroup = cgroup
        self.root = self.directory / "kubelet"
        self.manifests = self.directory / "manifests"
        self.pod_logs = self.directory / "pods"
        self.log = self.directory / "kubelet.log"
        self.settings = {}
        self.process = None

    def start(self):
        """Write the configuration and start; returns when its HTTP interface answers."""
        for path in (self.root, self.manifests, self.pod_logs):
            path.mkdir(parents=True, exist_ok=True)
        (self.directory / "resolv.conf").write_text("nameserver 10.10.10.10\nsearch node.test\n")
        configuration = self.directory / "kubelet.json"
        configuration.write_text(json.dumps({**self.defaults(), **self.settings}, indent=1))
        command = [PROGRAMS / "kubelet", f"--config={configuration}", f"--root-dir={self.root}", f"--cert-dir={self.root / 'pki'}",
                   "--hostname-override=node", "--v=3"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_answer()

    def stop(self):
        """Ask it to end, and make it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """End it without a warning."""
        self.process.kill()
        self.process.wait()

    def defaults(self):
        """A configuration for one machine of a few pods: short periods, and limits that no test machine is near."""
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": self.endpoint, "staticPodPath": str(self.manifests), "podLogsDir": str(self.pod_logs),
            "address": "127.0.0.1", "port": PORT, "readOnlyPort": READ_ONLY_PORT, "healthzPort": HEALTH_PORT,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}, "enableDebuggingHandlers": True,
            # The runtime says which driver it is, and its word counts.
            "cgroupRoot": f"/{self.cgroup}", "cgroupDriver": "systemd", "failCgroupV1": False, "enforceNodeAllocatable": [],
            "failSwapOn": False, "oomScoreAdj": 0, "makeIPTablesUtilChains": False, "seccompDefault": True, "maxPods": 200,
            "resolvConf": str(self.directory / "resolv.conf"), "volumePluginDir": str(self.root / "plugins-of-volumes"),
            "fileCheckFrequency": "1s", "syncFrequency": "5s", "nodeStatusUpdateFrequency": "5s", "volumeStatsAggPeriod": "5s",
            "crashLoopBackOff": {"maxContainerRestartPeriod": "3s"}, "serializeImagePulls": False, "registryPullQPS": 0,
            "containerLogMaxSize": "64Ki", "containerLogMaxFiles": 10, "containerLogMonitorInterval": "3s",
            "imageGCHighThresholdPercent": 100, "evictionHard": {"memory.available": "10Mi"},
            "allowedUnsafeSysctls": ["net.core.somaxconn"],
        }

    def get(self, path, port=READ_ONLY_PORT):
        """The answer to a request over plain HTTP, as bytes."""
        with HTTP.open(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.read()

    def ask(self, path, method="GET"):
        """The answer of the whole interface, which is there over TLS only."""
        request = urllib.request.Request(f"https://127.0.0.1:{PORT}{path}", method=method)
        with HTTP.open(request, timeout=60) as answer:
            return answer.read()

    def json(self, path):
        """An answer as a document."""
        return json.loads(self.get(path))

    def pods(self):
        """What it says of its pods: name without the node's → pod. Nothing, while it is not there."""
        try:
            listed = self.json("/pods")["items"] or []
        except (OSError, urllib.error.URLError):
            return {}
        return {pod["metadata"]["name"].removesuffix("-node"): pod for pod in listed}

    def _await_answer(self):
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the kubelet ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.get("/healthz", HEALTH_PORT)
                self.get("/pods")
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise SystemExit(f"the kubelet does not answer:\n{self.tail()}")

    def tail(self, lines=30):
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def streams(*words, content=b"", deadline=60):
    """Our client of the kubelet's streams: the finished process."""
    return subprocess.run([PROGRAMS / "streams", *map(str, words)], input=content, capture_output=True, check=False,
                          timeout=deadline, env=_environment())


def start_streams(*words, **options):
    """The client as a process that goes on."""
    return subprocess.Popen([PROGRAMS / "streams", *map(str, words)], env=_environment(), **options)


def _environment():
    # No proxy between two ends of one machine.
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
