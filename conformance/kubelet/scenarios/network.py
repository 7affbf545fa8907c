"""Names, addresses, ports and namespaces of pods."""

import os
import urllib.error

from node.images import AGNHOST
from node.kubelet import HTTP
from node.manifests import FOREVER, pod, program, shell
from node.waiting import until
from scenarios.scenario import Scenario
from stage.steps import expect


class Network(Scenario):
    """A pod has its address at once, its names, its servers of names, and a port of the host; pods reach each other."""

    PORT = 18080

    def pods(self):
        return [pod("network", program("server", AGNHOST, "netexec", ports=[{"containerPort": 8080, "hostPort": self.PORT}]),
                    shell("main", FOREVER), hostname="named", subdomain="below",
                    hostAliases=[{"ip": "10.1.2.3", "hostnames": ["alias.test"]}],
                    dnsPolicy="None", dnsConfig={"nameservers": ["10.9.9.9"], "searches": ["here.test"], "options": [{"name": "ndots", "value": "3"}]}),
                pod("neighbour", shell("main", FOREVER))]

    def check(self):
        self.node.await_ready("network", "neighbour")
        status = self.node.status("network")
        address = status["podIP"]
        expect(address.startswith("10.244.") and status["podIPs"] == [{"ip": address}], status)
        conditions = {entry["type"]: entry["status"] for entry in status["conditions"]}
        expect(conditions["PodReadyToStartContainers"] == "True", conditions)
        expect(self.node.output("network", "main", "hostname") == "named\n", "its name")
        hosts = self.node.output("network", "main", "cat /etc/hosts")
        expect("alias.test" in hosts and address in hosts, hosts)
        resolver = self.node.output("network", "main", "cat /etc/resolv.conf").split("\n")
        expect({"nameserver 10.9.9.9", "search here.test", "options ndots:3"} <= set(resolver), resolver)
        seen = self.node.output("neighbour", "main", f"wget -q -O- http://{address}:8080/clientip")
        expect(seen.startswith(self.node.status("neighbour")["podIP"]), seen)
        expect(until(self._through_host, "an answer at the port of the host") == b"named", "the server behind the port of the host")
        expect("nameserver 10.10.10.10" in self.node.output("neighbour", "main", "cat /etc/resolv.conf"), "the node's server of names")

    def _through_host(self):
        try:
            with HTTP.open(f"http://127.0.0.1:{self.PORT}/hostname", timeout=5) as answer:
                return answer.read()
        except (OSError, urllib.error.URLError):
            return b""


class Namespaces(Scenario):
    """Pods share the host's network, processes and IPC if they say so; containers of a pod share processes if it says so."""

    def pods(self):
        return [pod("of-host", shell("main", FOREVER), hostNetwork=True, hostPID=True, hostIPC=True),
                pod("together", shell("one", "exec sleep 100000"), shell("two", FOREVER), shareProcessNamespace=True)]

    def check(self):
        self.node.await_ready("of-host", "together")
        for kind in ("net", "pid", "ipc"):
            inside = self.node.output("of-host", "main", f"readlink /proc/self/ns/{kind}").strip()
            expect(inside == os.readlink(f"/proc/self/ns/{kind}"), (kind, inside))
        seen = self.node.output("together", "two", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        expect("sleep 100000" in seen, seen)
        expect("sleep 100000" not in self.node.output("together", "two", "tr '\\0' ' ' </proc/1/cmdline"), "the first process is none of the containers'")
