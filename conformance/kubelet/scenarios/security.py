"""Who a container's processes are and what they may do."""

from node.manifests import FOREVER, host_path, mount, pod, shell
from scenarios.scenario import Scenario
from stage.steps import expect


def as_user(**context):
    """A container's security context."""
    return {"securityContext": context}


class Security(Scenario):
    """Users, groups, capabilities, seccomp by default, a read-only root and sysctls are as the pod says."""

    def pods(self):
        return [pod("security",
                    shell("default", FOREVER),
                    shell("somebody", FOREVER, volumeMounts=[mount("disk", "/disk")],
                          **as_user(runAsUser=1000, runAsGroup=2000, allowPrivilegeEscalation=False, readOnlyRootFilesystem=True,
                                    capabilities={"drop": ["ALL"]})),
                    shell("free", FOREVER, **as_user(seccompProfile={"type": "Unconfined"}, capabilities={"add": ["NET_ADMIN"]})),
                    shell("privileged", FOREVER, **as_user(privileged=True)),
                    securityContext={"fsGroup": 3000, "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict",
                                     "sysctls": [{"name": "net.core.somaxconn", "value": "321"},
                                                 {"name": "net.ipv4.ip_unprivileged_port_start", "value": "70"}]},
                    volumes=[{"name": "disk", "emptyDir": {}}])]

    def check(self):
        self.node.await_ready("security")
        default = self.process("default")
        expect(default["Seccomp"] == "2" and default["NoNewPrivs"] == "0", default)
        somebody = self.process("somebody")
        expect(somebody["Uid"].split()[0] == "1000" and somebody["Gid"].split()[0] == "2000", somebody)
        expect(sorted(somebody["Groups"].split()) == ["2000", "3000", "4000"], somebody["Groups"])
        expect(int(somebody["CapEff"], 16) == 0 and int(somebody["CapBnd"], 16) == 0 and somebody["NoNewPrivs"] == "1", somebody)
        done = self.node.exec("security", "somebody", "touch", "/file")
        expect(b"Read-only" in done.stderr, done)
        made = self.node.output("security", "somebody", "touch /disk/file; stat -c %g /disk /disk/file")
        expect(made.split() == ["3000", "3000"], made)
        expect(self.process("free")["Seccomp"] == "0" and int(self.process("free")["CapEff"], 16) >> 12 & 1, self.process("free"))
        expect(self.process("privileged")["Seccomp"] == "0", self.process("privileged"))
        values = self.node.output("security", "default", "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start")
        expect(values.split() == ["321", "70"], values)
        user = self.node.container("security", "somebody")["user"]["linux"]
        expect((user["uid"], user["gid"], sorted(user["supplementalGroups"])) == (1000, 2000, [2000, 3000, 4000]), user)

    def process(self, container):
        """The status of a container's first process."""
        text = self.node.output("security", container, "cat /proc/1/status")
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


class UserNamespaces(Scenario):
    """Pods with users of their own have ids of the host that no other pod has, and their volumes belong to them."""

    def pods(self):
        self.folder = self.node.folder("users")
        script = f"touch /disk/own /host/own; {FOREVER}"
        mounts = [mount("disk", "/disk"), mount("host", "/host"), mount("memory", "/memory"), mount("about", "/about")]
        return [pod(name, shell("main", script, volumeMounts=mounts), hostUsers=False,
                    volumes=[{"name": "disk", "emptyDir": {}}, host_path("host", self.folder), {"name": "memory", "emptyDir": {"medium": "Memory"}},
                             {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}])
                for name in ("users-a", "users-b")] + [
                    pod("users-proc", shell("main", FOREVER, securityContext={"procMount": "Unmasked"}), hostUsers=False)]

    def check(self):
        self.node.await_ready("users-a", "users-b", "users-proc")
        first = {}
        for name in ("users-a", "users-b"):
            inside, outside, length = map(int, self.node.output(name, "main", "cat /proc/self/uid_map").split())
            expect(inside == 0 and outside >= 65536 and length == 65536, (name, inside, outside, length))
            first[name] = outside
            owners = self.node.output(name, "main", "stat -c %u:%g / /disk/own /host/own /memory /about/name /etc/hosts; id -u")
            expect(owners.split() == ["0:0"] * 6 + ["0"], owners)
            status = self.host_status(name)
            expect(int(status.split()[0]) == outside, (name, status, outside))
            done = self.node.exec(name, "main", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
            expect(done.returncode != 0, "a mount without the capability")
        expect(first["users-a"] != first["users-b"], first)
        expect((self.folder / "own").stat().st_uid == 0, "a file that root of a pod made in the host's directory is root's")
        masked = self.node.output("users-proc", "main", "grep -c ' /proc/' /proc/self/mountinfo || true")
        expect(int(masked) == 0, f"{masked} masks over an unmasked /proc")

    def host_status(self, name):
        """The host's ids of a pod's first process."""
        with open(f"/proc/{self.node.process(name, 'main')}/status", encoding="ascii") as status:
            return next(line.partition(":")[2] for line in status if line.startswith("Uid:"))
