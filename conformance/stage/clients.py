"""crictl, as a person uses it."""

import subprocess


class CrictlError(Exception):
    """A command that should have succeeded."""


class Crictl:
    """crictl with its endpoint set."""

    def __init__(self, program, endpoint, deadline=60):
        self.command = [str(program), "--config", "/dev/null", "--runtime-endpoint", endpoint, "--image-endpoint",
                        endpoint, "--timeout", f"{deadline}s"]

    def run(self, *words):
        """The finished process, whatever its end."""
        words = [str(word) for word in words]
        return subprocess.run([*self.command, *words], capture_output=True, text=True, check=False, timeout=300)

    def start(self, *words, **options):
        """The command as a process that goes on."""
        return subprocess.Popen([*self.command, *map(str, words)], **options)

    def feed(self, content, *words):
        """The finished process, which got these bytes as its input; its standard output as bytes."""
        done = subprocess.run([*self.command, *map(str, words)], input=content, capture_output=True, check=False, timeout=300)
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
