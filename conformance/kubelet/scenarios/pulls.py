"""Images as pods name them."""

import json

from node import images
from node.manifests import pod, shell
from scenarios.scenario import Scenario
from stage.steps import expect


class Pulls(Scenario):
    """Images are pulled by tag and digest, each time or when they are absent; the kubelet finds again what it pulled."""

    def pods(self):
        listed = json.loads((images.STORE / "images.json").read_text())["references"]
        self.digest = listed[images.SYSTEM.partition("/")[2]]["digest"]
        self.by_digest = f"{images.SYSTEM.rpartition(':')[0]}@{self.digest}"
        return [pod("pulls", shell("always", "exit 0", imagePullPolicy="Always"), {**shell("digest", "exit 0"), "image": self.by_digest},
                    shell("present", "exit 0", imagePullPolicy="IfNotPresent"), restartPolicy="Never"),
                pod("never", {**shell("main", "exit 0", imagePullPolicy="Never"), "image": "registry.k8s.io/kubelet/absent:2"})]

    def check(self):
        self.node.await_phase("pulls", "Succeeded")
        identities = {self.node.container("pulls", name)["imageID"] for name in ("always", "digest", "present")}
        expect(len(identities) == 1 and identities.pop().endswith(self.digest), self.node.status("pulls"))
        self.node.await_container("never", "main", lambda status: status.get("state", {}).get("waiting", {}).get("reason") == "ErrImageNeverPull")
        # The kubelet keeps notes of its pulls by the name that the runtime answered with.
        noted = {json.loads(path.read_text())["imageRef"] for path in (self.node.kubelet.root / "image_manager" / "pulled").iterdir()}
        known = {image["id"] for image in self.node.images()}
        expect(noted and noted <= known, (noted, known))
