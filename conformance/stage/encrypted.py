"""The steps with streams once more, over TLS: the server has a certificate, and so must its clients."""

import subprocess

from stage.steps import expect
from stage.streams import Streams


class Encrypted(Streams):
    """What crictl's flags for TLS are for."""

    def encrypted(self):
        """Everything that streams goes over TLS; a client with another authority's certificate, or with none, is refused."""
        authority, stranger = (self._certify(name) for name in ("authority", "stranger"))
        server = self._certify("server", authority, "subjectAltName=DNS:localhost")
        client, other = (self._certify(name, by) for name, by in (("client", authority), ("other", stranger)))
        self.daemon.more = (f'[streaming]\ntls_certificate = "{server}"\ntls_key = "{key_of(server)}"\n'
                            f'tls_client_ca = "{authority}"\n')
        self.daemon.stop()
        self.daemon.start()
        self.container = self.crictl.text("run", self.directory / "container.json", self.directory / "pod.json").strip()
        self.pod = self.json("ps", "-o", "json")["containers"][0]["podSandboxId"]
        for flags in (flags_of(authority, other), flags_of(stranger, client), ()):
            self.crictl.flags = flags
            for transport in ("spdy", "websocket"):
                done = self.crictl.run("exec", "-r", transport, self.container, "echo", "heard")
                expect(done.returncode != 0 and "heard" not in done.stdout, (flags, transport, done))
        self.crictl.flags = flags_of(authority, client)
        for step in (self.exec_streams, self.exec_input, self.exec_terminal, self.exec_websocket, self.attach_terminal,
                     self.attach_input, self.port_forward, self.port_forward_websocket):
            step()
        self.crictl.flags = ()
        self.crictl.text("rmp", "-f", self.pod)

    def _certify(self, name, authority=None, extension="extendedKeyUsage=clientAuth"):
        """Make a certificate with its key beside it, signed by an authority or by itself."""
        certificate = self.directory / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", f"/CN={name}", "-keyout", key_of(certificate), "-out", certificate]
        if authority:
            command += ["-CA", authority, "-CAkey", key_of(authority), "-addext", "basicConstraints=critical,CA:FALSE",
                        "-addext", extension]
        subprocess.run(command, check=True, capture_output=True)
        return certificate


def key_of(certificate):
    """Where the key of a certificate is."""
    return certificate.with_suffix(".key")


def flags_of(authority, certificate):
    """crictl's flags for a client with this certificate that trusts this authority."""
    return "--tls-ca", authority, "--tls-cert", certificate, "--tls-key", key_of(certificate)
