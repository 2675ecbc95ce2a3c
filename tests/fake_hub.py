"""A model hub of a few endpoints on 127.0.0.1, so that the real client library runs without a network."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


@dataclass
class Hub:
    """What the server holds and heard.

    Attributes:
        address: For `endpoint=` or `HF_ENDPOINT`.
        repositories: Files by repository and branch.
        private: Repositories that were made private.
        commits: Repository, branch, summary and paths of every commit.
        downloads: Paths of files whose content was asked for.
        deny: Status that every request is refused with; 0 for none.
    """

    address: str = ""
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: list[str] = field(default_factory=list)
    commits: list[tuple[str, str, str, list[str]]] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    deny: int = 0


def sha_of(branch: dict[str, bytes]) -> str:
    state = hashlib.sha1()
    for name, content in sorted(branch.items()):
        state.update(f"{name} {len(content)} ".encode() + content)
    return state.hexdigest()


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, status: int, body: Any = b"", **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def handle_all(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            path = unquote(urlsplit(self.path).path)
            if hub.deny:
                self.answer(hub.deny, {"error": "no"})
            elif self.command == "POST":
                self.post(path, body)
            else:
                self.get(path)

        do_GET = do_POST = do_HEAD = handle_all

        def post(self, path: str, body: bytes) -> None:
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"error": "Invalid username or password."})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                if name in hub.repositories:
                    return self.answer(409, {"error": "You already created it", "url": f"{hub.address}/{name}"})
                hub.repositories[name] = {"main": {".gitattributes": b"*.safetensors filter=lfs\n"}}
                if asked.get("visibility") == "private" or asked.get("private"):
                    hub.private.append(name)
                return self.answer(200, {"url": f"{hub.address}/{name}"})
            _, _, _, owner, name, action, *rest = path.split("/")
            repository, branch = f"{owner}/{name}", "/".join(rest)
            branches = hub.repositories[repository]
            if action == "branch":
                branches[branch] = dict(branches["main"])
                return self.answer(200, {})
            if action == "preupload":
                found = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                return self.answer(200, {"files": found})
            assert action == "commit"
            lines = [json.loads(line) for line in body.splitlines() if line]
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            branches[branch].update(added)
            hub.commits.append((repository, branch, lines[0]["value"]["summary"], sorted(added)))
            oid = sha_of(branches[branch])
            return self.answer(200, {"commitUrl": f"{hub.address}/{repository}/commit/{oid}", "commitOid": oid})

        def get(self, path: str) -> None:
            parts = path.strip("/").split("/")
            is_api = parts[:2] == ["api", "models"]
            owner, name, *rest = parts[2:] if is_api else parts
            branches = hub.repositories.get(f"{owner}/{name}")
            if branches is None:
                return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            wanted = rest[1] if len(rest) > 1 else "main"
            by_name = {**{sha_of(one): one for one in branches.values()}, **branches}
            if wanted not in by_name:
                return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            found = by_name[wanted]
            if not rest or rest[0] == "revision":
                listed = [{"rfilename": file, "size": len(content)} for file, content in found.items()]
                return self.answer(200, {"id": f"{owner}/{name}", "sha": sha_of(found), "siblings": listed})
            if rest[0] == "tree":
                listed = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in found.items()
                ]
                return self.answer(200, listed)
            assert rest[0] == "resolve"
            file = "/".join(rest[2:])
            if self.command == "GET":
                hub.downloads.append(file)
            content = found[file]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=tag, X_Repo_Commit=sha_of(found))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
