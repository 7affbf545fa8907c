"""Steps with streams: exec, attach and port-forward, over SPDY and over WebSocket, with and without a terminal."""

import contextlib
import fcntl
import hashlib
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time
import urllib.request

from stage.steps import Steps, await_true, expect

ROWS, COLUMNS = 33, 101


class Streams(Steps):
    """Commands that carry bytes both ways."""

    def exec_streams(self):
        """Carries both output streams and the exit code."""
        done = self.crictl.run("exec", self.container, "sh", "-c", "echo out; echo err >&2; exit 5")
        expect(done.stdout == "out\n" and "err\n" in done.stderr and done.returncode != 0, done)
        expect("5" in done.stderr.replace("err", ""), done.stderr)

    def exec_input(self):
        """Carries a megabyte in and out unchanged, and ends with its input."""
        sent = os.urandom(1 << 20)
        done = self.crictl.feed(sent, "exec", "-i", self.container, "cat")
        expect(done.returncode == 0 and done.stdout == sent, (done.returncode, len(done.stdout), done.stderr[:500]))

    def exec_terminal(self):
        """Has a terminal of the user's size, and follows it."""
        self._terminal("spdy")

    def exec_websocket(self):
        """Does the same over WebSocket."""
        done = self.crictl.feed(b"over\nwebsocket\n", "exec", "-i", "-r", "websocket", self.container, "cat")
        expect(done.stdout == b"over\nwebsocket\n" and done.returncode == 0, done)
        self._terminal("websocket")

    def _terminal(self, transport):
        with Terminal(self, "exec", "-it", "-r", transport, self.container, "sh") as terminal:
            # crictl says the size beside opening the shell: on a busy machine it may come after the first look.
            await_true(lambda: terminal.shows("stty size\n", f"{ROWS} {COLUMNS}"), "the size from before")
            terminal.resize(20, 40)
            await_true(lambda: terminal.shows("stty size\n", "20 40"), "the new size")
            terminal.type("exit 0\n")
            expect(terminal.process.wait(timeout=20) == 0, "the shell's exit code")

    def attach_terminal(self):
        """Attaches to a shell, leaves it running, attaches again."""
        shell = self.other_container("shell", ["sh"], tty=True, stdin=True)
        for round_number in (1, 2):
            with Terminal(self, "attach", "-it", shell) as terminal:
                terminal.type(f"echo round $((20 + {round_number}))\n")
                terminal.await_text(f"round 2{round_number}")
        state = self.json("inspect", shell)["status"]["state"]
        expect(state == "CONTAINER_RUNNING", state)
        self.crictl.text("rm", "-f", shell)

    def attach_input(self):
        """Feeds a container that reads its input once; two see what it says."""
        reader = self.other_container("reader", ["sh", "-c", "while read -r line; do echo got $line; done; echo end"],
                                      stdin=True, stdin_once=True)
        watcher = self.start_in_background("attach", reader, stdout=subprocess.PIPE)
        feeder = self.start_in_background("attach", "-i", "-r", "websocket", reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # Neither says when it is attached; the log has what was said, so speaking until both heard it is no loss.
        heard = {watcher: b"", feeder: b""}
        end = time.monotonic() + 20
        while not all(b"got it" in text for text in heard.values()):
            expect(time.monotonic() < end, f"not heard by both: {list(heard.values())}")
            feeder.stdin.write(b"it\n")
            feeder.stdin.flush()
            for process in heard:
                heard[process] += read_some(process.stdout.fileno())
        feeder.stdin.close()
        for process in heard:
            heard[process] += process.stdout.read()
            expect(process.wait(timeout=20) == 0 and heard[process].endswith(b"end\n"), heard[process][-200:])
        await_true(lambda: self.json("inspect", reader)["status"]["state"] == "CONTAINER_EXITED", "its input has ended, so it has")
        self.crictl.text("rm", reader)

    def port_forward(self):
        """Reaches a server in the pod that listens on its loopback only."""
        self._forward("spdy")

    def port_forward_websocket(self):
        """Does the same over WebSocket."""
        self._forward("websocket")

    def _forward(self, transport):
        command = "mkdir /www; dd if=/dev/urandom of=/www/file bs=1M count=3; exec httpd -f -p 127.0.0.1:7070 -h /www"
        server = self.other_container(f"server-{transport}", ["sh", "-c", command])
        # A connection that is refused would end crictl's forwarding.
        listening = ("exec", "--sync", server, "sh", "-c", "netstat -ltn | grep 127.0.0.1:7070")
        await_true(lambda: self.crictl.run(*listening).returncode == 0, "the server listens")
        sums = self.crictl.text("exec", "--sync", server, "sha256sum", "/www/file")
        port = free_port()
        forward = self.start_in_background("port-forward", "-r", transport, self.pod, f"{port}:7070", stdout=subprocess.PIPE)
        expect(b"Forwarding from" in forward.stdout.readline(), "it says that it forwards")
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/file", timeout=30) as answer:
                expect(hashlib.sha256(answer.read()).hexdigest() in sums, "the file comes as it is")
        forward.terminate()
        forward.wait(timeout=20)
        self.crictl.text("rm", "-f", server)


class Terminal:
    """A command on a terminal of its own; use it with `with`."""

    def __init__(self, session, *words):
        self.master, slave = pty.openpty()
        self.seen = ""
        self.resize(ROWS, COLUMNS)
        self.process = session.start_in_background(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.master)
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        self.process.wait()

    def resize(self, rows, columns):
        """Give the terminal another size and tell the command."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "process"):
            # The kernel tells the foreground group of a controlling terminal; this one controls nobody.
            os.kill(self.process.pid, 28)

    def type(self, text):
        """Type."""
        os.write(self.master, text.encode())

    def await_text(self, text):
        """Wait until it was shown."""
        await_true(lambda: text in self._look(), lambda: f"{text!r} on the terminal, which shows {self.seen[-500:]!r}")

    def shows(self, typed, text):
        """Whether a text comes after something was typed."""
        self.seen = ""
        self.type(typed)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if text in self._look():
                return True
        return False

    def _look(self):
        self.seen += read_some(self.master).decode(errors="replace")
        return self.seen


def read_some(descriptor, patience=0.05):
    """What can be read now, or nothing."""
    if not select.select([descriptor], [], [], patience)[0]:
        return b""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def free_port():
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
