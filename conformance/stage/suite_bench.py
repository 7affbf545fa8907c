"""The official suite's own benchmark, `critest -benchmark`: it is run against a daemon and its result files are summed up."""

import json
import statistics
import subprocess

from stage import paths
from stage.steps import IMAGE

PODS, CONTAINERS, IMAGES = 60, 60, 10


def run(daemon, directory):
    """Run it; lines of a table: operation, median and 99th percentile in milliseconds."""
    results = directory / "critest-benchmark"
    results.mkdir()
    parameters = directory / "critest-benchmark.yaml"
    parameters.write_text(f"containersNumber: {CONTAINERS}\npodsNumber: {PODS}\nimagesNumber: {IMAGES}\n"
                          f"imagePullingBenchmarkImage: {IMAGE}\nimageListingBenchmarkImages: [{IMAGE}]\n")
    command = [paths.TOOLS / "critest", "-benchmark", f"-benchmarking-params-file={parameters}", f"-benchmarking-output-dir={results}",
               f"-runtime-endpoint={daemon.endpoint}", f"-image-endpoint={daemon.endpoint}", "-config=/nonexistent", "-ginkgo.no-color"]
    with open(paths.OUT / "critest-benchmark.log", "wb") as log:
        status = subprocess.run(command, stdout=log, stderr=log, cwd=paths.OUT, check=False).returncode
    if status != 0:
        raise SystemExit(f"critest -benchmark failed: see {paths.OUT / 'critest-benchmark.log'}")
    lines = ["", "| critest -benchmark | p50 | p99 (ms) |", "|---|---|---|"]
    for file in sorted(results.glob("*.json")):
        lines += summary(json.loads(file.read_text()))
    return lines


def summary(document):
    """A line for each operation of one result file."""
    names = document["operationsNames"]
    for place, name in enumerate(names):
        times = sorted(point["operationsDurationsNs"][place] / 1e6 for point in document["datapoints"])
        if times:
            yield f"| {name} | {statistics.median(times):.2f} | {times[min(len(times) - 1, len(times) * 99 // 100)]:.2f} |"
