"""The node that scenarios use: put a pod, wait for it, look at it from the kubelet's side and from the runtime's."""

import datetime
import json
import pathlib
import re
import shutil
import subprocess

from node import manifests
from node.kubelet import Kubelet, start_streams, streams
from node.waiting import until
from stage.steps import expect

RELISTS = "kubelet_pleg_relist_duration_seconds_count"
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Node:
    """A running daemon and kubelet with pods."""

    def __init__(self, daemon, crictl, directory):
        self.daemon = daemon
        self.crictl = crictl
        self.directory = pathlib.Path(directory)
        # What scenarios share with their containers.
        self.shared = self.directory / "shared"
        self.kubelet = Kubelet(directory, daemon.endpoint, daemon.cgroup)

    def put(self, pod):
        """Give the kubelet a pod, or another form of one that it has."""
        path = self.manifest(pod["metadata"]["name"])
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(json.dumps(pod))
        fresh.rename(path)

    def manifest(self, name):
        """The file of a pod."""
        return self.kubelet.manifests / f"{name}.json"

    def drop(self, *names):
        """Take pods away; returns at once."""
        for name in names:
            self.manifest(name).unlink(missing_ok=True)

    def drop_all(self):
        """Take all pods away and wait until the runtime has none of them. Their logs go too: a pod of the same form has the same."""
        self.drop(*(path.stem for path in self.kubelet.manifests.glob("*.json")))
        self.await_gone()
        for path in self.kubelet.pod_logs.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def take_down(self):
        """Take all pods away as a user does, then the kubelet and what it leaves mounted."""
        try:
            # A scenario may have ended between taking it away and bringing it back.
            if self.daemon.process.poll() is not None:
                self.daemon.start()
            if self.kubelet.process.poll() is None:
                self.drop_all()
        finally:
            self.kubelet.stop()
            # What the kubelet did not take away, so that nothing runs on if this is the end of a run that was cut short.
            self.crictl.remove_all()
            # It mounts its own directory there too, for mounts that travel.
            points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
            for point in reversed([point for point in points if pathlib.Path(point).is_relative_to(self.kubelet.root)]):
                subprocess.run(["umount", point], check=True)

    def await_gone(self, name=None):
        """Wait until the runtime has no sandbox of a pod, or no sandbox at all, that is ready."""
        labels = ["--label", f"app={name}"] if name else []
        until(lambda: not self.sandboxes("--state", "ready", *labels), f"the end of {name or 'all pods'}")

    def sandboxes(self, *words):
        """What the runtime lists."""
        return json.loads(self.crictl.text("pods", "-o", "json", *words))["items"]

    def containers(self, name, *words):
        """What the runtime lists of a pod's containers, those that ended too."""
        pod = f"{name}-node"
        listed = json.loads(self.crictl.text("ps", "-a", "-o", "json", *words))["containers"]
        return [entry for entry in listed if entry["labels"]["io.kubernetes.pod.name"] == pod]

    def pod(self, name):
        """The pod as the kubelet shows it; one that it does not show is empty."""
        return self.kubelet.pods().get(name, {})

    def status(self, name):
        """The pod's status."""
        return self.pod(name).get("status", {})

    def container(self, pod, name):
        """The status of one container of a pod, of whatever kind."""
        status = self.status(pod)
        kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        return next((entry for kind in kinds for entry in status.get(kind, []) if entry["name"] == name), {})

    def is_ready(self, name):
        """Whether all of a pod's containers are ready."""
        return condition(self.status(name), "Ready") == "True"

    def await_ready(self, *names):
        """Wait until pods are ready."""
        for name in names:
            until(lambda name=name: self.is_ready(name), self._told(name, "is not ready"))

    def await_phase(self, name, phase):
        """Wait until a pod is in a phase."""
        until(lambda: self.status(name).get("phase") == phase, self._told(name, f"is not {phase}"))

    def await_container(self, pod, name, question):
        """Wait until a container's status is as asked; that status."""
        found = {}

        def asked():
            found.clear()
            found.update(self.container(pod, name))
            return question(found)

        until(asked, self._told(pod, f"has no such {name}"))
        return found

    def terminated(self, pod, name):
        """Wait until a container ended for good; how it did."""
        return self.await_container(pod, name, lambda status: "terminated" in status.get("state", {}))["state"]["terminated"]

    def running(self, pod, name):
        """Wait until a container runs; its status."""
        return self.await_container(pod, name, lambda status: "running" in status.get("state", {}))

    def _told(self, name, lack):
        return lambda: f"{name} {lack}: {brief(self.status(name))}"

    def exec(self, pod, container, *command, transport="spdy", content=b"", tty=None):
        """Run a command through the kubelet's interface: the finished process."""
        options = ["-stdin"] if content else []
        options += ["-tty", tty] if tty else []
        return streams("exec", "-transport", transport, "-pod", f"{manifests.NAMESPACE}/{pod}-node", "-container", container, *options,
                       "--", *command, content=content)

    def output(self, pod, container, script):
        """What a script that must succeed prints in a container."""
        done = self.exec(pod, container, "sh", "-c", script)
        expect(done.returncode == 0, f"{script!r} in {pod}/{container} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}")
        return done.stdout.decode(errors="replace")

    def start_streams(self, verb, pod, *words, **options):
        """The streams' client as a process that goes on."""
        return start_streams(verb, "-pod", f"{manifests.NAMESPACE}/{pod}-node", *words, **options)

    def logs(self, pod, container, **query):
        """A container's log through the kubelet's interface."""
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return self.kubelet.ask(f"/containerLogs/{manifests.NAMESPACE}/{pod}-node/{container}?{words}").decode(errors="replace")

    def log_files(self, pod, container):
        """Where a container's log files are."""
        uid = self.pod(pod)["metadata"]["annotations"]["kubernetes.io/config.hash"]
        return self.kubelet.pod_logs / f"{manifests.NAMESPACE}_{pod}-node_{uid}" / container

    def folder(self, name):
        """A fresh directory of the host for one scenario; everybody may write there."""
        path = self.shared / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        path.chmod(0o777)
        return path

    def process(self, pod, name):
        """The host's number of a running container's first process."""
        identity = self.running(pod, name)["containerID"].partition("://")[2]
        return int(json.loads(self.crictl.text("inspect", identity))["info"]["pid"])

    def images(self):
        """All images that the runtime has."""
        return json.loads(self.crictl.text("images", "-o", "json"))["images"]

    def metrics(self, path):
        """All series of a page of metrics: name, labels, value."""
        for line in self.kubelet.get(path).decode().splitlines():
            found = SERIES.match(line)
            if found:
                yield found[1], dict(LABEL.findall(found[2] or "")), float(found[3])

    def metric(self, name):
        """The sum of the kubelet's own series of that name."""
        return sum(value for found, _, value in self.metrics("/metrics") if found == name)

    def after_relist(self):
        """Wait until the kubelet has looked at all pods once more; where its log ends then."""
        begun = self.metric(RELISTS)
        # One may be under way, so the second is the first that began after this call.
        until(lambda: self.metric(RELISTS) >= begun + 2, "two looks of the kubelet at all pods")
        return self.kubelet.log.stat().st_size

    def pleg_errors(self, mark):
        """What the kubelet's log says of failed looks at the runtime from there on."""
        with open(self.kubelet.log, "rb") as log:
            log.seek(mark)
            text = log.read().decode(errors="replace")
        return [line for line in text.splitlines() if "GenericPLEG: Unable" in line or "PLEG is not healthy" in line]


def condition(status, kind):
    """A pod's condition, "" if it has none."""
    return next((entry["status"] for entry in status.get("conditions", []) if entry["type"] == kind), "")


def brief(status):
    """What matters of a status in one line."""
    kept = {name: status[name] for name in ("phase", "reason", "message") if name in status}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for entry in status.get(kind, []):
            kept[entry["name"]] = {"state": entry["state"], "last": entry.get("lastState"), "ready": entry["ready"],
                                   "restarts": entry["restartCount"]}
    return json.dumps(kept)[:1500]


def moment(text):
    """A time of the interface, in seconds since the epoch; it counts whole seconds unless it has a fraction."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    parsed = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc).timestamp()
    return parsed + (float(f"0.{re.sub('[^0-9].*', '', fraction)}") if fraction else 0)
