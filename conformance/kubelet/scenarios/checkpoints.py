"""Checkpoints through the kubelet's own interface."""

import json
import pathlib
import shutil
import stat
import tarfile
import urllib.error

from node.manifests import pod, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

COUNTER = "i=0; while :; do i=$((i+1)); echo $i >/tmp/next; mv /tmp/next /tmp/count; sleep 0.1; done"


class Checkpoint(Scenario):
    """A container is archived where the kubelet wants it and goes on; where no CRIU is, the refusal says so."""

    def pods(self):
        return [pod("checkpoint", shell("main", COUNTER))]

    def check(self):
        self.node.await_ready("checkpoint")
        try:
            answer = json.loads(self.node.kubelet.ask("/checkpoint/default/checkpoint-node/main", "POST"))
        except urllib.error.HTTPError as refusal:
            said = refusal.read().decode(errors="replace")
            expect(shutil.which("criu") is None and "CRIU" in said, f"{refusal}: {said}")
            return
        (archive,) = map(pathlib.Path, answer["items"])
        expect(archive.parent == self.node.kubelet.root / "checkpoints", archive)
        expect(stat.S_IMODE(archive.stat().st_mode) == 0o600, oct(archive.stat().st_mode))
        with tarfile.open(archive) as opened:
            names = {name.removeprefix("./").rstrip("/") for name in opened.getnames()}
        expect({"config.dump", "spec.dump", "checkpoint"} <= names, names)
        archive.unlink()
        seen = int(self.node.output("checkpoint", "main", "cat /tmp/count"))
        until(lambda: int(self.node.output("checkpoint", "main", "cat /tmp/count")) > seen, "the counter goes on")
        expect(self.node.running("checkpoint", "main")["restartCount"] == 0, "it was restarted")
