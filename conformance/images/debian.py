"""Debian packages as material: download them, unpack them, and find the libraries that a program needs."""

import os
import pathlib
import struct
import subprocess

# Where a Debian system keeps shared libraries, in the order in which the loader looks.
LIBRARY_DIRECTORIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib")
LOADER = "lib64/ld-linux-x86-64.so.2"


class Packages:
    """Packages unpacked side by side below one directory, by name."""

    def __init__(self, work):
        self.archives = work / "packages"
        self.trees = work / "trees"
        self.archives.mkdir(parents=True, exist_ok=True)
        self.trees.mkdir(parents=True, exist_ok=True)

    def fetch(self, names):
        """Download and unpack what is not there yet."""
        missing = [name for name in names if not self._unpacked(name)]
        wanted = [name for name in missing if not self._archive(name)]
        if wanted:
            # As root and without apt's own user, which may not reach this directory.
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *wanted]
            done = subprocess.run(command, cwd=self.archives, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                # The lists may be older than what the mirror has.
                subprocess.run(["apt-get", "-q", "-o", "Acquire::Retries=5", "update"], stdout=subprocess.DEVNULL, check=False)
                done = subprocess.run(command, cwd=self.archives, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"failed to download packages {wanted}: {done.stderr.strip()}")
        for name in missing:
            tree = self.trees / name
            fresh = self.trees / f".{name}.new"
            subprocess.run(["rm", "-rf", fresh, tree], check=True)
            subprocess.run(["dpkg-deb", "-x", self._archive(name), fresh], check=True)
            fresh.rename(tree)

    def versions(self):
        """File names of the downloaded archives: they hold name, version and architecture."""
        return sorted(path.name for path in self.archives.glob("*.deb"))

    def file(self, package, path):
        """One file of one package."""
        found = self.trees / package / path
        if not found.exists():
            raise SystemExit(f'package "{package}" has no file "{path}"')
        return found

    def libraries(self, program):
        """What a dynamic program needs: pairs of (path in the image, file here), loader included."""
        needed, found = list(needed_libraries(program)), {}
        while needed:
            name = needed.pop()
            if name in found or name == pathlib.PurePath(LOADER).name:
                continue
            place, source = self._library(name)
            found[name] = (place, source)
            needed.extend(needed_libraries(source))
        found[LOADER] = (LOADER, self._library(pathlib.PurePath(LOADER).name)[1])
        return sorted(found.values())

    def _library(self, name):
        for tree in sorted(self.trees.iterdir()):
            for directory in LIBRARY_DIRECTORIES:
                path = tree / directory / name
                if path.exists():
                    return f"{directory}/{name}", path
        raise SystemExit(f'no fetched package has the library "{name}"')

    def _archive(self, name):
        return next(iter(sorted(self.archives.glob(f"{name}_*.deb"))), None)

    def _unpacked(self, name):
        return (self.trees / name).is_dir()


def needed_libraries(path):
    """Names in the dynamic section of a 64-bit little-endian ELF file (DT_NEEDED)."""
    data = pathlib.Path(os.path.realpath(path)).read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise SystemExit(f'"{path}" is not a 64-bit little-endian program')
    header_offset, = struct.unpack_from("<Q", data, 32)
    header_size, header_count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, header_offset + i * header_size) for i in range(header_count)]
    loads = [(address, offset, size) for kind, _, offset, address, _, size, _, _ in headers if kind == 1]
    dynamic = [(offset, size) for kind, _, offset, _, _, size, _, _ in headers if kind == 2]
    if not dynamic:
        return []
    offset, size = dynamic[0]
    entries = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, size, 16)]
    strings_address = next(value for tag, value in entries if tag == 5)
    strings = next(strings_address - address + start for address, start, length in loads
                   if address <= strings_address < address + length)
    names = [strings + value for tag, value in entries if tag == 1]
    return [data[at:data.index(b"\0", at)].decode() for at in names]
