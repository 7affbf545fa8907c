"""Daemon and kubelet die or are replaced: pods go on, and what happened meanwhile is known afterwards."""

import os
import pathlib
import shutil
import signal
import time

from node.counting import await_count, numbers
from node.images import AGNHOST
from node.manifests import FOREVER, host_path, mount, pod, program, resources, shell
from node.node import moment
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

STANDING = ("counting", "probed", "layered")


class Interruption(Scenario):
    """What all have in common: pods that stand, pods that end meanwhile, and the comparison."""

    def pods(self):
        self.folder = self.node.folder(self.title())
        where = {"volumeMounts": [mount("shared", "/shared")]}
        volumes = [host_path("shared", self.folder)]
        wait = "until [ -e /shared/go ]; do sleep 0.1; done; "
        note = "echo $EPOCHREALTIME >/shared/{}; "
        # A slow machine must not be taken for a sick container.
        probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60}
        # Ends once, and its next attempt does not.
        again = f"if [ -e /shared/again ]; then {FOREVER}; fi; {wait}{note.format('again')}exit 5"
        count = "trap 'exit 0' TERM; i=0; while :; do echo $i; i=$((i + 1)); sleep 0.05 & wait $!; done"
        return [
            pod("counting", shell("main", count)),
            pod("probed", program("main", AGNHOST, "netexec", readinessProbe=probe, livenessProbe=probe)),
            pod("layered", shell("main", FOREVER), initContainers=[shell("first", "true"), shell("side", FOREVER, restartPolicy="Always")]),
            pod(f"{self.title()}-ends", shell("code", wait + note.format("code") + "exit 9", **where),
                shell("fine", wait + note.format("fine") + "exit 0", **where),
                shell("signal", wait + note.format("signal") + "while :; do sleep 1; done", **where),
                shell("memory", wait + note.format("memory") + "exec dd if=/dev/zero of=/dev/null bs=100M",
                      resources=resources(cpu="500m", memory="24Mi"), **where),
                restartPolicy="Never", volumes=volumes),
            pod(f"{self.title()}-gone", shell("main", FOREVER)),
            pod(f"{self.title()}-again", shell("main", again, **where), volumes=volumes)]

    def interrupt(self, meanwhile):
        """Take something away, do this, bring it back."""
        raise NotImplementedError

    def check(self):
        ends, again = f"{self.title()}-ends", f"{self.title()}-again"
        self.node.await_ready(*STANDING, ends, again, f"{self.title()}-gone")
        until(lambda: self.node.logs("counting", "main", tailLines=1).strip().isdigit(), "the count began")
        before = {name: standing(self.node.pod(name)) for name in STANDING}
        reached = numbers(self.node.log_files("counting", "main"))[-1]
        self.doomed = {name: self.node.process(ends, name) for name in ("code", "fine", "signal", "memory")}
        self.doomed["again"] = self.node.process(again, "main")
        self.interrupt(self.let_them_end)
        mark = self.settled()
        self.judge_ends(ends)
        last = self.node.await_container(again, "main", lambda status: status.get("restartCount") == 1 and status["ready"])["lastState"]["terminated"]
        expect(last["exitCode"] == 5 and last["reason"] == "Error", last)
        self.node.await_ready(*STANDING)
        self.node.await_ready(f"{self.title()}-late")
        self.node.await_gone(f"{self.title()}-gone")
        for name in STANDING:
            expect(standing(self.node.pod(name)) == before[name], (name, before[name], standing(self.node.pod(name))))
        self.judge_count(reached)
        expect(self.node.output("counting", "main", "echo still") == "still\n", "exec in a container of before")
        expect(not self.node.pleg_errors(mark), self.node.pleg_errors(mark))

    def let_them_end(self):
        """What happens while nobody looks: returns when all have ended."""
        (self.folder / "go").touch()
        self.node.put(pod(f"{self.title()}-late", shell("main", FOREVER)))
        self.node.drop(f"{self.title()}-gone")
        until(lambda: all((self.folder / name).exists() for name in self.doomed), lambda: f"notes of all that end: {list(self.folder.iterdir())}")
        # From outside: within its namespace a first process can't be killed.
        os.kill(self.doomed["signal"], signal.SIGKILL)
        until(lambda: not any(pathlib.Path(f"/proc/{process}").exists() for process in self.doomed.values()), "the end of their processes")

    def settled(self):
        """Wait until the kubelet has seen how it is now; where its log ends then."""
        return self.node.after_relist()

    def judge_ends(self, name):
        """Code, reason and time of what ended meanwhile. The notes were written right before the ends."""
        for container, code, reason in (("code", 9, "Error"), ("fine", 0, "Completed"), ("signal", 137, "Error"), ("memory", 137, "OOMKilled")):
            end = self.node.terminated(name, container)
            expect(end["exitCode"] == code and end["reason"] == reason, (container, end))
            noted = float((self.folder / container).read_text())
            finished = moment(end["finishedAt"])
            expect(int(noted) <= finished <= self.ended + 1, (container, noted, finished, self.ended))
            expect(self.node.container(name, container)["restartCount"] == 0, container)

    def judge_count(self, reached):
        """The log goes on, and has no gap."""
        await_count(self.node.log_files("counting", "main"), reached + 21)


