"""Puts up a node, lets an action use it, and takes it down so that nothing is left."""

import contextlib
import os
import pathlib
import shutil
import subprocess

from node import images
from node.kubelet import PROGRAMS
from node.node import Node
from stage import paths, play

INSTANCE = "kubelet"
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def prepare():
    """Packages, programs and images, each only if it is not there yet."""
    subprocess.run([paths.CONFORMANCE / "kubelet" / "build"], check=True)
    paths.prepare(tools=["crictl"])
    images.build(PROGRAMS / "agnhost")


def on_node(programs, action):
    """Run `action(node)`; its result, and what was left behind, as sentences."""
    # The kubelet makes links to logs in a directory that no setting names.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/var/log"], check=True)
    return play.play(INSTANCE, programs, lambda stage: _with_kubelet(stage, action))


def _with_kubelet(stage, action):
    builder = paths.CONFORMANCE / "images" / "build.py"
    subprocess.run(["python3", builder, "push", images.STORE, stage.daemon.registry], check=True)
    with _cgroups(stage.daemon.cgroup), _shared_mount(stage.directory / "shared"):
        node = Node(stage.daemon, stage.crictl, stage.directory)
        try:
            node.kubelet.start()
            return action(node)
        finally:
            node.take_down()
            if node.kubelet.log.exists():
                shutil.copy(node.kubelet.log, paths.OUT / "kubelet-itself.log")


@contextlib.contextmanager
def _cgroups(name):
    """The root of all pods' groups: a kubelet wants it to be there, and what it makes below stays when it ends."""
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (group / file).exists():
                (group / file).write_text((hierarchy / file).read_text())
    try:
        yield
    finally:
        for hierarchy in _hierarchies():
            for group, _, _ in os.walk(hierarchy / name, topdown=False):
                # A pod's group that is not empty stays, and the look at the host finds it.
                with contextlib.suppress(OSError):
                    os.rmdir(group)


def _hierarchies():
    """Where groups are made: each directory of version 1, or the one tree of version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


@contextlib.contextmanager
def _shared_mount(path):
    """A directory whose mounts reach containers that ask for them."""
    path.mkdir()
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--recursive", path], check=True)
