#!/usr/bin/env python3
"""Builds the images that the suites name out of Debian packages and our own sources, and pushes them to a registry.

    build.py build DIRECTORY [--bench]       make all blobs and manifests below DIRECTORY; nothing to do is fast
    build.py push DIRECTORY HOST:PORT        send them to a registry that speaks plain HTTP

The real images can't be had where the suites run. A stand-in has the same repository path and tag, without the registry's
name: a mirror setting of the runtime leads every registry here. The same packages give the same digests at each build.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import sys

from content import GROUP, PACKAGES, PASSWD, base_layer, compiled, nginx_layer, small_layer
from debian import Packages
from layer import digest
from registry import Registry

HERE = pathlib.Path(__file__).resolve().parent
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CREATED = "2026-01-01T00:00:00Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLATFORM = {"architecture": "amd64", "os": "linux"}

E2E = "e2e-test-images"
CRI = "k8s-staging-cri-tools"


class Store:
    """Blobs and the table of references below one directory."""

    def __init__(self, directory):
        self.directory = directory
        self.blobs = directory / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.references = {}

    def keep(self, content):
        """Write a blob and return its descriptor, without a media type."""
        name = digest(content)
        (self.blobs / name.replace(":", "-")).write_bytes(content)
        return {"digest": name, "size": len(content)}

    def read(self, name):
        """A blob's content."""
        return (self.blobs / name.replace(":", "-")).read_bytes()

    def keep_layer(self, packed):
        """Write a packed layer; what an image needs to know of it."""
        content, _, diff_id = packed
        return {"descriptor": self.keep(content), "diff_id": diff_id}

    def tag(self, repositories, layers, config, docker=False):
        """Make one image of layers and a configuration, under several "repository:tag" names."""
        image = {"created": CREATED, **PLATFORM, "config": {"Env": [PATH], **config},
                 "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in layers]}}
        types = (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER) if docker else (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
        manifest = encode({
            "schemaVersion": 2, "mediaType": types[0],
            "config": {"mediaType": types[1], **self.keep(encode(image))},
            "layers": [{"mediaType": types[2], **layer["descriptor"]} for layer in layers]})
        descriptor = self.keep(manifest)
        for repository in repositories:
            self.references[repository] = {"type": types[0], "digest": descriptor["digest"]}
        return {"mediaType": types[0], **descriptor}

    def tag_index(self, repository, manifests):
        """Make an index of manifests, each with its platform."""
        index = encode({"schemaVersion": 2, "mediaType": OCI_INDEX,
                        "manifests": [{**descriptor, "platform": platform} for descriptor, platform in manifests]})
        self.references[repository] = {"type": OCI_INDEX, "digest": self.keep(index)["digest"]}


def encode(value):
    """JSON with a fixed layout."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def build_images(store, packages, work):
    """Everything that critest, crictl and the demo name."""
    base = store.keep_layer(base_layer(packages))
    pause = store.keep_layer(small_layer({"/pause": compiled(HERE / "src/pause.c", work)}, mode=0o755))
    other = store.keep_layer(small_layer({"/etc/pause-release": "3.9\n"}))
    pause_config = {"User": "65535:65535", "Entrypoint": ["/pause"], "Env": [PATH]}
    store.tag([f"pause:{tag}" for tag in ("3.10", "3.10.1", "3.10.2")], [pause], pause_config)
    # Not the same image as the others: a spec counts the names of this one.
    store.tag(["pause:3.9"], [pause, other], pause_config)

    busybox = store.tag([], [base], {"Cmd": ["sh"]})
    # An index must be read, and the entry that fits be chosen: the first one is of another machine.
    foreign = store.tag([], [store.keep_layer(small_layer({"/bin/sh": "of another machine\n"}))], {"Cmd": ["sh"]})
    store.tag_index(f"{E2E}/busybox:1.29-2", [(foreign, {"architecture": "arm64", "os": "linux", "variant": "v8"}),
                                              (busybox, PLATFORM)])
    serve = {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    nginx = store.keep_layer(nginx_layer(packages, HERE / "src/nginx.conf", 80))
    store.tag([f"{E2E}/nginx:1.14-2", "demo/web:1"], [base, nginx], serve, docker=True)
    host_nginx = store.keep_layer(nginx_layer(packages, HERE / "src/nginx.conf", 12003))
    store.tag([f"{CRI}/hostnet-nginx-amd64:latest"], [base, host_nginx], serve, docker=True)
    page = store.keep_layer(small_layer({"/srv/www/index.html": "<html><body>It works!</body></html>\n"}))
    store.tag([f"{E2E}/httpd:2.4.39-4"], [base, page], {
        "Cmd": ["sh", "-c", "echo httpd is ready; exec httpd -f -p 80 -h /srv/www"], "ExposedPorts": {"80/tcp": {}}})
    uid = store.keep_layer(small_layer({"/nnp": compiled(HERE / "src/effective-uid.c", work)}, mode=0o4755))
    store.tag([f"{E2E}/nonewprivs:1.3"], [base, uid], {"Cmd": ["/nnp"], "Entrypoint": ["/nnp"]})
    tag_users(store, base)
    tag_variants(store, base)


def tag_users(store, base):
    """Images that run as somebody."""
    for name, user in (("user-uid", "1002"), ("user-username", "www-data"),
                       ("user-uid-group", "1003:users"), ("user-username-group", "www-data:100")):
        store.tag([f"{CRI}/test-image-{name}:latest"], [base], {"Cmd": ["sh"], "User": user}, docker=True)
    groups = store.keep_layer(base_layer_accounts(
        "default-user:x:1000:1000::/home/default-user:/bin/sh\n",
        "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"))
    store.tag([f"{CRI}/test-image-predefined-group:latest"], [base, groups], {"Cmd": ["sh"], "User": "1000"})


def base_layer_accounts(users, groups):
    """The account files of the base with more entries."""
    return small_layer({"/etc/passwd": PASSWD + users, "/etc/group": GROUP + groups})


def tag_variants(store, base):
    """Images that differ by one small file, for the specs about names and lists."""
    def variant(word):
        return store.keep_layer(small_layer({f"/variant/{word}": f"{word}\n"}))

    for number in "123":
        store.tag([f"{CRI}/test-image-{number}:latest"], [base, variant(number)], {"Cmd": ["sh"]}, docker=True)
    store.tag([f"{CRI}/test-image-latest:latest"], [base, variant("latest")], {"Cmd": ["sh"]}, docker=True)
    store.tag([f"{CRI}/test-image-tag:test"], [base, variant("tag")], {"Cmd": ["sh"]}, docker=True)
    store.tag([f"{CRI}/test-image-tag:all"], [base, variant("all")], {"Cmd": ["sh"]}, docker=True)
    store.tag([f"{CRI}/test-image-tags:{tag}" for tag in "123"], [base, variant("tags")], {"Cmd": ["sh"]}, docker=True)
    store.tag([f"{CRI}/test-image-digest:latest"], [base, variant("digest")], {"Cmd": ["sh"]}, docker=True)


def inputs_digest(packages, bench):
    """What the result depends on."""
    state = hashlib.sha256(json.dumps([packages.versions(), bench]).encode())
    for path in sorted([*HERE.glob("*.py"), *(HERE / "src").iterdir()]):
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()


def build(arguments):
    """Make all blobs, unless the same inputs made them before."""
    directory = pathlib.Path(arguments.directory).resolve()
    packages = Packages(directory)
    packages.fetch(PACKAGES)
    stamp = directory / "images.json"
    inputs = inputs_digest(packages, arguments.bench)
    if stamp.exists() and json.loads(stamp.read_text())["inputs"] == inputs:
        return
    shutil.rmtree(directory / "blobs", ignore_errors=True)
    store = Store(directory)
    build_images(store, packages, directory)
    if arguments.bench:
        from benchmark import build_large_images
        build_large_images(store, directory)
    stamp.write_text(json.dumps({"inputs": inputs, "references": store.references}, indent=1))
    print(f"built {len(store.references)} image references in {directory}")


def push(arguments):
    """Send what the registry lacks; the mark in its own storage says which set it has."""
    directory = pathlib.Path(arguments.directory).resolve()
    store = Store(directory)
    registry = Registry(arguments.address)
    references = json.loads((directory / "images.json").read_text())["references"]
    for reference, manifest in sorted(references.items()):
        repository, _, tag = reference.rpartition(":")
        if registry.has_manifest(repository, manifest["digest"]) and registry.has_manifest(repository, tag):
            continue
        push_one(store, registry, repository, (tag, manifest))
    print(f"{len(references)} image references are in the registry at {arguments.address}")


def push_one(store, registry, repository, named):
    """Blobs first, then the manifest, so that a name never leads to something absent."""
    tag, manifest = named
    content = store.read(manifest["digest"])
    document = json.loads(content)
    for child in document.get("manifests", []):
        if (store.blobs / child["digest"].replace(":", "-")).exists():
            push_one(store, registry, repository, (child["digest"], {"type": child["mediaType"], **child}))
    for blob in [document["config"], *document["layers"]] if "layers" in document else []:
        registry.push_blob(repository, blob["digest"], store.read(blob["digest"]))
    registry.push_manifest(repository, tag, content, manifest["type"])


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    build_parser = commands.add_parser("build")
    build_parser.add_argument("directory")
    build_parser.add_argument("--bench", action="store_true", help="the two large images too")
    build_parser.set_defaults(action=build)
    push_parser = commands.add_parser("push")
    push_parser.add_argument("directory")
    push_parser.add_argument("address")
    push_parser.set_defaults(action=push)
    arguments = parser.parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    sys.exit(main())
