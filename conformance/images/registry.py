"""A registry's HTTP interface, as far as pushing needs it."""

import http.client
import urllib.parse


class Registry:
    """One registry on plain HTTP, by host and port. Blobs that it has in another repository are mounted, not sent."""

    def __init__(self, address):
        self.address = address
        self.connection = http.client.HTTPConnection(address, timeout=60)
        self.seen = {}

    def has_manifest(self, repository, reference):
        """Whether a manifest is there."""
        return self._call("HEAD", f"/v2/{repository}/manifests/{reference}", accept=True)[0] == 200

    def push_blob(self, repository, digest, content):
        """Store a blob under its digest."""
        if self._call("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            self.seen.setdefault(digest, repository)
            return
        query = f"?mount={digest}&from={self.seen[digest]}" if digest in self.seen else ""
        status, headers, _ = self._call("POST", f"/v2/{repository}/blobs/uploads/{query}")
        if status == 201:
            return
        self._expect(status, 202, f"start the upload of {digest} to {repository}")
        place = urllib.parse.urlsplit(headers["Location"])
        query = f"{place.query}&" if place.query else ""
        url = f"{place.path}?{query}digest={urllib.parse.quote(digest)}"
        status, _, _ = self._call("PUT", url, content, "application/octet-stream")
        self._expect(status, 201, f"upload {digest} to {repository}")
        self.seen[digest] = repository

    def push_manifest(self, repository, reference, content, media_type):
        """Store a manifest under a tag or its digest."""
        status, _, body = self._call("PUT", f"/v2/{repository}/manifests/{reference}", content, media_type)
        self._expect(status, 201, f"push the manifest {repository}:{reference} ({body[:200]!r})")

    def _call(self, method, url, content=b"", media_type=None, accept=False):
        headers = {"Content-Type": media_type} if media_type else {}
        if accept:
            headers["Accept"] = ("application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
                                 "application/vnd.docker.distribution.manifest.v2+json")
        self.connection.request(method, url, body=content, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def _expect(self, status, wanted, what):
        if status != wanted:
            raise SystemExit(f"failed to {what} at {self.address}: status {status}")
