"""Volumes: where they are, what is in them, who may write."""

import subprocess

from node.images import FILES
from node.manifests import FOREVER, host_path, mount, pod, resources, shell
from scenarios.scenario import Scenario
from stage.steps import expect


class Volumes(Scenario):
    """emptyDir on disk and in memory, hostPath, sub paths and image volumes are where the pod wants them, and read-only where it says so."""

    def pods(self):
        self.folder = self.node.folder("volumes")
        (self.folder / "inner").mkdir()
        (self.folder / "inner" / "file").write_text("of the host\n")
        writer = [mount("disk", "/disk"), mount("memory", "/memory"), mount("host", "/host"), mount("host", "/read-only", readOnly=True),
                  mount("host", "/sub", subPath="inner"), mount("host", "/sub-file", subPath="inner/file"),
                  mount("host", "/by-name", subPathExpr="made-$(NAME)"), mount("file", "/one-file"), mount("image", "/image"),
                  mount("image", "/image-part", subPath="below")]
        reader = [mount("disk", "/disk", readOnly=True), mount("memory", "/memory")]
        name = {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        return [pod("volumes", shell("writer", FOREVER, volumeMounts=writer, env=[name]), shell("reader", FOREVER, volumeMounts=reader),
                    volumes=[{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                             host_path("host", self.folder), host_path("file", self.folder / "inner" / "file", "File"),
                             {"name": "image", "image": {"reference": FILES, "pullPolicy": "IfNotPresent"}}])]

    def check(self):
        self.node.await_ready("volumes")
        self.inside("writer", "echo disk >/disk/a; echo memory >/memory/a")
        self.shows("reader", "cat /disk/a /memory/a", "disk\nmemory\n")
        self.refused("reader", "touch /disk/b", "Read-only")
        kinds = self.inside("reader", "stat -f -c %T /memory").strip()
        expect(kinds == "tmpfs", kinds)
        self.refused("writer", "dd if=/dev/zero of=/memory/big bs=1M count=3", "No space")
        self.shows("writer", "cat /host/inner/file /sub/file /sub-file /one-file", "of the host\n" * 4)
        self.refused("writer", "touch /read-only/b", "Read-only")
        self.inside("writer", "echo made >/by-name/it; echo more >>/one-file")
        expect((self.folder / "made-volumes-node" / "it").read_text() == "made\n", "a directory of the pod's name")
        expect((self.folder / "inner" / "file").read_text().endswith("more\n"), "the host sees what was written")
        self.shows("writer", "cat /image/top /image/below/it /image-part/it", "top\nbelow\nbelow\n")
        self.refused("writer", "touch /image/b", "Read-only")

    def inside(self, container, script):
        """What a script prints."""
        return self.node.output("volumes", container, script)

    def shows(self, container, script, text):
        """A script prints just that."""
        seen = self.inside(container, script)
        expect(seen == text, (script, seen))

    def refused(self, container, script, why):
        """A script fails for that reason."""
        done = self.node.exec("volumes", container, "sh", "-c", script)
        expect(done.returncode != 0 and why in done.stderr.decode(), (script, done))


class Downward(Scenario):
    """What a pod may know of itself comes as files and as variables."""

    def pods(self):
        def field(path):
            return {"fieldRef": {"fieldPath": path}}

        def limit(name):
            return {"resourceFieldRef": {"containerName": "main", "resource": name}}

        items = [{"path": "labels", **field("metadata.labels")}, {"path": "annotations", **field("metadata.annotations")},
                 {"path": "deep/memory", **limit("limits.memory")}, {"path": "name", **field("metadata.name")}]
        # Not the host's address, nor a projected volume: a kubelet without an API server knows neither.
        names = {"POD_IP": "status.podIP", "UID_OF_POD": "metadata.uid", "NODE": "spec.nodeName",
                 "with-dash": "metadata.namespace"}
        return [pod("downward", shell("main", FOREVER, resources=resources(cpu="50m", memory="32Mi"),
                                      env=[*({"name": name, "valueFrom": field(path)} for name, path in names.items()),
                                           {"name": "CPU", "valueFrom": limit("limits.cpu")}],
                                      volumeMounts=[mount("about", "/about")]),
                    metadata={"annotations": {"colour": "green"}, "labels": {"app": "downward", "part": "one"}},
                    volumes=[{"name": "about", "downwardAPI": {"items": items}}])]

    def check(self):
        self.node.await_ready("downward")
        text = self.node.output("downward", "main", "cd /about; cat labels annotations deep/memory name")
        for part in ('part="one"', 'colour="green"', str(32 << 20), "downward-node"):
            expect(part in text, (part, text))
        variables = dict(line.partition("=")[::2] for line in self.node.output("downward", "main", "tr '\\0' '\\n' </proc/1/environ").splitlines())
        document = self.node.pod("downward")
        expect(variables["POD_IP"] == document["status"]["podIP"] and variables["UID_OF_POD"] == document["metadata"]["uid"], variables)
        expect(variables["with-dash"] == "default" and variables["NODE"] == "node" and variables["CPU"] == "1", variables)


class Mounts(Scenario):
    """Mounts travel as a volume says, and a read-only mount has its mounts below."""

    def pods(self):
        self.folder = self.node.folder("mounts")
        for name in ("travel", "deep", "deep/inner"):
            (self.folder / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.folder / "deep" / "inner"], check=True)
        root = {"securityContext": {"privileged": True}}
        return [pod("mounts", shell("maker", FOREVER, volumeMounts=[mount("travel", "/travel", mountPropagation="Bidirectional")], **root),
                    shell("follower", FOREVER, volumeMounts=[
                        mount("travel", "/travel", mountPropagation="HostToContainer"), mount("travel", "/private"),
                        mount("deep", "/deep", readOnly=True)]),
                    volumes=[host_path("travel", self.folder / "travel"), host_path("deep", self.folder / "deep")])]

    def check(self):
        try:
            self.node.await_ready("mounts")
            self.node.output("mounts", "maker", "mkdir /travel/new; mount -t tmpfs tmpfs /travel/new; touch /travel/new/file")
            self.node.output("mounts", "follower", "test -e /travel/new/file; test ! -e /private/new/file")
            expect((self.folder / "travel" / "new" / "file").exists(), "the host sees the mount")
            done = self.node.exec("mounts", "follower", "touch", "/deep/file")
            expect(done.returncode != 0 and b"Read-only" in done.stderr, done)
            self.node.output("mounts", "follower", "touch /deep/inner/file")
        finally:
            for place in ("travel/new", "deep/inner"):
                # The first is not there if the pod never came so far.
                subprocess.run(["umount", self.folder / place], check=False, capture_output=True)