def standing(document):
    """What must not change of a pod: its address, and the identity, begin and restarts of its containers."""
    status = document["status"]
    # Not the pod's own begin: a kubelet without an API server forgets it.
    found = {"ip": status["podIP"], "uid": document["metadata"]["uid"]}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for entry in status.get(kind, []):
            state = entry["state"].get("running") or entry["state"].get("terminated")
            found[entry["name"]] = (entry["containerID"], state["startedAt"], entry["restartCount"])
    return found


class DaemonKilled(Interruption):
    """The daemon is killed and started again."""

    def interrupt(self, meanwhile):
        self.node.daemon.kill()
        meanwhile()
        self.ended = time.time()
        self.node.daemon.start()


class EventsInterrupted(DaemonKilled):
    """The daemon is killed and started again under a kubelet that lives by events."""

    def settled(self):
        # It looks by itself rarely; a pod that began meanwhile shows that it hears again.
        self.node.await_ready(f"{self.title()}-late")
        return self.node.kubelet.log.stat().st_size


class StopInterrupted(Scenario):
    """A daemon that dies while a container has its grace period takes nothing of it: the signal is not sent again, the end comes in time."""

    GRACE = 6

    def pods(self):
        self.folder = self.node.folder("stop-interrupted")
        deaf = "trap 'echo signal $EPOCHREALTIME >>/shared/notes' TERM; while :; do echo alive $EPOCHREALTIME >>/shared/notes; sleep 0.2; done"
        return [pod("stop-interrupted", shell("main", deaf, volumeMounts=[mount("shared", "/shared")]), volumes=[host_path("shared", self.folder)],
                    terminationGracePeriodSeconds=self.GRACE)]

    def check(self):
        self.node.await_ready("stop-interrupted")
        process = self.node.process("stop-interrupted", "main")
        self.node.drop("stop-interrupted")
        until(lambda: any(word == "signal" for word, _ in self.notes()), "the signal")
        self.node.daemon.kill()
        # Nobody but the container's own supervisor is left to end it.
        until(lambda: not pathlib.Path(f"/proc/{process}").exists(), "the end of the container")
        self.node.daemon.start()
        self.node.await_gone("stop-interrupted")
        notes = self.notes()
        told = [float(moment) for word, moment in notes if word == "signal"]
        lived = float(notes[-1][1]) - told[0]
        expect(len(told) == 1 and self.GRACE - 1.5 < lived < 2 * self.GRACE, (told, lived))

    def notes(self):
        """What the container wrote: words and times."""
        path = self.folder / "notes"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


class DaemonReplaced(Interruption):
    """The daemon, its shim and its plugins are replaced by another build, and the old files are gone."""

    def interrupt(self, meanwhile):
        old = self.node.daemon.programs
        new = self.node.directory / "programs" / str(time.monotonic_ns())
        shutil.copytree(old, new)
        for program_file in new.iterdir():
            # Another file with other content that does the same: a loader doesn't look behind the last section.
            with open(program_file, "ab") as file:
                file.write(b"another build")
        self.node.daemon.stop()
        meanwhile()
        self.ended = time.time()
        if self.node.directory in old.parents:
            shutil.rmtree(old)
        self.node.daemon.programs = new
        self.node.daemon.start()


class KubeletKilled(Interruption):
    """The kubelet is killed and started again."""

    def interrupt(self, meanwhile):
        self.node.kubelet.kill()
        meanwhile()
        self.ended = time.time()
        self.node.kubelet.start()


class BothKilled(Interruption):
    """Daemon and kubelet are killed and started again."""

    def interrupt(self, meanwhile):
        self.node.daemon.kill()
        self.node.kubelet.kill()
        meanwhile()
        self.ended = time.time()
        self.node.daemon.start()
        self.node.kubelet.start()
