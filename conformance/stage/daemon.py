"""One daemon with everything of its own: roots, instance name, configuration, network."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from stage.inventory import files

START_DEADLINE = 30
STOP_DEADLINE = 30
MIRRORED = ("registry.k8s.io", "k8s.gcr.io", "gcr.io")


class Daemon:
    """One daemon; `with` starts it and ends it. The directory holds its roots, its log and its configuration."""

    def __init__(self, programs, directory, instance, registry, subnet="10.244.7.0/24"):
        self.programs = pathlib.Path(programs)
        self.directory = pathlib.Path(directory)
        self.instance = instance
        self.registry = registry
        self.subnet = subnet
        self.bridge = f"{instance}0"
        self.cgroup = f"cringle-{instance}"
        self.root = self.directory / "root"
        self.state = self.directory / "state"
        self.leases = self.directory / "leases"
        self.socket = self.state / "cringle.sock"
        self.nri = self.state / "nri.sock"
        self.log = self.directory / "daemon.log"
        self.process = None
        # What else its configuration has.
        self.more = ""

    @property
    def endpoint(self):
        """The address as clients want it."""
        return f"unix://{self.socket}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Write the configuration and start; returns when the daemon answers."""
        for path in (self.root, self.state, self.leases, self.directory / "net.d", self.directory / "netns"):
            path.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "cringle.toml"
        configuration.write_text(self.configuration())
        (self.directory / "net.d" / "10-bridge.conflist").write_text(json.dumps(self.network(), indent=1))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.programs / "cringle", "serve", "--config", configuration],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_socket()

    def stop(self):
        """Ask it to end, and make it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SystemExit(f"the daemon did not end within {STOP_DEADLINE} s of SIGTERM") from None

    def await_space(self, deadline=20):
        """Wait until what removed images held is given back, which the end of the daemon would cut short until its next
        start. What is not given back, the inventory shows."""
        end = time.monotonic() + deadline
        # Twice, as a layer may move between two directories while the first look is between them.
        while (files(self.root) or files(self.root)) and time.monotonic() < end:
            time.sleep(0.02)

    def kill(self):
        """End it without a warning."""
        self.process.kill()
        self.process.wait()

    def remove_files(self):
        """Drop its directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def configuration(self):
        """The configuration file."""
        mirrors = "\n".join(f'[images.registries."{host}"]\nmirrors = ["http://{self.registry}"]' for host in MIRRORED)
        return f"""instance = "{self.instance}"
root = "{self.root}"
state = "{self.state}"
socket = "{self.socket}"

[log]
level = "{os.environ.get('CRINGLE_LOG_LEVEL', 'info')}"

[cgroup]
parent = "/{self.cgroup}"

[network]
config_directory = "{self.directory / 'net.d'}"
plugin_directories = ["{self.directory / 'plugins'}"]
cache_directory = "{self.directory / 'cni'}"
netns_directory = "{self.directory / 'netns'}"

[nri]
socket = "{self.nri}"
plugin_path = "{self.directory / 'nri-plugins'}"

{mirrors}

{self.more}
"""

    def network(self):
        """A bridge with addresses of this instance and host ports."""
        gateway_range = {"subnet": self.subnet}
        return {"cniVersion": "1.1.0", "name": self.instance, "plugins": [
            {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": True, "hairpinMode": True,
             "ipam": {"type": "host-local", "ranges": [[gateway_range]], "routes": [{"dst": "0.0.0.0/0"}],
                      "dataDir": str(self.leases)}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]}

    def _await_socket(self):
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the daemon ended with {self.process.returncode}:\n{self.tail()}")
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                return
            except OSError:
                time.sleep(0.01)
        raise SystemExit(f"the daemon does not listen on {self.socket}:\n{self.tail()}")

    def tail(self, lines=30):
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
