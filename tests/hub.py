"""A server on loopback that speaks enough of the Hugging Face hub's protocol for its own client, and fails on demand.

Repositories of models and of data sets: their files by revision, large ones behind a redirect, listings in pages, and
commits from the client's uploads (`upload_folder`, `create_commit`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 7
"""Entries of a page of a listing: few, so that small repositories have several pages too."""


def git_hash(content: bytes) -> str:
    """What git calls the hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What goes wrong with requests whose path matches a pattern.

    Args:
        pattern: Regular expression, searched in method and path: ``GET /datasets/…``.
        cut: Close the connection after so many bytes of the body.
        change: Replace the last byte of the body.
        status: Answer with this status instead.
        headers: Headers of that answer.
        times: How often; default always.
    """

    pattern: str
    cut: int | None = None
    change: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: float = float("inf")


@dataclass
class Repository:
    """Commits by their hashes, the newest last; each holds all files by path."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    """Paths of the files that are kept as large ones: by their SHA-256, behind a redirect."""

    def find(self, revision: str) -> str | None:
        """Return the commit that a revision means."""
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server. Use it as a context: it serves in a thread of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by their SHA-256
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str | None]] = []  # method and path, and the range
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The address to give to the client."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(
        self, name: str, files: Mapping[str, bytes | None] | Path, *, kind: str = "model", large: str = r"$^"
    ) -> str:
        """Add a commit to a repository, made if it is missing, and return its hash.

        Args:
            name: `owner/name`.
            files: Content by path, with None for what is removed; or a folder.
            kind: `model` or `dataset`.
            large: Regular expression of the paths that are kept as large files.
        """
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        with self.lock:
            repository = self.repositories.setdefault((kind, name), Repository())
            last = repository.commits[list(repository.commits)[-1]] if repository.commits else {}
            content = {path: data for path, data in {**last, **files}.items() if data is not None}
            for path in files:
                if re.search(large, path):
                    repository.large.add(path)
            for path in repository.large & content.keys():
                self.objects[hashlib.sha256(content[path]).hexdigest()] = content[path]
            facts = json.dumps([len(repository.commits), {path: git_hash(data) for path, data in content.items()}])
            sha = hashlib.sha1(facts.encode()).hexdigest()
            repository.commits[sha] = content
        return sha

    def fail(self, pattern: str, **how: Any) -> Fault:
        """Let requests fail from now on: see :class:`Fault`."""
        self.faults.append(Fault(pattern, **how))
        return self.faults[-1]

    def heal(self) -> None:
        """Let nothing fail any more, and forget the requests so far."""
        self.faults.clear()
        self.requests.clear()

    def fetched(self) -> list[str]:
        """List the paths of the files whose content was asked for."""
        found = (re.match(r"GET /(?:datasets/)?[^/]+/[^/]+/resolve/[^/]+/(.+)", asked) for asked, _ in self.requests)
        return [unquote(match[1]) for match in found if match]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that clients close."""


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Serve a hub without repositories."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    # Each route: method, path, what answers.
    ROUTES = (
        ("GET", r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
        ("GET", r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+))?", "tree"),
        ("GET", r"/(?:(dataset)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "file"),
        ("GET", r"/objects/([0-9a-f]{64})", "object"),
        ("GET", r"/api/whoami-v2", "who"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/(model|dataset)s/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/(?:(dataset)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/objects/([0-9a-f]{64})", "upload"),
        ("POST", r"/api/(model|dataset)s/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
    )

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        self.url = urlsplit(self.path)
        asked = f"{self.command} {self.url.path}"
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests.append((asked, self.headers.get("Range")))
            self.fault = next((f for f in self.server.faults if f.times > 0 and re.search(f.pattern, asked)), None)
            if self.fault:
                self.fault.times -= 1
        if self.fault and self.fault.status:
            return self._send(b"{}", self.fault.status, self.fault.headers)
        for method, pattern, name in self.ROUTES:
            if (match := re.fullmatch(pattern, self.url.path)) and method == self.command.replace("HEAD", "GET"):
                return getattr(self, f"_{name}")(*match.groups())
        return self._missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _send(self, body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.change:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if self.fault and self.fault.cut is not None:
            self.wfile.write(body[: self.fault.cut])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _json(self, value: Any, headers: Mapping[str, str] = {}) -> None:
        self._send(json.dumps(value).encode(), headers={"Content-Type": "application/json", **headers})

    def _missing(self, code: str) -> None:
        self._send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _at(self, kind: str | None, name: str, revision: str | None) -> tuple[Repository, str] | None:
        """Find a commit, or answer that there is none."""
        repository = self.server.repositories.get((kind or "model", name))
        if repository is None:
            return self._missing("RepoNotFound")
        sha = repository.find(unquote(revision or "main"))
        return self._missing("RevisionNotFound") if sha is None else (repository, sha)

    def _info(self, kind: str, name: str, revision: str | None) -> None:
        if found := self._at(kind, name, revision):
            repository, sha = found
            self._json({"id": name, "sha": sha, "siblings": [{"rfilename": p} for p in repository.commits[sha]]})

    def _tree(self, kind: str, name: str, revision: str, below: str | None) -> None:
        if not (found := self._at(kind, name, revision)):
            return
        repository, sha = found
        query = {key: values[0] for key, values in parse_qs(self.url.query).items()}
        start = int(query.get("cursor", 0))
        entries, folders = [], set()
        for path, content in sorted(repository.commits[sha].items()):
            if below and not path.startswith(f"{unquote(below)}/"):
                continue
            folders |= {str(folder) for folder in Path(path).parents} - {"."}
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            if path in repository.large:
                entry["lfs"] = {
                    "oid": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 134,
                }
            entries.append(entry)
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        headers = {}
        if len(entries) > start + PAGE:
            rest = f"{self.server.endpoint}{self.url.path}?recursive=true&cursor={start + PAGE}"
            headers["Link"] = f'<{rest}>; rel="next"'
        self._json(entries[start : start + PAGE], headers)

    def _file(self, kind: str | None, name: str, revision: str, path: str) -> None:
        if not (found := self._at(kind, name, revision)):
            return
        repository, sha = found
        path = unquote(path)
        if path not in repository.commits[sha]:
            return self._missing("EntryNotFound")
        content = repository.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{git_hash(content)}"'}
        if path not in repository.large:
            return self._content(content, headers)
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # Another host than the hub's, as for the client to see: it follows redirects to the same one by itself.
        place = f"http://localhost:{self.server.server_address[1]}/objects/{digest}"
        return self._send(b"", 302, {**headers, "Location": place})

    def _object(self, digest: str) -> None:
        if digest not in self.server.objects:
            return self._missing("EntryNotFound")
        return self._content(self.server.objects[digest], {"ETag": f'"{digest}"'})

    def _content(self, content: bytes, headers: Mapping[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._send(content, 200, {**headers, "Accept-Ranges": "bytes"})
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        place = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return self._send(content[start : end + 1], 206, {**headers, **place})

    def _who(self) -> None:
        self._json({"type": "user", "name": "someone", "orgs": []})

    def _create(self) -> None:
        asked = json.loads(self.body)
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        exists = (kind, name) in self.server.repositories
        if not exists:
            self.server.commit(name, {}, kind=kind)
        said = {"url": f"{self.server.endpoint}/{'datasets/' * (kind == 'dataset')}{name}", "name": name}
        self._send(json.dumps(said).encode(), 409 if exists else 200)

    def _validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, kind: str, name: str, revision: str) -> None:
        def of(entry: dict[str, Any]) -> dict[str, Any]:
            large = Path(entry["path"]).suffix in (".ckpt", ".safetensors", ".bin", ".pt")
            return {"path": entry["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

        if self._at(kind, name, revision):
            self._json({"files": [of(entry) for entry in json.loads(self.body)["files"]]})

    def _batch(self, kind: str | None, name: str) -> None:
        def of(entry: dict[str, Any]) -> dict[str, Any]:
            upload = {"upload": {"href": f"{self.server.endpoint}/objects/{entry['oid']}"}}
            known = entry["oid"] in self.server.objects
            return {"oid": entry["oid"], "size": entry["size"], **({} if known else {"actions": upload})}

        if self._at(kind, name, None):
            self._json({"transfer": "basic", "objects": [of(entry) for entry in json.loads(self.body)["objects"]]})

    def _upload(self, digest: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != digest:
            return self._send(b"{}", 400)
        self.server.objects[digest] = self.body
        return self._send(b"")

    def _commit(self, kind: str, name: str, revision: str) -> None:
        if not (found := self._at(kind, name, revision)):
            return
        files: dict[str, bytes | None] = {}
        large: list[str] = []
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                large.append(value["path"])
                files[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                files[value["path"]] = None
            elif entry["key"] == "deletedFolder":
                last = found[0].commits[found[1]]
                files |= dict.fromkeys(path for path in last if path.startswith(value["path"]))
        pattern = "|".join(f"^{re.escape(path)}$" for path in large) or r"$^"
        sha = self.server.commit(name, files, kind=kind, large=pattern)
        self._json({"commitUrl": f"{self.server.endpoint}/{name}/commit/{sha}", "commitOid": sha})
