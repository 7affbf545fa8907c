"""What the kubelet tells of usage, compared with what the kernel counts."""

from node.images import AGNHOST
from node.kubelet import HTTP
from node.manifests import FOREVER, mount, pod, program, resources, shell
from node.waiting import until
from scenarios.limits import Groups
from scenarios.scenario import Scenario
from stage.steps import expect

MEBI = 1 << 20


class Stats(Scenario):
    """/stats/summary has the processor time, memory, pressure, files and volumes of pods and containers as the kernel counts them."""

    NAME = "stats"

    def pods(self):
        use = ("head -c 20000000 /dev/zero >/memory/file; head -c 6000000 /dev/zero >/file; head -c 4000000 /dev/zero >/disk/file;"
               f" echo started; {FOREVER}")
        volumes = [{"name": "memory", "emptyDir": {"medium": "Memory"}}, {"name": "disk", "emptyDir": {}}]
        return [pod(self.NAME, shell("main", use, resources=resources(cpu="200m", memory="64Mi"),
                                     volumeMounts=[mount("memory", "/memory"), mount("disk", "/disk")]),
                    shell("spin", "trap 'exit 0' TERM; while :; do :; done", resources=resources(cpu="50m", memory="16Mi")),
                    program("server", AGNHOST, "netexec", resources=resources(cpu="200m", memory="64Mi")), volumes=volumes)]

    def check(self):
        self.node.await_ready(self.NAME)
        self.node.output(self.NAME, "main", "until [ -e /disk/file ]; do sleep 0.1; done; sync")
        address = self.node.status(self.NAME)["podIP"]
        with HTTP.open(f"http://{address}:8080/shell?shellCommand=head+-c+1500000+/dev/zero+%7C+base64", timeout=60) as answer:
            answer.read()
        until(lambda: self.right(self.summary()), lambda: self.summary())
        self.series()

    def summary(self):
        """What the summary says of the pod."""
        listed = self.node.kubelet.json("/stats/summary")["pods"]
        return next((entry for entry in listed if entry["podRef"]["name"] == f"{self.NAME}-node"), {})

    def right(self, stats):
        """Whether every part is there, and near what the kernel says now."""
        containers = {entry["name"]: entry for entry in stats.get("containers", [])}
        volumes = {entry["name"]: entry for entry in stats.get("volume", [])}
        if set(containers) != {"main", "spin", "server"} or "usageNanoCores" not in containers["spin"]["cpu"]:
            return False
        if containers["main"]["rootfs"].get("usedBytes", 0) < 6000000 or volumes.get("disk", {}).get("usedBytes", 0) < 4000000:
            return False
        if stats["memory"]["workingSetBytes"] < 19 * MEBI or not self.right_of_pod(stats):
            return False
        self.compare(stats, containers)
        return True

    def right_of_pod(self, stats):
        """Whether what only some sources know of a pod is there: this one looks for the network of a pause container."""
        return "network" not in stats

    def compare(self, stats, containers):
        """Values against the kernel's counters. Counters only grow, so the kernel's later one is the greater."""
        for name, container in containers.items():
            groups = Groups(self.node, self.NAME, name)
            used = groups.value("cpuacct", "cpuacct.usage")
            expect(0 < container["cpu"]["usageCoreNanoSeconds"] <= used, (name, container["cpu"], used))
            memory = groups.value("memory", "memory.usage_in_bytes")
            expect(container["memory"]["workingSetBytes"] <= memory + 4 * MEBI, (name, container["memory"], memory))
        main = containers["main"]
        expect(19 * MEBI <= main["memory"]["workingSetBytes"] <= 40 * MEBI, main["memory"])
        expect(6000000 <= main["rootfs"]["usedBytes"] < 9000000 and main["logs"]["usedBytes"] > 0, main)
        # Its limit is a twentieth of a processor; the kernel may give it a period more than that.
        expect(0 < containers["spin"]["cpu"]["usageNanoCores"] < 150_000_000, containers["spin"]["cpu"])
        expect(stats["cpu"]["usageCoreNanoSeconds"] > 0, stats)
        pressure = containers["spin"]["cpu"]["psi"]["some"]
        expect(pressure["total"] > 0 and pressure["avg10"] > 0, pressure)
        expect(stats["ephemeral-storage"]["usedBytes"] >= 10000000, stats["ephemeral-storage"])

    def series(self):
        """/metrics/resource has the same for whoever scrapes."""
        found = {labels["container"]: value for name, labels, value in self.node.metrics("/metrics/resource")
                 if name == "container_memory_working_set_bytes" and labels["pod"] == f"{self.NAME}-node"}
        expect(set(found) == {"main", "spin", "server"} and found["main"] >= 19 * MEBI, found)
        self.advisor()

    def advisor(self):
        """/metrics/cadvisor knows the groups of the containers; their names only a runtime that it was written for has."""
        process = Groups(self.node, self.NAME, "main")
        place = f"/{process.places['memory']}"

        def values():
            return [value for name, labels, value in self.node.metrics("/metrics/cadvisor")
                    if name == "container_memory_working_set_bytes" and labels["id"] == place]

        until(lambda: values() and 19 * MEBI <= values()[0] <= 40 * MEBI, lambda: (place, values()))


