"""A layer as bytes: the same content gives the same digest at every build, whoever builds it and when."""

import gzip
import hashlib
import io
import tarfile

# 2026-01-01T00:00:00Z: every file of every layer bears it.
FIXED_TIME = 1767225600


class Layer:
    """Entries of one layer. Parents are added by themselves; entries are written sorted, hard links last."""

    def __init__(self):
        self.entries = {}

    def directory(self, path, mode=0o755, owner=(0, 0)):
        """A directory with its parents."""
        path = path.strip("/")
        self._parents(path)
        self.entries[path] = (self._entry(path, tarfile.DIRTYPE, mode, owner), b"")

    def file(self, path, content, mode=0o644, owner=(0, 0)):
        """A regular file, from text or bytes."""
        path = path.strip("/")
        content = content.encode() if isinstance(content, str) else content
        self._parents(path)
        entry = self._entry(path, tarfile.REGTYPE, mode, owner)
        entry.size = len(content)
        self.entries[path] = (entry, content)

    def copy(self, path, source, mode=0o755):
        """A file of this machine."""
        self.file(path, source.read_bytes(), mode)

    def hard_link(self, path, target):
        """Another name of a file of this layer."""
        path = path.strip("/")
        self._parents(path)
        entry = self._entry(path, tarfile.LNKTYPE, 0o755, (0, 0))
        entry.linkname = target.strip("/")
        self.entries[path] = (entry, b"")

    def symbolic_link(self, path, target):
        """A symbolic link."""
        path = path.strip("/")
        self._parents(path)
        entry = self._entry(path, tarfile.SYMTYPE, 0o777, (0, 0))
        entry.linkname = target
        self.entries[path] = (entry, b"")

    def pack(self):
        """(compressed bytes, digest of them, digest of the archive inside)."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for _, (entry, content) in sorted(self.entries.items(), key=_links_last):
                archive.addfile(entry, io.BytesIO(content) if entry.isreg() else None)
        return compress(raw.getvalue())

    def _parents(self, path):
        parent = path.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.directory(parent)

    @staticmethod
    def _entry(path, kind, mode, owner):
        entry = tarfile.TarInfo(path + "/" if kind == tarfile.DIRTYPE else path)
        entry.type, entry.mode, entry.mtime = kind, mode, FIXED_TIME
        entry.uid, entry.gid = owner
        return entry


def compress(raw):
    """(compressed bytes, digest of them, digest of the archive inside)."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as stream:
        stream.write(raw)
    return packed.getvalue(), digest(packed.getvalue()), digest(raw)


def digest(content):
    """The content's name in a registry."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _links_last(item):
    path, (entry, _) = item
    return entry.islnk(), path
