"""Resources of a running pod are changed."""

import json

from node.manifests import FOREVER, pod, resources, shell
from node.waiting import until
from scenarios.limits import Groups
from scenarios.scenario import Scenario
from stage.steps import expect

UID = "6b1f2d0e-3c58-4f0b-9a44-7f6d2a4c9e10"
POD_UID = "6b1f2d0e-3c58-4f0b-9a44-7f6d2a4c9e11"


class Resize(Scenario):
    """New limits reach the running container without a restart; a container that asks for it is restarted for them."""

    def pods(self):
        return [self.form(cpu="100m", memory="32Mi")]

    @staticmethod
    def form(cpu, memory):
        """The pod with these limits; its identity stays."""
        again = {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}
        policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}]
        return pod("resize", shell("kept", FOREVER, resources=again), shell("again", FOREVER, resources=again, resizePolicy=policy), metadata={"uid": UID})

    def check(self):
        self.node.await_ready("resize")
        before = {name: self.node.container("resize", name) for name in ("kept", "again")}
        self.node.put(self.form(cpu="150m", memory="32Mi"))
        self.await_limits("kept", 15000, 32)
        self.await_limits("again", 15000, 32)
        for name, status in before.items():
            now = self.node.container("resize", name)
            expect(now["containerID"] == status["containerID"] and now["restartCount"] == 0, now)
        self.node.put(self.form(cpu="150m", memory="40Mi"))
        self.await_limits("kept", 15000, 40)
        again = self.node.await_container("resize", "again", lambda status: status.get("restartCount") == 1 and status["ready"])
        self.await_limits("again", 15000, 40)
        kept = self.node.container("resize", "kept")
        expect(kept["containerID"] == before["kept"]["containerID"] and kept["restartCount"] == 0, kept)
        expect(again["containerID"] != before["again"]["containerID"], again)
        for name in ("kept", "again"):
            self.node.await_container("resize", name, lambda status: status.get("resources", {}).get("limits") == {"cpu": "150m", "memory": "40Mi"})

    def await_limits(self, name, quota, mebibytes):
        """Wait until the kernel has them."""
        def there():
            try:
                groups = Groups(self.node, "resize", name)
                return groups.value("cpu", "cpu.cfs_quota_us") == quota and groups.value("memory", "memory.limit_in_bytes") == mebibytes << 20
            except OSError:
                return False  # Between two containers of that name.

        until(there, lambda: f"{name}: {self.node.container('resize', name)}")


class PodResize(Scenario):
    """New limits of a whole pod reach its cgroup and the runtime, and its containers go on."""

    def pods(self):
        return [self.form("64Mi")]

    @staticmethod
    def form(memory):
        """The pod with this limit; its identity stays."""
        limits = resources(cpu="200m", memory=memory)
        return pod("pod-resize", shell("one", FOREVER), shell("two", FOREVER), metadata={"uid": POD_UID}, resources=limits)

    def check(self):
        self.node.await_ready("pod-resize")
        before = self.identities()
        self.await_limit(64)
        self.node.put(self.form("80Mi"))
        self.await_limit(80)
        until(lambda: self.told() == 80 << 20, lambda: f"the runtime was told {self.told()}")
        expect(self.identities() == before, (before, self.identities()))

    def identities(self):
        """What must not change of its containers."""
        found = [self.node.container("pod-resize", name) for name in ("one", "two")]
        return [(status["containerID"], status["restartCount"]) for status in found]

    def told(self):
        """The limit that the runtime has on record."""
        sandbox = self.node.sandboxes("--name", "pod-resize")[0]["id"]
        return json.loads(self.node.crictl.text("inspectp", sandbox))["info"]["resources"]["memory_limit_in_bytes"]

    def await_limit(self, mebibytes):
        """Wait until the kernel has it, in the cgroup above those of the containers."""
        def there():
            above = Groups(self.node, "pod-resize", "one").path("memory").parent
            return int((above / "memory.limit_in_bytes").read_text()) == mebibytes << 20

        until(there, lambda: f"{mebibytes} MiB: {self.node.status('pod-resize')}")
