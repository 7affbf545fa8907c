"""Probes: of each kind, that they succeed, that they fail, and what follows."""

from node.images import AGNHOST
from node.manifests import FOREVER, pod, program, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect

OFTEN = {"periodSeconds": 1, "timeoutSeconds": 5}


class Probes(Scenario):
    """Exec, HTTP, TCP and gRPC probes make a pod ready; one that fails makes it unready, without a restart."""

    def pods(self):
        http = {"httpGet": {"path": "/healthz", "port": 8080}}
        return [pod("probes",
                    shell("exec", f"touch /tmp/ready; {FOREVER}", readinessProbe={"exec": {"command": ["cat", "/tmp/ready"]}, **OFTEN},
                          startupProbe={"exec": {"command": ["true"]}, **OFTEN}),
                    program("http", AGNHOST, "netexec", readinessProbe={**http, **OFTEN}, livenessProbe={**http, **OFTEN, "failureThreshold": 60}),
                    program("tcp", AGNHOST, "porter", env=[{"name": "SERVE_PORT_7000", "value": "yes"}],
                            readinessProbe={"tcpSocket": {"port": 7000}, **OFTEN}),
                    program("grpc", AGNHOST, "grpc-health-checking", "--port=5000", "--http-port=8090",
                            readinessProbe={"grpc": {"port": 5000}, **OFTEN}))]

    def check(self):
        self.node.await_ready("probes")
        self.node.output("probes", "exec", "rm /tmp/ready")
        until(lambda: not self.node.is_ready("probes"), "the exec probe fails")
        self.node.output("probes", "exec", "touch /tmp/ready")
        self.node.await_ready("probes")
        self.node.output("probes", "exec", "wget -q -O- http://127.0.0.1:8090/make-not-serving")
        self.node.await_container("probes", "grpc", lambda status: status.get("ready") is False)
        for name in ("exec", "http", "tcp", "grpc"):
            status = self.node.container("probes", name)
            expect(status["restartCount"] == 0 and status["started"], status)


class FailedProbes(Scenario):
    """A failed liveness probe restarts its container, after its probe's own grace period; so does a probe that takes too long."""

    def pods(self):
        fatal = {"periodSeconds": 1, "failureThreshold": 1, "terminationGracePeriodSeconds": 1, "timeoutSeconds": 1}
        return [pod("sick",
                    shell("slow", FOREVER, livenessProbe={"exec": {"command": ["sleep", "60"]}, **fatal}),
                    shell("wrong", "trap 'exit 4' TERM; while :; do sleep 1 & wait $!; done",
                          livenessProbe={"exec": {"command": ["false"]}, "initialDelaySeconds": 2, **fatal}),
                    shell("deaf", "trap '' TERM; while :; do sleep 1; done",
                          livenessProbe={"httpGet": {"path": "/", "port": 9}, "initialDelaySeconds": 2, **fatal}))]

    def check(self):
        for name, code in (("slow", 0), ("wrong", 4), ("deaf", 137)):
            status = self.node.await_container("sick", name, lambda status: status.get("restartCount", 0) >= 1)
            last = status["lastState"]["terminated"]
            expect(last["exitCode"] == code, (name, last))