class StatsFromRuntime(Stats):
    """With PodAndContainerStatsFromCRI all of it comes from the runtime, the network too, and /metrics/cadvisor has names."""

    NAME = "stats-from-runtime"

    def right_of_pod(self, stats):
        network = stats.get("network", {})
        if network.get("txBytes", 0) < MEBI:
            return False
        expect(network["name"] == "eth0" and network["rxBytes"] > 0, network)
        expect(stats["process_stats"]["process_count"] >= 3, stats["process_stats"])
        return True

    def advisor(self):
        wanted = {"container_memory_working_set_bytes", "container_cpu_usage_seconds_total", "container_fs_usage_bytes",
                  "container_network_receive_bytes_total", "container_processes", "container_spec_memory_limit_bytes"}

        def series():
            return [(name, labels, value) for name, labels, value in self.node.metrics("/metrics/cadvisor")
                    if labels.get("pod") == f"{self.NAME}-node"]

        found = until(series, "series of the pod")
        names = {name for name, _, _ in found}
        expect(wanted <= names, sorted(wanted - names))
        memory = {labels["container"]: value for name, labels, value in found if name == "container_memory_working_set_bytes"}
        expect(19 * MEBI <= memory["main"] <= 40 * MEBI, memory)
        limits = {labels["container"]: value for name, labels, value in found if name == "container_spec_memory_limit_bytes"}
        expect(limits["main"] == 64 * MEBI, limits)
        one = next(labels for name, labels, _ in found if name == "container_memory_working_set_bytes" and labels["container"] == "main")
        expect(one["namespace"] == "default" and one["image"] and one["id"], one)


class Events(Scenario):
    """With EventedPLEG the kubelet hears of containers' ends by events, long before it would look for them."""

    def pods(self):
        self.folder = self.node.folder("events")
        wait = "until [ -e /shared/go ]; do sleep 0.1; done; exit 9"
        return [pod("events", shell("main", wait, volumeMounts=[mount("shared", "/shared")]), restartPolicy="Never",
                    volumes=[{"name": "shared", "hostPath": {"path": str(self.folder)}}])]

    def check(self):
        self.node.running("events", "main")
        connected = self.node.metric("kubelet_evented_pleg_connection_success_count")
        looked = self.node.metric("kubelet_pleg_relist_duration_seconds_count")
        expect(connected >= 1 and self.node.metric("kubelet_evented_pleg_connection_error_count") == 0, connected)
        (self.folder / "go").touch()
        end = self.node.terminated("events", "main")
        expect(end["exitCode"] == 9 and end["reason"] == "Error", end)
        # It looks by itself every five minutes; more often it does when events fail.
        expect(self.node.metric("kubelet_pleg_relist_duration_seconds_count") - looked <= 1, "the end was heard of, not looked for")


class EventfulRestarts(Scenario):
    """With EventedPLEG containers that fail again and again are started again, each with its number."""

    def pods(self):
        return [pod("eventful", *(shell(f"c{number}", f"sleep 0.{number}; exit {number}") for number in range(1, 6)))]

    def check(self):
        for number in range(1, 6):
            status = self.node.await_container("eventful", f"c{number}", lambda status: status.get("restartCount", 0) >= 4)
            expect(status["lastState"]["terminated"]["exitCode"] == number, status)
