"""Pods as the documents that a kubelet reads from files."""

from node.images import SYSTEM

NAMESPACE = "default"


def pod(name, *containers, **spec):
    """A pod that ends at once when it is told to, unless its specification says otherwise."""
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}, **spec.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}}


def shell(name, script, **more):
    """A container that runs a script. A kubelet takes two dollar signs for one."""
    return {"name": name, "image": SYSTEM, "command": ["sh", "-c", script.replace("$", "$$")], **more}


def program(name, image, *words, **more):
    """A container that runs its image's program with these words."""
    return {"name": name, "image": image, "args": list(words), **more}


# Ends at once when it is told to: the first process of a PID namespace gets no signal that it does not handle.
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"


def resources(**limits):
    """Limits that are requests too, as cpu="100m", memory="64Mi"."""
    return {"limits": limits, "requests": limits}


def host_path(name, path, kind="Directory"):
    """A volume that is a path of the host."""
    return {"name": name, "hostPath": {"path": str(path), "type": kind}}


def mount(name, path, **more):
    """A volume's place in a container."""
    return {"name": name, "mountPath": path, **more}
