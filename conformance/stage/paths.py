"""Where things are in this tree, and what must be there before a run."""

import fcntl
import os
import pathlib
import subprocess

CONFORMANCE = pathlib.Path(__file__).resolve().parent.parent
TREE = CONFORMANCE.parent
TOOLS = CONFORMANCE / "bin"
OUT = CONFORMANCE / "out"
IMAGES = OUT / "images"
REGISTRY = OUT / "registry"
# What `make build` puts together: the daemon and, beside it, the shim and the plugins.
PROGRAMS = TREE / "target" / "dist"


def prepare(tools=("crictl", "critest", "ginkgo"), bench=False):
    """Packages, official programs and images, each only if it is not there yet. One run at a time does this."""
    OUT.mkdir(exist_ok=True)
    with open(OUT / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([CONFORMANCE / "install"], check=True)
        if tools:
            subprocess.run([CONFORMANCE / "build-tools", *tools], check=True)
        command = ["python3", CONFORMANCE / "images" / "build.py", "build", IMAGES]
        subprocess.run([*command, "--bench"] if bench else command, check=True)


def programs(directory):
    """The directory with all three programs, or a clear end."""
    directory = pathlib.Path(directory).resolve()
    for name in ("cringle", "containerd-shim-cringle-v2", "cringle-cni"):
        if not os.access(directory / name, os.X_OK):
            raise SystemExit(f'"{directory}" has no program "{name}": run "make build"')
    return directory
