"""What the kubelet takes away by itself."""

from node.images import SYSTEM, UNUSED
from node.manifests import FOREVER, pod, program, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect


class Collection(Scenario):
    """A kubelet that is short of space removes dead containers and unused images, and leaves what is used."""

    def pods(self):
        return [pod("keeper", shell("main", FOREVER), shell("fails", "sleep 3; exit 1")),
                pod("passing", program("main", UNUSED, "sleep", "1"), restartPolicy="Never")]

    def check(self):
        self.node.await_ready("keeper")
        main = self.node.container("keeper", "main")
        self.node.terminated("passing", "main")
        self.node.drop("passing")
        until(lambda: not self.node.sandboxes("--label", "app=passing"), "the pod that is gone is removed")
        until(lambda: UNUSED not in self.images(), lambda: f"the unused image is removed, there are {self.images()}")
        expect(SYSTEM in self.images(), self.images())
        self.node.await_container("keeper", "fails", lambda status: status.get("restartCount", 0) >= 2)
        until(lambda: len(self.node.containers("keeper")) <= 3, lambda: self.node.containers("keeper"))
        again = self.node.container("keeper", "main")
        expect(again["containerID"] == main["containerID"] and again["restartCount"] == 0, again)
        logs = list(self.node.kubelet.pod_logs.glob("*_passing-node_*"))
        until(lambda: not any(path.exists() for path in logs), lambda: f"logs of the pod that is gone: {logs}")

    def images(self):
        """Names of the images that the runtime has."""
        return [tag for image in self.node.images() for tag in image["repoTags"]]
