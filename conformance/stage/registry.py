"""A registry on loopback: Debian's, with its storage in a directory that outlives the run."""

import http.client
import pathlib
import signal
import subprocess
import time

CONFIGURATION = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "{address}", net: tcp}}
"""
START_DEADLINE = 30


class Registry:
    """One running registry; use it with `with`."""

    def __init__(self, storage, port=5000):
        self.storage = pathlib.Path(storage)
        self.address = f"127.0.0.1:{port}"
        self.process = None

    def __enter__(self):
        self.storage.mkdir(parents=True, exist_ok=True)
        configuration = self.storage / "registry.yml"
        configuration.write_text(CONFIGURATION.format(storage=self.storage / "data", address=self.address))
        with open(self.storage / "registry.log", "ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", configuration], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        self._await_answer()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def push(self, images):
        """Send the stand-in images that it lacks."""
        program = pathlib.Path(__file__).resolve().parent.parent / "images" / "build.py"
        subprocess.run(["python3", program, "push", images, self.address], check=True)

    def _await_answer(self):
        deadline = time.monotonic() + START_DEADLINE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection(self.address, timeout=2)
                connection.request("GET", "/v2/")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"the registry at {self.address} did not start: see {self.storage / 'registry.log'}")
