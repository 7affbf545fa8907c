"""crictl, as a person uses it."""

import subprocess


class CrictlError(Exception):
    """A command that should have succeeded."""


# Commands whose bytes go over the streaming server.
STREAMED = ("exec", "attach", "port-forward")


class Crictl:
    """crictl with its endpoint set; `flags` go with every command that streams."""

    def __init__(self, program, endpoint, deadline=60):
        self.command = [str(program), "--config", "/dev/null", "--runtime-endpoint", endpoint, "--image-endpoint",
                        endpoint, "--timeout", f"{deadline}s"]
        self.flags = ()

    def run(self, *words):
        """The finished process, whatever its end."""
        return subprocess.run(self._command(words), capture_output=True, text=True, check=False, timeout=300)

    def start(self, *words, **options):
        """The command as a process that goes on."""
        return subprocess.Popen(self._command(words), **options)

    def feed(self, content, *words):
        """The finished process, which got these bytes as its input; its standard output as bytes."""
        done = subprocess.run(self._command(words), input=content, capture_output=True, check=False, timeout=300)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def bare(self, *words):
        """Standard output of crictl with these words only."""
        words = [self.command[0], *map(str, words)]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout

    def text(self, *words):
        """Standard output of a command that must succeed."""
        done = self.run(*words)
        if done.returncode != 0:
            raise CrictlError(f"crictl {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def remove_all(self):
        """Remove all pods and images, each by itself; what could not be removed."""
        faults = []
        for listing, command in ((["pods", "-q"], ["rmp", "-f"]), (["images", "-q"], ["rmi"])):
            found = self.run(*listing)
            if found.returncode != 0:
                faults.append(f"crictl {' '.join(listing)}: {found.stderr.strip()}")
            for name in dict.fromkeys(found.stdout.split()):
                done = self.run(*command, name)
                if done.returncode != 0:
                    faults.append(f"crictl {' '.join(command)} {name}: {done.stderr.strip()}")
        return faults

    def _command(self, words):
        verb, *rest = map(str, words)
        flags = self.flags if verb in STREAMED else ()
        return [*self.command, verb, *map(str, flags), *rest]
