"""Logs of containers that count, in files that the kubelet rotates and compresses meanwhile."""

import gzip

from node.waiting import until

# A line of a log: when, which stream, whole or part, the number.
NUMBER = 3


def numbers(folder):
    """All numbers in a container's log files, oldest first; one that the kubelet has in its hands may be missing or there twice."""
    found = []
    for path in [*sorted(path for path in folder.iterdir() if path.name != "0.log" and path.suffix != ".tmp"), folder / "0.log"]:
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (FileNotFoundError, EOFError):
            continue  # The kubelet has it in its hands.
        lines = content.decode().split("\n")[:-1]
        found += [int(line.split()[NUMBER]) for line in lines]
    return found


def await_count(folder, end):
    """Wait until the files have a count without gap that has reached `end`, and return it."""
    seen = []

    def is_whole():
        # What is read while the kubelet moves a file has a gap, or something twice; the next reading has not.
        seen[:] = numbers(folder)
        return bool(seen) and seen[-1] >= end and seen == list(range(seen[0], seen[0] + len(seen)))
    until(is_whole, lambda: f"a count without gap: {len(seen)} numbers from {seen[:1]} to {seen[-1:]}, the first gap after {gap(seen)}")
    return seen


def gap(found):
    """The first number whose successor is not the next one."""
    return next((number for number, after in zip(found, found[1:]) if after != number + 1), None)
