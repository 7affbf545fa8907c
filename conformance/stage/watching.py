"""Steps that watch: statistics, metrics, events, and the commands about the runtime itself."""

import json
import shutil
import subprocess
import tarfile

from stage.steps import Steps, await_true, expect


class Watching(Steps):
    """Commands that change nothing in a pod."""

    def runtime_config(self):
        """Tells the cgroup driver."""
        text = self.crictl.text("runtime-config")
        expect("cgroup" in text.lower() and ("CGROUPFS" in text or "SYSTEMD" in text), text)

    def update_runtime_config(self):
        """Takes an address range, and refuses what is none."""
        self.crictl.text("update-runtime-config", "--pod-cidr", "10.99.0.0/16")
        done = self.crictl.run("update-runtime-config", "--pod-cidr", "nonsense")
        expect(done.returncode != 0 and "nonsense" in done.stderr, done)

    def own_configuration(self):
        """`config` is about crictl itself: sets and shows an option."""
        file = self.directory / "crictl.yaml"
        file.write_text("")
        self.crictl.bare("--config", file, "config", "--set", "timeout=7")
        shown = self.crictl.bare("--config", file, "config", "--get", "timeout")
        expect(shown.strip() == "7", shown)

    def completion(self):
        """Prints a script for the shell."""
        expect("crictl" in self.crictl.text("completion", "bash"), "a script")

    def events_begin(self):
        """Begins to listen, which the daemon knows."""
        with open(self.directory / "events", "wb") as output:
            self.start_in_background("events", "-o", "json", stdout=output, stderr=subprocess.STDOUT)
        await_true(lambda: self.json("info")["events"]["subscribers"] == 1, "one who listens")

    def events_end(self):
        """Has heard the life of every container and pod, each in order."""
        heard = {}

        def complete():
            heard.clear()
            for event in documents((self.directory / "events").read_text()):
                heard.setdefault(event["containerId"], []).append(event["containerEventType"])
            return len(heard) == 8 and all(kinds[-1] == "CONTAINER_DELETED_EVENT" for kinds in heard.values())

        await_true(complete, lambda: f"the end of two pods and six containers: {heard}")
        order = ["CONTAINER_CREATED_EVENT", "CONTAINER_STARTED_EVENT", "CONTAINER_STOPPED_EVENT", "CONTAINER_DELETED_EVENT"]
        for identity, kinds in heard.items():
            expect(kinds == order, (identity, kinds))

    def stats(self):
        """Shows what the container uses."""
        shown = self.json("stats", "-o", "json", "--id", self.container)["stats"]
        expect([entry["attributes"]["id"] for entry in shown] == [self.container], shown)
        expect(int(shown[0]["memory"]["workingSetBytes"]["value"]) > 0 and int(shown[0]["cpu"]["timestamp"]) > 0, shown)
        expect(int(shown[0]["writableLayer"]["timestamp"]) > 0, shown)

    def statsp(self):
        """Shows what the pod uses, its network too."""
        shown = self.json("statsp", "-o", "json", "--id", self.pod)["stats"]
        expect([entry["attributes"]["id"] for entry in shown] == [self.pod], shown)
        linux = shown[0]["linux"]
        expect(linux["network"]["defaultInterface"]["name"] == "eth0" and int(linux["process"]["processCount"]["value"]) > 0, linux)

    def metricdescs(self):
        """Describes the 56 metrics."""
        names = {entry["name"] for entry in self.json("metricdescs", "-o", "json")["descriptors"]}
        expect(len(names) >= 56 and "container_cpu_usage_seconds_total" in names, sorted(names))

    def metricsp(self):
        """Shows the metrics of the pod's containers."""
        shown = self.json("metricsp", "-o", "json")["podMetrics"]
        pod = next(entry for entry in shown if entry["podSandboxId"] == self.pod)
        names = {metric["name"] for entry in pod["containerMetrics"] for metric in entry["metrics"]}
        expect("container_memory_working_set_bytes" in names, sorted(names))

    def checkpoint(self):
        """Writes an archive, or is refused with the reason where there is no CRIU."""
        archive = self.directory / "checkpoint.tar"
        done = self.crictl.run("checkpoint", "--export", str(archive), self.container)
        if shutil.which("criu") is None:
            expect(done.returncode != 0 and "Unimplemented" in done.stderr and not archive.exists(), done)
            return
        expect(done.returncode == 0 and archive.stat().st_mode & 0o777 == 0o600, done)
        with tarfile.open(archive) as members:
            expect({"config.dump", "spec.dump", "checkpoint/inventory.img"} <= set(members.getnames()), members.getnames())


def documents(text):
    """The documents of a text, one after another; one that is not finished yet is left out."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        try:
            document, position = decoder.raw_decode(text, position)
        except ValueError:
            return found
        found.append(document)
