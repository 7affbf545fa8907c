"""Logs: what the kubelet shows of them, and that nothing is lost when it moves them away."""

import subprocess

from node.counting import await_count
from node.manifests import FOREVER, host_path, mount, pod, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

LINES = 4000
# Most of a line, so that the file reaches the size at which it is rotated.
FILLING = "x" * 40


class Logs(Scenario):
    """The kubelet shows a container's log, its end, its times, and the log of the container before."""

    def pods(self):
        return [pod("logs", shell("main", f"echo one; echo two >&2; {FOREVER}"), shell("ends", "echo attempt; printf 'no end'; sleep 1; exit 1"))]

    def check(self):
        self.node.running("logs", "main")
        until(lambda: len(self.node.logs("logs", "main")) == len("one\ntwo\n"), lambda: self.node.logs("logs", "main"))
        expect(sorted(self.node.logs("logs", "main").splitlines()) == ["one", "two"], self.node.logs("logs", "main"))
        expect(len(self.node.logs("logs", "main", tailLines=1).splitlines()) == 1, "the last line")
        timed = self.node.logs("logs", "main", timestamps="true").splitlines()
        expect(all(line[:4].isdigit() and line[10] == "T" for line in timed), timed)
        self.node.await_container("logs", "ends", lambda status: status.get("restartCount", 0) >= 1)
        # While the kubelet replaces the one before, it has none.
        until(lambda: self.node.logs("logs", "ends", previous="true") == "attempt\nno end\n", "the log of the container before")


class Rotation(Scenario):
    """While the kubelet rotates a log, no line is lost, and who follows it sees them all."""

    def pods(self):
        self.folder = self.node.folder("rotation")
        # The first line is there for who follows; the others come when it was seen.
        wait = "[ $i -ne 1 ] || until [ -e /shared/go ]; do sleep 0.1; done"
        count = f"echo $i {FILLING}; i=$((i + 1)); [ $((i % 40)) -ne 0 ] || sleep 0.1; {wait}"
        script = f"i=0; while [ $i -lt {LINES} ]; do {count}; done; {FOREVER}"
        return [pod("rotation", shell("main", script, volumeMounts=[mount("shared", "/shared")]), volumes=[host_path("shared", self.folder)])]

    def check(self):
        self.node.running("rotation", "main")
        with subprocess.Popen(["curl", "--silent", "--insecure", "--no-buffer", "--noproxy", "*", "--max-time", "300",
                               "https://127.0.0.1:10250/containerLogs/default/rotation-node/main?follow=true"], stdout=subprocess.PIPE) as follower:
            try:
                followed = [int(follower.stdout.readline().split()[0])]
                (self.folder / "go").touch()
                followed += [int(follower.stdout.readline().split()[0]) for _ in range(LINES - 1)]
            finally:
                follower.kill()
        folder = self.node.log_files("rotation", "main")
        until(lambda: len(list(folder.iterdir())) >= 3, lambda: f"rotated files, there are {sorted(path.name for path in folder.iterdir())}")
        expect(followed == list(range(LINES)), f"followed {len(followed)} lines, the first that is wrong: {first_gap(followed)}")
        written = await_count(folder, LINES - 1)
        expect(written == list(range(LINES)), f"{len(written)} lines in the files, the first that is wrong: {first_gap(written)}")
        expect(any(path.suffix == ".gz" for path in folder.iterdir()), "an old file was compressed")


def first_gap(numbers):
    """The first number that is not what its place says."""
    return next(((place, number) for place, number in enumerate(numbers) if place != number), None)
