"""How containers end: hooks, grace periods, signals, messages."""

import os
import signal

from node.images import AGNHOST
from node.manifests import FOREVER, host_path, mount, pod, program, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

# Writes its name and the time whenever it is asked to.
NOTE = 'note() { echo "$1 $EPOCHREALTIME" >>/shared/notes; }; '


class Stops(Scenario):
    """A container that is stopped runs its hook first, then gets its signal, then has what is left of its grace period."""

    GRACE = 6

    def pods(self):
        self.folder = self.node.folder("stops")
        where = {"volumeMounts": [mount("shared", "/shared")]}
        volumes = [host_path("shared", self.folder)]
        hook = {"preStop": {"exec": {"command": ["sh", "-c", NOTE + "note hook; sleep 2; note hook-ends"]}}}
        obeys = NOTE + "trap 'note signal; exit 0' TERM; while :; do sleep 0.1 & wait $!; done"
        deaf = "trap 'echo signal $EPOCHREALTIME >>/shared/deaf' TERM; while :; do echo alive $EPOCHREALTIME >>/shared/deaf; sleep 0.2; done"
        return [pod("stops", shell("obeys", obeys, lifecycle=hook, **where), volumes=volumes, terminationGracePeriodSeconds=30),
                pod("deaf", shell("main", deaf, **where), volumes=volumes, terminationGracePeriodSeconds=self.GRACE)]

    def check(self):
        self.node.await_ready("stops", "deaf")
        self.node.drop("stops", "deaf")
        self.node.await_gone("stops")
        notes = self._times("notes")
        expect([name for name, _ in notes] == ["hook", "hook-ends", "signal"], notes)
        self.node.await_gone("deaf")
        lines = self._times("deaf")
        told = [time for name, time in lines if name == "signal"]
        expect(len(told) == 1, "the signal came once")
        lived = lines[-1][1] - told[0]
        # Not ended before its time, and no second grace period: both would be errors of the order, not of speed.
        expect(self.GRACE - 1.5 < lived < 2 * self.GRACE, f"ended {lived:.1f} s after the signal, its grace period is {self.GRACE}")

    def _times(self, file):
        return [(name, float(time)) for name, time in (line.split() for line in (self.folder / file).read_text().splitlines())]


class Hooks(Scenario):
    """postStart runs before the container is ready; sleep and HTTP hooks work; a signal of the pod's choice ends the container."""

    def pods(self):
        self.folder = self.node.folder("hooks")
        where = {"volumeMounts": [mount("shared", "/shared")]}
        after = {"postStart": {"exec": {"command": ["sh", "-c", "echo started >>/shared/hooks"]}}}
        catch = "trap 'echo USR1 >>/shared/hooks; exit 0' USR1; while :; do sleep 0.1 & wait $!; done"
        server = program("server", AGNHOST, "netexec", "--http-port=8080",
                         lifecycle={"preStop": {"httpGet": {"path": "/shell?shellCommand=echo+http+%3E%3E/shared/hooks", "port": 8080}}}, **where)
        return [pod("hooks", shell("main", catch, lifecycle={**after, "stopSignal": "SIGUSR1"}, **where), server,
                    shell("sleeper", FOREVER, lifecycle={"preStop": {"sleep": {"seconds": 1}}}),
                    os={"name": "linux"}, volumes=[host_path("shared", self.folder)], terminationGracePeriodSeconds=20)]

    def check(self):
        self.node.await_ready("hooks")
        expect((self.folder / "hooks").read_text() == "started\n", "postStart ran")
        self.node.drop("hooks")
        self.node.await_gone("hooks")
        seen = (self.folder / "hooks").read_text().split()
        expect(sorted(seen) == ["USR1", "http", "started"], seen)


class Messages(Scenario):
    """Termination messages come from the file, or from the end of the log if the container failed without one."""

    def pods(self):
        fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
        own = "/dev/termination-log"
        return [pod("messages", shell("file", f"echo log; printf 'said in the file' >{own}; exit 3"),
                    shell("log", "echo first; echo last words; exit 4", **fallback),
                    shell("fine", "echo nothing to tell; exit 0", **fallback),
                    shell("elsewhere", "printf 'said elsewhere' >/tmp/message", terminationMessagePath="/tmp/message"),
                    shell("nobody", f"printf 'by nobody' >{own}", securityContext={"runAsUser": 65534}),
                    restartPolicy="Never")]

    def check(self):
        for name, code, message in (("file", 3, "said in the file"), ("log", 4, "first\nlast words\n"), ("fine", 0, None),
                                    ("elsewhere", 0, "said elsewhere"), ("nobody", 0, "by nobody")):
            end = self.node.terminated("messages", name)
            expect(end["exitCode"] == code and end.get("message") == message, (name, end))
            expect(end["reason"] == ("Completed" if code == 0 else "Error"), end)


class Signals(Scenario):
    """A container that is killed by a signal has ended with 128 and its number."""

    def pods(self):
        return [pod("signals", *(shell(f"by-{number}", f"sh -c 'kill -{number} $$'; exit $?") for number in (9, 15)),
                    program("exits", AGNHOST, "netexec"), restartPolicy="Never")]

    def check(self):
        for name, code in (("by-9", 137), ("by-15", 143)):
            expect(self.node.terminated("signals", name)["exitCode"] == code, self.node.container("signals", name))
        self.node.running("signals", "exits")
        process = self.node.process("signals", "exits")
        until(lambda: self.node.exec("signals", "exits", "wget", "-q", "-O-", "http://127.0.0.1:8080/healthz").returncode == 0, "it serves")
        os.kill(process, signal.SIGKILL)
        end = self.node.terminated("signals", "exits")
        expect(end["exitCode"] == 137 and end["reason"] == "Error", end)
