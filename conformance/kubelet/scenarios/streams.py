"""Exec, attach and port-forward through the kubelet's own interface, over SPDY and over WebSocket."""

import base64
import hashlib
import json
import os
import subprocess

from node.images import AGNHOST
from node.kubelet import HTTP
from node.manifests import FOREVER, pod, program, shell
from scenarios.scenario import Scenario
from stage.steps import expect

TRANSPORTS = ("spdy", "websocket")


class Exec(Scenario):
    """exec carries input, both outputs, exit codes and a terminal's size, over both transports."""

    def pods(self):
        return [pod("exec", shell("main", FOREVER))]

    def check(self):
        self.node.await_ready("exec")
        sent = os.urandom(1 << 20)
        for transport in TRANSPORTS:
            done = self.node.exec("exec", "main", "sh", "-c", "echo out; echo err >&2; exit 5", transport=transport)
            expect((done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 5), (transport, done))
            done = self.node.exec("exec", "main", "cat", transport=transport, content=sent)
            expect(done.returncode == 0 and done.stdout == sent, (transport, done.returncode, len(done.stdout), done.stderr))
            done = self.node.exec("exec", "main", "stty", "size", transport=transport, tty="33x101")
            expect(done.stdout.strip() == b"33 101" and done.returncode == 0, (transport, done))
            done = self.node.exec("exec", "main", "/no/such/program", transport=transport)
            expect(done.returncode != 0 and b"/no/such/program" in done.stderr, (transport, done))
        answer = self.node.kubelet.ask("/run/default/exec-node/main?cmd=hostname", "POST")
        expect(answer == b"exec-node\n", answer)


class Attach(Scenario):
    """attach feeds a container that reads its input and shows what it says, over both transports."""

    def pods(self):
        echo = "while read -r line; do echo got $line; done; exit 6"
        return [pod(f"attach-{transport}", shell("main", echo, stdin=True, stdinOnce=True), restartPolicy="Never") for transport in TRANSPORTS]

    def check(self):
        for transport in TRANSPORTS:
            name = f"attach-{transport}"
            self.node.running(name, "main")
            client = self.node.start_streams("attach", name, "-transport", transport, "-container", "main", "-stdin",
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            seen, errors = client.communicate(b"one\ntwo\n", timeout=60)
            expect(seen == b"got one\ngot two\n", (transport, seen, errors))
            end = self.node.terminated(name, "main")
            expect(end["exitCode"] == 6, end)


class Forward(Scenario):
    """port-forward reaches a server in the pod, several times at once, over both transports."""

    def pods(self):
        return [pod("forward", program("main", AGNHOST, "netexec", "--http-port=7070",
                                       readinessProbe={"httpGet": {"path": "/healthz", "port": 7070}, "periodSeconds": 1}))]

    def check(self):
        self.node.await_ready("forward")
        content = self.node.output("forward", "main", "head -c 3000000 /dev/urandom >/tmp/file; sha256sum /tmp/file").split()[0]
        for transport in TRANSPORTS:
            client = self.node.start_streams("forward", "forward", "-transport", transport, "-port", "7070", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                port = int(client.stdout.readline())
                for _ in range(3):
                    with HTTP.open(f"http://127.0.0.1:{port}/hostname", timeout=30) as answer:
                        expect(answer.read() == b"forward-node", transport)
                with HTTP.open(f"http://127.0.0.1:{port}/shell?shellCommand=cat+/tmp/file+%7C+base64+-w0", timeout=60) as answer:
                    came = base64.b64decode(json.load(answer)["output"])
                expect(hashlib.sha256(came).hexdigest() == content, (transport, len(came)))
            finally:
                client.stdin.close()
                client.wait(timeout=30)
