"""Limits: that the kernel has them, and what happens beyond them."""

import pathlib

from node.manifests import FOREVER, mount, pod, resources, shell
from scenarios.scenario import Scenario
from stage.steps import expect

CGROUPS = pathlib.Path("/sys/fs/cgroup")


class Limits(Scenario):
    """The kernel has the limits of pod and container, in groups as the kubelet's classes of service want them."""

    def pods(self):
        return [pod("guaranteed", shell("main", FOREVER, resources=resources(cpu="200m", memory="48Mi"))),
                pod("burstable", shell("main", FOREVER, resources={"requests": {"cpu": "100m"}, "limits": {"memory": "40Mi"}})),
                pod("best-effort", shell("main", FOREVER))]

    def check(self):
        self.node.await_ready("guaranteed", "burstable", "best-effort")
        for name, quality in (("guaranteed", "Guaranteed"), ("burstable", "Burstable"), ("best-effort", "BestEffort")):
            expect(self.node.status(name)["qosClass"] == quality, self.node.status(name))
        main = Groups(self.node, "guaranteed", "main")
        expect(main.value("memory", "memory.limit_in_bytes") == 48 << 20, "memory")
        expect(main.value("cpu", "cpu.cfs_quota_us") == 20000 and main.value("cpu", "cpu.shares") == 204, "cpu")
        expect(main.value("memory", "../memory.limit_in_bytes") == 48 << 20, "memory of the pod")
        parts = main.path("memory").parts
        expect(parts[-3] == "kubepods" and parts[-2].startswith("pod"), parts)
        some = Groups(self.node, "burstable", "main")
        expect(some.value("memory", "memory.limit_in_bytes") == 40 << 20 and some.value("cpu", "cpu.cfs_quota_us") == -1, "burstable")
        expect(some.path("cpu").parts[-3:-1][0] == "burstable", some.path("cpu"))
        expect(Groups(self.node, "best-effort", "main").path("cpu").parts[-3] == "besteffort", "best effort")


class OutOfMemory(Scenario):
    """A container that wants more memory than it may have is OOMKilled, whether for itself or for its files in memory."""

    def pods(self):
        small = {"resources": resources(cpu="500m", memory="24Mi")}
        return [pod("oom", shell("main", "exec dd if=/dev/zero of=/dev/null bs=100M", **small), restartPolicy="Never"),
                pod("oom-again", shell("main", "sleep 1; exec dd if=/dev/zero of=/dev/null bs=100M", **small)),
                pod("oom-files", shell("main", "dd if=/dev/zero of=/memory/file bs=1M count=100; exit $?", **small,
                                       volumeMounts=[mount("memory", "/memory")]),
                    restartPolicy="Never", volumes=[{"name": "memory", "emptyDir": {"medium": "Memory"}}])]

    def check(self):
        end = self.node.terminated("oom", "main")
        expect(end["reason"] == "OOMKilled" and end["exitCode"] == 137, end)
        status = self.node.await_container("oom-again", "main", lambda status: status.get("restartCount", 0) >= 1)
        expect(status["lastState"]["terminated"]["reason"] == "OOMKilled", status)
        end = self.node.terminated("oom-files", "main")
        expect(end["reason"] == "OOMKilled" and end["exitCode"] == 137, end)


class Groups:
    """Where a container's limits are."""

    def __init__(self, node, name, container):
        process = node.process(name, container)
        self.places = {}
        for line in pathlib.Path(f"/proc/{process}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                self.places[controller] = path.lstrip("/")

    def path(self, controller):
        """The directory of one controller."""
        return CGROUPS / controller / self.places[controller]

    def value(self, controller, file):
        """A number."""
        return int((self.path(controller) / file).read_text())
