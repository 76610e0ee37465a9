"""A server that speaks the routes of the Hugging Face Hub which bundles need, on this machine.

Repositories are commits: hash -> {file name: content}. Every request is written down.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator


class Hub:
    """What the server holds and what it was asked.

    Attributes:
        commits: "org/name" -> full hash -> file name -> content.
        branches: "org/name" -> branch or tag -> full hash.
        sizes: file name -> the size that listings claim in place of the true one.
        hash: where not empty, the commit that the Hub names whatever was asked for.
        gated: "org/name" of repositories that nobody may read.
        requests: (method, path) in order.
        uploads: sha256 -> content, by the route for large files.
        endpoint: the server's address.
    """

    def __init__(self):
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.sizes: dict[str, int] = {}
        self.hash = ""
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.uploads: dict[str, bytes] = {}
        self.endpoint = ""

    def add(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Makes a commit the head of a branch and returns its hash."""
        known = self.commits.setdefault(name, {})
        commit = hashlib.sha1(f"{name} {branch} {len(known)}".encode()).hexdigest()
        known[commit] = dict(files)
        self.branches.setdefault(name, {})[branch] = commit
        return commit

    def asked(self, method: str = "GET") -> set[str]:
        """Returns the names of the files whose content or head was asked for."""
        found = (
            re.search(r"/resolve/[^/]+/(.*)", path) for m, path in self.requests if m == method
        )
        return {match[1] for match in found if match}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from `Hub`; in HTTP/1.0, so that no connection outlives the server."""

    hub: Hub

    def log_message(self, format, *args):
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content, status: int = 200) -> None:
        self.answer(status, json.dumps(content).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, X_Error_Code=code, X_Error_Message=code)

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Returns a commit's hash and files, or answers with what is wrong."""
        if name in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        if name not in self.hub.commits:
            return self.refuse(404, "RepoNotFound")
        revision = urllib.parse.unquote(revision)
        commit = self.hub.branches[name].get(revision, revision)
        if commit not in self.hub.commits[name]:
            return self.refuse(404, "RevisionNotFound")
        return commit, self.hub.commits[name][commit]

    def do_GET(self):
        self.hub.requests.append((self.command, self.path))
        path = urllib.parse.urlparse(self.path).path
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if found := self.find(match[1], match[2] or "main"):
                commit = self.hub.hash or found[0]
                self.json({"_id": "0", "id": match[1], "sha": commit, "siblings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if found := self.find(match[1], match[2]):
                self.json([self.entry(file, text) for file, text in found[1].items()])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if found := self.find(match[1], match[2]):
                self.file(found[0], found[1].get(urllib.parse.unquote(match[3])))
        else:
            self.refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def entry(self, file: str, text: bytes) -> dict:
        size = self.hub.sizes.get(file, len(text))
        oid = hashlib.sha1(text).hexdigest()
        return {"type": "file", "path": file, "size": size, "oid": oid}

    def file(self, commit: str, text: bytes | None) -> None:
        if text is None:
            return self.refuse(404, "EntryNotFound")
        tag = hashlib.sha1(text).hexdigest()
        self.answer(200, text, ETag=f'"{tag}"', X_Repo_Commit=commit, Accept_Ranges="bytes")

    def do_PUT(self):
        self.hub.requests.append((self.command, self.path))
        body = self.read()
        self.hub.uploads[hashlib.sha256(body).hexdigest()] = body
        self.answer(200)

    def do_POST(self):
        self.hub.requests.append((self.command, self.path))
        body, path = self.read(), urllib.parse.urlparse(self.path).path
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            kinds = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.json({"files": kinds})
        elif path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            place = f"{self.hub.endpoint}/store/"
            self.json(
                {
                    "transfer": "basic",
                    "objects": [
                        {**o, "actions": {"upload": {"href": place + o["oid"]}}} for o in wanted
                    ],
                }
            )
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.refuse(404, "EntryNotFound")

    def create(self, wanted: dict) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.commits:
            return self.json({"url": f"{self.hub.endpoint}/{name}"}, 409)
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def commit(self, name: str, lines: list[dict]) -> None:
        files = dict(self.hub.commits[name][self.hub.branches[name]["main"]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        made = self.hub.add(name, files)
        url = f"{self.hub.endpoint}/{name}/commit/{made}"
        self.json({"success": True, "commitOid": made, "commitUrl": url})


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Runs a server on a free port of this machine for the length of the block."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
