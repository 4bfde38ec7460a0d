"""A Hugging Face Hub on this machine: the part of its protocol that fetches a model, with folders as repositories.

Weights are served like the Hub's large-file storage: with a redirect to another host, whose address needs no token, and
with the SHA-256 as ETag. All other files are small and are sent directly.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")
INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Commits by their hash, each a folder. Branches and tags name commits."""

    commits: Mapping[str, Path]
    branches: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass(frozen=True)
class Download:
    """A sent body: the file's name, the requested Range, and the number of bytes."""

    name: str
    range: str | None
    sent: int


class Hub(ThreadingHTTPServer):
    """The server. `cut_once[name] = n` resets the connection once, after n bytes of that file."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.cut_once: dict[str, int] = {}
        self.downloads: list[Download] = []
        self.stored = {
            hashlib.sha256(file.read_bytes()).hexdigest(): file
            for repository in repositories.values()
            for folder in repository.commits.values()
            for file in folder.iterdir()
            if file.name.endswith(LARGE)
        }
        self.hashes = {file: digest for digest, file in self.stored.items()}

    @property
    def endpoint(self) -> str:
        """The value of HF_ENDPOINT for this server."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage(self) -> str:
        """The same server with another host name, because the Hub's storage is another host."""
        return f"http://localhost:{self.server_port}"

    def sent(self, name: str) -> list[Download]:
        """Return the downloads of one file, in order."""
        return [download for download in self.downloads if download.name == name]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that closed the connection."""


@contextmanager
def serving(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """Run a hub during the block."""
    with Hub(repositories) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def count_unread(server_port: int, client_port: int) -> int:
    """Return the bytes from the server that its client has not read yet (Linux)."""
    waiting = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        to_send, to_read = (int(queue, 16) for queue in queues.split(":"))
        ports = tuple(int(address.partition(":")[2], 16) for address in (local, remote))
        waiting += {(server_port, client_port): to_send, (client_port, server_port): to_read}.get(ports, 0)
    return waiting


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := INFO.fullmatch(path):
            self._info(match[1], match[2] or "main")
        elif match := FILE.fullmatch(path):
            self._file(match[1], match[2], match[3])
        elif path.startswith("/storage/"):
            self._body(self.server.stored[path.removeprefix("/storage/")], {})
        else:
            self._answer(404)

    def _info(self, repo: str, revision: str) -> None:
        if commit := self._commit(repo, revision):
            repository = self.server.repositories[repo]
            names = sorted(file.name for file in repository.commits[commit].iterdir())
            self._answer(
                200,
                {"Content-Type": "application/json"},
                {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in names]},
            )

    def _file(self, repo: str, revision: str, name: str) -> None:
        commit = self._commit(repo, revision)
        if commit is None:
            return
        repository = self.server.repositories[repo]
        if repository.gated:
            self._refuse(403, "GatedRepo", f"Access to model {repo} is restricted.")
            return
        file = repository.commits[commit] / name
        if not file.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif digest := self.server.hashes.get(file):
            self._answer(
                302,
                {
                    "Location": f"{self.server.storage}/storage/{digest}",
                    "X-Repo-Commit": commit,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(file.stat().st_size),
                },
            )
        else:
            etag = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
            self._body(file, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _commit(self, repo: str, revision: str) -> str | None:
        repository = self.server.repositories.get(repo)
        if repository is None:
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, status: int, headers: Mapping[str, str] | None = None, content: object = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _body(self, file: Path, headers: Mapping[str, str]) -> None:
        requested = self.headers.get("Range")
        size = file.stat().st_size
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
        self.send_response(206 if requested else 200)
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for name, value in {**headers, "Content-Length": str(size - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut_once.pop(file.name, None)
        body = file.read_bytes()[start:cut]
        self.server.downloads.append(Download(file.name, requested, len(body)))
        self.wfile.write(body)
        if cut is not None:
            self._reset()

    def _reset(self) -> None:
        """Reset the connection, as a failing network does.

        A reset discards data that the client has not read, so that the client must first have read everything.
        """
        while count_unread(self.server.server_port, self.client_address[1]):
            os.sched_yield()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
