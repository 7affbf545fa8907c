"""Containers of a pod one after another: init containers, sidecars, restarts, ends."""

from node.images import SYSTEM
from node.manifests import FOREVER, host_path, mount, pod, shell
from node.node import moment
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect


class Order(Scenario):
    """Init containers, a sidecar and a container run in their order; the sidecar outlives the container and sees its end."""

    def pods(self):
        self.folder = self.node.folder("order")
        where = {"volumeMounts": [mount("shared", "/shared")]}
        first = "n=$(cat /shared/tries 2>/dev/null || echo 0); echo $((n + 1)) >/shared/tries; "
        sidecar = FOREVER.replace("exit 0", "echo sidecar ends >>/shared/order; exit 0")
        sidecar = f"echo sidecar >>/shared/order; touch /tmp/up; {sidecar}"
        return [pod("order", shell("main", "echo main >>/shared/order; sleep 1; echo main ends >>/shared/order", **where),
                    restartPolicy="OnFailure", terminationGracePeriodSeconds=10,
                    initContainers=[
                        # The first try fails, so it is tried again and all others wait.
                        shell("one", first + "echo one >>/shared/order; [ $n -ge 1 ] || exit 3", **where),
                        shell("two", "echo two >>/shared/order", **where),
                        shell("sidecar", sidecar, restartPolicy="Always",
                              startupProbe={"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1, "timeoutSeconds": 5}, **where),
                        shell("three", "echo three >>/shared/order", **where)],
                    volumes=[{"name": "shared", "hostPath": {"path": str(self.folder)}}])]

    def check(self):
        self.node.await_phase("order", "Succeeded")
        self.node.terminated("order", "sidecar")
        seen = (self.folder / "order").read_text().splitlines()
        expect(seen == ["one", "one", "two", "sidecar", "three", "main", "main ends", "sidecar ends"], seen)
        one = self.node.container("order", "one")
        expect(one["restartCount"] == 1 and one["state"]["terminated"]["exitCode"] == 0, one)
        ends = [self.node.container("order", name)["state"]["terminated"] for name in ("one", "two", "three", "main", "sidecar")]
        expect([(end["exitCode"], end["reason"]) for end in ends] == [(0, "Completed")] * 5, ends)
        times = [moment(end["finishedAt"]) for end in ends]
        expect(times == sorted(times), times)


class SidecarRestart(Scenario):
    """A sidecar that ends is started again while the container runs on."""

    def pods(self):
        return [pod("sidecar", shell("main", FOREVER), initContainers=[shell("side", FOREVER.replace("exit 0", "exit 5"), restartPolicy="Always")])]

    def check(self):
        self.node.await_ready("sidecar")
        main = self.node.container("sidecar", "main")
        # It may be killed with the container before it can say how it ended.
        self.node.exec("sidecar", "side", "kill", "-TERM", "1")
        side = self.node.await_container("sidecar", "side", lambda status: status.get("restartCount") == 1 and status["ready"])
        expect(side["lastState"]["terminated"]["exitCode"] == 5 and side["lastState"]["terminated"]["reason"] == "Error", side)
        again = self.node.container("sidecar", "main")
        expect(again["containerID"] == main["containerID"] and again["restartCount"] == 0, again)


class Restarts(Scenario):
    """A container that fails is started again and again with a back-off; the kubelet knows how the last one ended."""

    def pods(self):
        return [pod("restarts", shell("main", "echo run; exit 7"))]

    def check(self):
        status = self.node.await_container("restarts", "main", lambda status: status.get("restartCount", 0) >= 3)
        last = status["lastState"]["terminated"]
        expect(last["exitCode"] == 7 and last["reason"] == "Error", status)
        expect(moment(last["startedAt"]) <= moment(last["finishedAt"]), last)
        waiting = self.node.await_container("restarts", "main", lambda status: "waiting" in status.get("state", {}))["state"]["waiting"]
        expect(waiting["reason"] == "CrashLoopBackOff", waiting)
        # The attempt that the kubelet asked for is the runtime's too, and old ones are removed but for one.
        attempts = []

        def are_few():
            attempts[:] = sorted(int(entry["metadata"]["attempt"]) for entry in self.node.containers("restarts"))
            return attempts[-1] >= 3 and len(attempts) <= 3
        until(are_few, lambda: f"not the attempts {attempts}")


class RestartRules(Scenario):
    """A container of a pod that restarts nothing is started again after the one exit code that its own rule names."""

    def pods(self):
        rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
        self.folder = self.node.folder("restart-rules")
        script = "if [ -e /shared/again ]; then exit 3; fi; touch /shared/again; exit 42"
        return [pod("restart-rules", shell("main", script, restartPolicy="Never", restartPolicyRules=[rule], volumeMounts=[mount("shared", "/shared")]),
                    restartPolicy="Never", volumes=[host_path("shared", self.folder)])]

    def check(self):
        self.node.await_phase("restart-rules", "Failed")
        status = self.node.container("restart-rules", "main")
        ends = [status[state]["terminated"]["exitCode"] for state in ("lastState", "state")]
        expect(ends == [42, 3] and status["restartCount"] == 1, status)


class Refusals(Scenario):
    """What can't start says why: no such image, no such program, a program that may not be executed, no such user."""

    def pods(self):
        container = {"name": "main", "image": SYSTEM}
        return [pod("no-image", {**container, "image": "registry.k8s.io/kubelet/absent:1"}),
                pod("bad-name", {**container, "image": "registry.k8s.io/UPPER:1"}),
                pod("no-program", {**container, "command": ["/no/such/program"]}),
                pod("no-directory", {**container, "command": ["/etc/passwd"]}),
                pod("no-user", {**container, "command": ["true"], "securityContext": {"runAsNonRoot": True}})]

    def check(self):
        for name, reasons in (("no-image", ("ErrImagePull", "ImagePullBackOff")), ("bad-name", ("InvalidImageName",)),
                              ("no-user", ("CreateContainerConfigError",))):
            self.node.await_container(name, "main", lambda status, reasons=reasons: waiting_reason(status) in reasons)
        for name, word in (("no-program", "/no/such/program"), ("no-directory", "/etc/passwd")):
            ended = until(lambda name=name: self._end(name), lambda name=name: self.node.container(name, "main"))
            expect(ended["reason"] == "StartError" and ended["exitCode"] == 128 and word in ended["message"], ended)

    def _end(self, name):
        status = self.node.container(name, "main")
        return status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated")


def waiting_reason(status):
    """Why a container waits, "" if it does not."""
    return status.get("state", {}).get("waiting", {}).get("reason", "")
