"""A hub on this machine: the part of the Hugging Face Hub's HTTP interface that downloads and small uploads take."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from base64 import b64decode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

_LARGE = (".safetensors", ".bin", ".model")


class TinyHub:
    """Serves every folder ``root/owner/name`` as the repository "owner/name", until ``stop``.

    Attributes:
        requests: (method, path, Range header) of every request.
        writers: Tokens that may write.
        revisions: Branch or tag -> folder in place of the repository's own, by repository.
        gated: Repositories that answer nobody.
        broken: End of a file's path -> bytes after which its connections break, and how many of them do.
        refused: End of a request's path -> the status that answers it.
        card_error: What is wrong with every model card, or "".
        corrupted: Ends of paths of files of which other bytes of the same number are served.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.requests, self.connections = root, [], []
        self.revisions: dict[str, dict[str, Path]] = {}
        self.gated: set[str] = set()
        self.writers: set[str] = set()
        self.broken: dict[str, tuple[int, int]] = {}
        self.refused: dict[str, int] = {}
        self.card_error = ""
        self.corrupted: set[str] = set()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Leave the network."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            for connection in self.connections:  # the kept-alive ones
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def files(self, repository: str, revision: str) -> tuple[str, Path] | None:
        """Commit and folder of a revision."""
        branches = {"main": self.root / repository, **self.revisions.get(repository, {})}
        commits = {_commit(folder): folder for folder in branches.values()}
        folder = branches.get(revision) or commits.get(revision)
        return None if folder is None else (_commit(folder), folder)

    def downloads(self, ending: str) -> list[str]:
        """Range headers ("" without one) of the downloads of files whose names end like this."""
        return [span for method, path, span in self.requests if method == "GET" and path.endswith(ending)]


def use_hub(hub: TinyHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make the hub's library take this one, with a cache of its own and no patience."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(time, "sleep", lambda _: None)


class _Handler(BaseHTTPRequestHandler):
    hub: TinyHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((self.command, path, ""))
        parts = path.strip("/").split("/")
        refused = [status for end, status in self.hub.refused.items() if path.endswith(end)]
        if refused:
            self._refuse(refused[0], "")
        elif self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.hub.writers:
            self._refuse(401, "")
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            repository = f"{wanted['organization']}/{wanted['name']}"
            (self.hub.root / repository).mkdir(parents=True, exist_ok=True)
            self._json({"url": f"{self.hub.url}/{repository}", "private": wanted.get("private")})
        elif path == "/api/validate-yaml":
            errors = [{"message": self.hub.card_error}] if self.hub.card_error else []
            self._json({"errors": errors, "warnings": []}, 400 if errors else 200)
        elif self.hub.files("/".join(parts[2:4]), parts[5]) is None:
            self._refuse(404, "RevisionNotFound")
        elif parts[4] == "preupload":
            files = json.loads(body)["files"]
            self._json({"files": [{"path": e["path"], "uploadMode": "regular", "shouldIgnore": False} for e in files]})
        else:
            folder = self.hub.root / "/".join(parts[2:4])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    (folder / entry["value"]["path"]).write_bytes(b64decode(entry["value"]["content"]))
            address = f"{self.hub.url}/{'/'.join(parts[2:4])}/commit/{_commit(folder)}"
            self._json({"success": True, "commitOid": _commit(folder), "commitUrl": address, "hookOutput": ""})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        of_api = parts[:2] == ["api", "models"]
        owner, name, kind, revision, *inner = parts[2 if of_api else 0 :] + [""] * 4
        repository = f"{owner}/{name}"
        refused = [status for end, status in self.hub.refused.items() if path.endswith(end)]
        if refused:
            self._refuse(refused[0], "")
        elif not name or not (self.hub.root / repository).is_dir():
            self._refuse(401, "RepoNotFound")
        elif repository in self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif (found := self.hub.files(repository, revision or "main")) is None:
            self._refuse(404, "RevisionNotFound")
        elif of_api and kind == "tree":
            names = sorted(each for each in found[1].rglob("*") if each.is_file())
            self._json([_entry(each, each.relative_to(found[1]).as_posix()) for each in names])
        elif of_api:
            self._json({"id": repository, "sha": found[0], "siblings": [], "tags": [], "private": False})
        elif (file := found[1] / "/".join(inner).rstrip("/")).is_file():
            self._file(file, found[0])
        else:
            self._refuse(404, "EntryNotFound")

    def _file(self, path: Path, commit: str) -> None:
        content = path.read_bytes()
        headers = {"ETag": f'"{_checksum(path)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if span := self.headers.get("Range"):
            start, status = int(span.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        place, end = path.as_posix(), len(content)
        if place.endswith(tuple(self.hub.corrupted)):
            content = content[:-4] + bytes(255 - value for value in content[-4:])
        for name, (limit, times) in self.hub.broken.items():
            if times and self.command == "GET" and place.endswith(name):
                self.hub.broken[name] = (limit, times - 1)
                end = max(start, min(end, limit))
        self._send(status, content[start:], headers, sent=end - start)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
            self.close_connection = sent is not None and sent < len(content)


def _entry(path: Path, name: str) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": path.stat().st_size, "oid": _git_hash(path)}
    if path.suffix in _LARGE:
        entry["lfs"] = {"oid": _checksum(path), "size": path.stat().st_size, "pointerSize": 134}
    return entry


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix in _LARGE else _git_hash(path)


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(folder: Path) -> str:
    entries = [f"{each.relative_to(folder)} {_git_hash(each)}" for each in sorted(folder.rglob("*")) if each.is_file()]
    return hashlib.sha1("\n".join(entries).encode()).hexdigest()
