"""One play on the stage: registry and daemon come up, the action runs, all is taken away, the host is compared."""

import dataclasses
import pathlib
import shutil
import tempfile

from stage import paths
from stage.clients import Crictl
from stage.daemon import Daemon
from stage.inventory import Inventory
from stage.registry import Registry


@dataclasses.dataclass
class Stage:
    """What an action gets."""

    daemon: Daemon
    crictl: Crictl
    directory: pathlib.Path


def play(instance, programs, action):
    """Run `action(stage)`; its result, and what the runtime did not give back, as sentences."""
    # Below /run, so that it is neither in the tree nor behind a long path: a socket's address is at most 107 bytes.
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"cringle-{instance}-", dir="/run"))
    with Registry(paths.REGISTRY) as registry:
        registry.push(paths.IMAGES)
        daemon = Daemon(paths.programs(programs), directory, instance, registry.address)
        inventory = Inventory(daemon)
        before = inventory.take()
        try:
            with daemon:
                crictl = Crictl(paths.TOOLS / "crictl", daemon.endpoint)
                try:
                    result = action(Stage(daemon, crictl, directory))
                finally:
                    # Containers outlive their daemon, and so an action that did not come to its end.
                    faults = [f"could not be removed: {line}" for line in crictl.remove_all()]
                daemon.await_space()
            extra = inventory.settle(before)
        finally:
            if daemon.log.exists():
                shutil.copy(daemon.log, paths.OUT / f"{instance}.log")
            daemon.remove_files()
    faults += [f"left on the host: {kind}: {line}" for kind, lines in extra.items() for line in lines]
    return result, faults
