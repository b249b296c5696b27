"""A hub on the loopback: the routes that huggingface_hub and datasets use, and faults on request.

Large files have SHA-256 digests as ETags and answer range requests, small ones git's SHA-1, as on the real one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".model")
"""What the hub keeps outside git."""
Files = dict[str, bytes]


@dataclass
class Repository:
    """A model, or a data set; `commits` holds the files of each, `branches` names some of them."""

    commits: dict[str, Files]
    branches: dict[str, str]
    tokens: set[str] | None = None
    """Who may read its files; None: everybody."""

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or the commit's own digest names."""
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class Hub:
    """What is served, which faults it has, and what was asked for."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By path: `owner/name`, or `datasets/owner/name`."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """File name to after how many bytes its next answers break off, one each."""
    stalls: set[str] = field(default_factory=set)
    """Ends of paths that are never answered to the end."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """File name to what is sent in place of its content."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files that were uploaded, by SHA-256."""
    private: set[str] = field(default_factory=set)
    """Repositories that were made as private ones."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of every request."""

    def add(self, name: str, *versions: Files, tokens: set[str] | None = None) -> list[str]:
        """Serve a repository with one commit a version, the last of which is `main`. Returns the commits."""
        commits = {hashlib.sha1(f"{name} {i}".encode()).hexdigest(): files for i, files in enumerate(versions)}
        self.repositories[name] = Repository(commits, {"main": list(commits)[-1]}, tokens)
        return list(commits)

    def downloads(self) -> list[str]:
        """Paths of the files that were sent, or begun to be."""
        return [path for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]


def files_of(folder: Path) -> Files:
    """The content of a checkpoint's folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub for the duration of the block."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = _Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stalls.clear()
        server.shutdown()
        server.server_close()
        thread.join()


def etag(name: str, content: bytes) -> str:
    """What the hub calls a content: SHA-256 of large files, of others what git would."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that gave up waiting."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.stored[self.path.rpartition("/")[2]] = content
        self._send(200, b"")

    def do_POST(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path).strip("/")
        if not self._take(path, body):
            self._answer(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _take(self, path: str, body: bytes) -> bool:
        """Answer a request of an upload: make a repository, say which files are large, take them, and commit."""
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if not self.headers.get("Authorization"):
                self._refuse(401, "Unauthorized")
                return True
            if name not in self.hub.repositories:
                self.hub.add(name, {})
                self.hub.private.update({name} if asked.get("visibility") == "private" else ())
            self._send_json({"url": f"{self.hub.url}/{name}"})
        elif path == "api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"api/models/([^/]+/[^/]+)/preupload/main", path):
            modes = {file["path"]: file["path"].endswith(LARGE) for file in json.loads(body)["files"]}
            files = [
                {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                for name, large in modes.items()
            ]
            self._send_json({"files": files})
        elif re.fullmatch(r"[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            self._send_json({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"api/models/([^/]+/[^/]+)/commit/main", path):
            commit = self._commit(match[1], [json.loads(line) for line in body.splitlines()])
            self._send_json({"commitUrl": f"{self.hub.url}/{match[1]}/commit/{commit}", "commitOid": commit})
        else:
            return False
        return True

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> str:
        repository = self.hub.repositories[name]
        files = dict(repository.commits[repository.branches["main"]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repository.commits[commit], repository.branches["main"] = files, commit
        return commit

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the base class calls it so
        pass

    def _answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        while any(path.endswith(end) for end in self.hub.stalls):
            time.sleep(0.05)
        if not path:
            self._send(200, b"")
        elif match := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(/.*)?", path):
            kind, name, rest = match.groups()
            self._api(name if kind == "models" else f"datasets/{name}", rest or "", body)
        elif match := re.fullmatch(r"((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._refuse(404, "EntryNotFound")

    def _api(self, name: str, rest: str, body: bytes) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(401 if not self.headers.get("Authorization") else 404, "RepoNotFound")
        if rest == "/auth-check":
            return self._send(200, b"{}") if self._may_read(repository) else None
        match = re.fullmatch(r"(?:/(revision|tree|paths-info)/([^/]+)(?:/.*)?)?", rest)
        commit = repository.commit(match[2] or "main") if match else None
        if match is None or commit is None:
            return self._refuse(404, "RevisionNotFound")
        files = repository.commits[commit]
        if match[1] in ("tree", "paths-info"):
            wanted = json.loads(body)["paths"] if match[1] == "paths-info" else list(files)
            return self._send_json([_entry(name, files[name]) for name in wanted if name in files])
        return self._send_json(
            {
                "id": name.removeprefix("datasets/"),
                "sha": commit,
                "private": False,
                "gated": "manual" if repository.tokens is not None else False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": [{"rfilename": name} for name in files],
            }
        )

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        commit = repository.commit(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        if not self._may_read(repository):
            return None
        content = repository.commits[commit].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        return self._send_file(file, content, commit)

    def _send_file(self, file: str, content: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(file, content)}"', "Accept-Ranges": "bytes"}
        if file.endswith(LARGE):
            headers |= {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(content))}
        sent = self.hub.lies.get(file, content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), int(asked[2] or len(sent) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(sent)}"
            sent = sent[start : end + 1]
        self._begin(206 if asked else 200, len(sent), headers)
        if self.command == "HEAD":
            return
        if self.hub.breaks.get(file):
            self.wfile.write(sent[: self.hub.breaks[file].pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        while f"content of {file}" in self.hub.stalls:
            time.sleep(0.05)
        self.wfile.write(sent)

    def _may_read(self, repository: Repository) -> bool:
        """Whether the files may be read; an answer was sent where not."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository.tokens is None or token in repository.tokens:
            return True
        self._refuse(403 if token else 401, "GatedRepo")
        return False

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._begin(status, len(content), headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": etag("", content)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": etag(name, content), "size": len(content), "pointerSize": 130}
    return entry
