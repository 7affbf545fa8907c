"""containerd with runc and the reference network plugins, as a peer in the bench."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from stage import paths

START_DEADLINE = 60
OWN_DIRECTORIES = (pathlib.Path("/run/containerd"),)


class Containerd:
    """One containerd with everything of its own below a directory; use it with `with`."""

    def __init__(self, directory, registry):
        self.directory = pathlib.Path(directory)
        self.registry = registry
        self.programs = paths.TOOLS / "peer"
        self.socket = self.directory / "containerd.sock"
        self.process = None
        # It makes these whatever its configuration says; they are taken away if they were not there before.
        self.foreign = [path for path in OWN_DIRECTORIES if not path.exists()]

    def __enter__(self):
        hosts = self.directory / "certs.d" / "_default"
        for path in (hosts, self.directory / "net.d"):
            path.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(f'[host."http://{self.registry}"]\n')
        (self.directory / "net.d" / "10-bridge.conflist").write_text(json.dumps(self.network()))
        configuration = self.directory / "config.toml"
        configuration.write_text(self.configuration())
        environment = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        with open(self.directory / "containerd.log", "wb") as log:
            self.process = subprocess.Popen([self.programs / "containerd", "--config", configuration], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + START_DEADLINE
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"containerd did not start: see {self.directory / 'containerd.log'}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for path in self.foreign:
            shutil.rmtree(path, ignore_errors=True)
        for group in pathlib.Path("/sys/fs/cgroup").glob("*/k8s.io"):
            # Not empty means that somebody else's containers are in it.
            with contextlib.suppress(OSError):
                group.rmdir()

    def configuration(self):
        """As it comes, but for what a machine without CAP_SYS_RESOURCE can't do, and our places."""
        return f"""version = 3
root = "{self.directory}/root"
state = "{self.directory}/state"
[grpc]
address = "{self.socket}"
[ttrpc]
address = "{self.socket}.ttrpc"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{self.directory}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{self.programs}"]
conf_dir = "{self.directory}/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""

    def network(self):
        """The same network as ours, by the reference plugins."""
        return {"cniVersion": "1.1.0", "name": "peer", "plugins": [
            {"type": "bridge", "bridge": "peer0", "isGateway": True, "ipMasq": True, "ipMasqBackend": "nftables",
             "hairpinMode": True, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.245.0.0/16"}]],
                                           "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(self.directory / "leases")}},
            {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}}]}
