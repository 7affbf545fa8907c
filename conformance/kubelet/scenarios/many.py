"""Many pods at once."""

import os
import pathlib
import time

from node.manifests import FOREVER, pod, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

REST = 10


class Many(Scenario):
    """All pods of a full node get ready; what daemon and kubelet use at rest is printed, not judged."""

    # More for a bench: see the option --many.
    count = 20

    def pods(self):
        self.begin = time.monotonic()
        return [pod(self.name(number), shell("main", FOREVER)) for number in range(self.count)]

    @staticmethod
    def name(number):
        """A pod's name."""
        return f"many-{number:03}"

    def check(self):
        names = {self.name(number) for number in range(self.count)}

        def ready():
            pods = self.node.kubelet.pods()
            return {name for name in names if any(entry["type"] == "Ready" and entry["status"] == "True"
                                                  for entry in pods.get(name, {}).get("status", {}).get("conditions", []))}

        until(lambda: ready() == names, lambda: f"only {len(ready())} of {self.count} pods are ready", 600)
        spent = time.monotonic() - self.begin
        addresses = {self.node.status(name)["podIP"] for name in names}
        expect(len(addresses) == self.count, "each pod has an address of its own")
        used = [processor_time(self.node.daemon.process.pid), processor_time(self.node.kubelet.process.pid)]
        time.sleep(REST)
        daemon, kubelet = (100 * (processor_time(process) - before) / REST for process, before in
                           zip((self.node.daemon.process.pid, self.node.kubelet.process.pid), used))
        print(f"        {self.count} pods ready after {spent:.1f} s; at rest the daemon uses {daemon:.1f} % of a processor, the kubelet {kubelet:.1f} %")


def processor_time(process):
    """Seconds of processor time that a process has used."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
