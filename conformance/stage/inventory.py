"""What the host holds: taken before and after a run, so that the difference is what the runtime left behind."""

import json
import os
import pathlib
import re
import subprocess
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Files that belong to an instance and not to a pod: they may come and stay.
STANDING_FILES = re.compile(r"(^|/)(lock|last_reserved_ip\.\d+|[^/]*\.sock|boot|parents|names\.json)$")


class Inventory:
    """What one daemon can leak, by kind. Its bridge may stay: the network's configuration asks for it, no pod does."""

    def __init__(self, daemon, bridge_may_stay=True):
        self.bridge_may_stay = bridge_may_stay
        self.roots = [daemon.root, daemon.state, daemon.leases, daemon.directory / "cni", daemon.directory / "netns"]
        self.cgroup = daemon.cgroup
        self.bridge = daemon.bridge

    def take(self):
        """A snapshot: kind → set of lines."""
        return {"processes": self._processes(), "mounts": mounts(), "cgroups": self._cgroups(),
                "network namespaces": network_namespaces(), "links": self._links(), "nft elements": nft_elements(),
                "files and leases": set().union(*map(files, self.roots))}

    def settle(self, before, deadline=10):
        """What is there now and was not in `before`, once it stopped shrinking to nothing or the deadline passed."""
        end = time.monotonic() + deadline
        while True:
            after = self.take()
            extra = {kind: sorted(after[kind] - before[kind]) for kind in after if after[kind] - before[kind]}
            if not extra or time.monotonic() > end:
                return extra
            time.sleep(0.1)

    def _processes(self):
        words = [*map(str, self.roots), self.cgroup]
        return {f"{process} {line}" for process, line in running() if any(word in line for word in words)}

    def _cgroups(self):
        # Others' come and go while we look, which os.walk does not mind.
        return {directory for directory, _, _ in os.walk(CGROUPS) if self.cgroup in pathlib.PurePath(directory).parts}

    def _links(self):
        links = json.loads(run(["ip", "-j", "link", "show"]) or "[]")
        return {link["ifname"] for link in links if link["ifname"] != self.bridge or not self.bridge_may_stay}


def files(root):
    """Files below a directory, but for those that belong to the instance."""
    found = {os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names}
    return {name for name in found if not STANDING_FILES.search(name)}


def running():
    """(process id, everything that says whose process it is) of all processes."""
    for directory in pathlib.Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            groups = (directory / "cgroup").read_text()
            links = [os.readlink(directory / name) for name in ("exe", "cwd")]
        except OSError:
            continue
        yield int(directory.name), " ".join([command, *links, groups.replace("\n", " ")])


def mounts():
    """Mount points of this mount namespace with what is mounted there."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"{line.split()[4]} ({line.split(' - ')[1].split()[0]})" for line in lines}


def network_namespaces():
    """Names that pin one."""
    directory = pathlib.Path("/run/netns")
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def nft_elements():
    """Every rule object that is about one pod: elements of sets and maps; tables and chains belong to the instance."""
    listing = json.loads(run(["nft", "-j", "list", "ruleset"]) or '{"nftables": []}')
    found = set()
    for entry in listing["nftables"]:
        for kind in ("set", "map"):
            for element in entry.get(kind, {}).get("elem", []):
                owner = entry[kind]
                found.add(f"{owner['table']} {owner['name']} {json.dumps(element, sort_keys=True)}")
    return found


def run(command):
    """Standard output of a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
