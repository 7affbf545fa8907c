"""What the steps of a crictl session share."""

import json
import pathlib
import time

IMAGE = "registry.k8s.io/e2e-test-images/busybox:1.29-2"


class Steps:
    """One user's way through the commands; what a step learns, later steps use."""

    def __init__(self, crictl, directory, daemon):
        self.crictl = crictl
        self.daemon = daemon
        self.directory = pathlib.Path(directory)
        self.pod = self.container = self.image = ""
        self.background = []

    def json(self, *words):
        """The output of a command as a document."""
        return json.loads(self.crictl.text(*words))

    def config(self, name, document):
        """A configuration file for a command."""
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    def other_container(self, name, command, **more):
        """A further container of the pod, started; its id."""
        container = {"metadata": {"name": name}, "image": {"image": IMAGE}, "command": command, "log_path": f"{name}.log", "linux": {}, **more}
        container_file = self.config(name, container)
        made = self.crictl.text("create", self.pod, container_file, self.directory / "pod.json").strip()
        self.crictl.text("start", made)
        return made

    def start_in_background(self, *words, **options):
        """A command that goes on; it is ended with the session at the latest."""
        process = self.crictl.start(*words, **options)
        self.background.append(process)
        return process

    def close(self):
        """End what goes on."""
        for process in self.background:
            if process.poll() is None:
                process.kill()
            process.wait()


def expect(truth, seen):
    """Fail the step, showing what was seen."""
    if not truth:
        raise AssertionError(seen if isinstance(seen, str) else str(seen))


def await_true(question, what, deadline=20):
    """Ask until it is so. What is not so is said in words, or by a function that finds them in the end."""
    end = time.monotonic() + deadline
    while not question():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(0.05)
