"""The images of the pods: the kubelet's own test program, and a system of Debian's busybox with bash as its shell."""

import hashlib
import json
import pathlib
import shutil
import sys

from stage import paths

sys.path.insert(0, str(paths.CONFORMANCE / "images"))
# pylint: disable=wrong-import-position
from build import Store  # noqa: E402
from content import PACKAGES, base_layer, small_layer  # noqa: E402
from debian import Packages  # noqa: E402
from layer import Layer  # noqa: E402

STORE = paths.OUT / "kubelet-images"
AGNHOST = "registry.k8s.io/kubelet/agnhost:1"
SYSTEM = "registry.k8s.io/kubelet/system:1"
# Nothing but files: a volume of a pod.
FILES = "registry.k8s.io/kubelet/files:1"
# Named by one pod that goes; nobody uses it then.
UNUSED = "registry.k8s.io/kubelet/unused:1"


def build(agnhost):
    """Make all of them, unless the same inputs made them before; where they are."""
    packages = Packages(paths.IMAGES)
    packages.fetch([*PACKAGES, "bash-static"])
    inputs = _inputs(packages, agnhost)
    stamp = STORE / "images.json"
    if stamp.exists() and json.loads(stamp.read_text())["inputs"] == inputs:
        return STORE
    shutil.rmtree(STORE / "blobs", ignore_errors=True)
    store = Store(STORE)
    _tag_all(store, packages, agnhost)
    stamp.write_text(json.dumps({"inputs": inputs, "references": store.references}, indent=1))
    return STORE


def _tag_all(store, packages, agnhost):
    shell = Layer()
    # As /bin/sh too: Debian's own drops variables whose names are not those of a shell.
    shell.copy("/bin/bash", packages.file("bash-static", "bin/bash-static"))
    shell.hard_link("/bin/sh", "/bin/bash")
    system = [store.keep_layer(base_layer(packages)), store.keep_layer(shell.pack())]
    program = Layer()
    program.copy("/agnhost", agnhost)
    server = [*system, store.keep_layer(program.pack())]
    files = store.keep_layer(small_layer({"/top": "top\n", "/below/it": "below\n"}))
    unused = store.keep_layer(small_layer({"/unused": "unused\n"}))
    for reference, layers, config in ((AGNHOST, server, {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}),
                                      (SYSTEM, system, {"Cmd": ["sh"]}), (FILES, [files], {}),
                                      (UNUSED, [*system, unused], {"Cmd": ["sleep", "1"]})):
        store.tag([reference.partition("/")[2]], layers, config)


def _inputs(packages, agnhost):
    state = hashlib.sha256(json.dumps(packages.versions()).encode())
    for path in (agnhost, pathlib.Path(__file__), *sorted((paths.CONFORMANCE / "images").glob("*.py"))):
        state.update(path.read_bytes())
    return state.hexdigest()
