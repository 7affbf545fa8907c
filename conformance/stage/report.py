"""A suite's JSON report: which specs passed, failed or were skipped and why, against the list of those that must pass."""

import dataclasses
import json


@dataclasses.dataclass
class Spec:
    """One spec's outcome: passed, failed or skipped."""

    name: str
    state: str
    reason: str
    seconds: float


class Report:
    """All specs that were to run; those that a filter left out are not among them."""

    def __init__(self, specs, faults):
        self.specs = specs
        self.faults = faults

    @classmethod
    def read(cls, path):
        """From ginkgo's JSON report."""
        specs, faults = [], []
        for suite in json.loads(path.read_text()):
            for entry in suite["SpecReports"] or []:
                spec = read_spec(entry)
                if spec:
                    specs.append(spec)
            faults += suite.get("SpecialSuiteFailureReasons") or []
        return cls(sorted(specs, key=lambda spec: spec.name), faults)

    def of(self, state):
        """The specs with one outcome."""
        return [spec for spec in self.specs if spec.state == state]

    def compare(self, expected_path, filtered, update):
        """Expected specs that did not pass, and passed ones that are not expected yet."""
        passed, ran = {spec.name for spec in self.of("passed")}, {spec.name for spec in self.specs}
        expected = read_list(expected_path)
        if update:
            expected |= passed
            write_list(expected_path, expected)
        # A filter makes fewer specs run; without one, an expected spec that did not run is missed too.
        due = expected & ran if filtered else expected
        return sorted(due - passed), sorted(passed - expected)

    def conclude(self, comparison, faults, report_path):
        """Write the report, print what is wrong and the summary, return the exit status."""
        broken, news = comparison
        lines = [self.summary(), ""]
        for state in ("failed", "skipped", "passed"):
            lines += [f"{state}: {len(self.of(state))}"]
            lines += [line for spec in self.of(state) for line in describe(spec)]
            lines += [""]
        wrong = [*(f"expected to pass but did not: {name}" for name in broken), *self.faults, *faults]
        lines += wrong
        report_path.write_text("\n".join(lines) + "\n")
        for spec in self.of("failed"):
            print("\n".join(describe(spec)))
        for line in wrong:
            print(line)
        if news:
            print(f"{len(news)} specs passed that are not expected yet: --update adds them")
        print(f"report: {report_path}")
        print(self.summary())
        return 1 if broken or faults or not self.of("passed") else 0

    def summary(self):
        """The closing line."""
        return ", ".join(f"{len(self.of(state))} {state}" for state in ("passed", "failed", "skipped"))


def read_spec(entry):
    """A spec of the report, or None for what is not a spec or was filtered out."""
    if entry["LeafNodeType"] != "It":
        return None
    message = entry.get("Failure", {}).get("Message", "").strip()
    state = entry["State"]
    if state in ("skipped", "pending") and not message:
        return None
    kind = state if state in ("passed", "skipped") else "failed"
    name = " ".join([*(entry["ContainerHierarchyTexts"] or []), entry["LeafNodeText"]])
    reason = message if kind != "failed" else f"{state}: {message}"
    return Spec(name, kind, reason, entry["RunTime"] / 1e9)


def describe(spec):
    """A spec as lines of the report."""
    yield f"  {spec.name} ({spec.seconds:.1f} s)"
    if spec.state != "passed":
        yield from (f"      {line}" for line in spec.reason.splitlines()[:12])


def read_list(path):
    """Names, one a line; lines that begin with # are remarks."""
    if not path.exists():
        return set()
    return {line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")}


def write_list(path, names):
    """The list with its heading."""
    heading = "# Specs of critest that must pass. The list only grows: `conformance/run --update` adds to it.\n"
    path.write_text(heading + "".join(f"{name}\n" for name in sorted(names)))
