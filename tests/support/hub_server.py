"""A Hugging Face Hub for tests: real HTTP on a loopback port, the part of its API that publishing and loading need.

    with HubServer() as hub:
        hub.then("/commit/", 500)               # the next request with this in its path; then all is well again
        ...                                     # with HF_ENDPOINT=hub.address and HF_TOKEN=hub.token
        assert hub.repos["ada/tides"].files["README.md"].startswith(b"---")

Files are stored by their content before a commit, commits are atomic and say which one they follow, as on the real Hub.
`python -m tests.support.hub_server --port 8001` serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import yaml
from aiohttp import web

from tests.support.server import Loopback

LICENCES = ("apache-2.0", "cc-by-4.0", "mit", "other")
ANONYMOUS = ("/validate-yaml", "/paths-info/main")
"""What may be posted without a token."""
SETTINGS = ".gitattributes"
LFS = (".parquet", ".arrow")


class Commit(NamedTuple):
    """One commit of a repository: everything that it holds from then on."""

    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """A dataset."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """What it holds now."""
        return self.head.files

    def commit(self, message: str, files: dict[str, bytes]) -> Commit:
        """Take a commit."""
        self.commits.append(Commit(secrets.token_hex(20), message, files))
        return self.head


HANG = 0
"""For a status: no answer, ever."""


class Fault(NamedTuple):
    """What one request is answered instead of what it asked for; without a status the connection is closed."""

    what: str
    status: int | None
    headers: dict[str, str]


@dataclass
class HubServer(Loopback):
    """The server; every field may be changed while it runs."""

    user: str = "ada"
    token: str = "hf_right"
    role: str = "write"
    port: int = 0

    repos: dict[str, Repo] = field(default_factory=dict, init=False)
    stored: dict[str, bytes] = field(default_factory=dict, init=False)
    """Contents of large files by their SHA-256, committed or not."""
    requests: list[str] = field(default_factory=list, init=False)
    """What was asked, such as `GET /api/whoami-v2`."""
    _faults: deque[Fault] = field(default_factory=deque, init=False)

    def then(self, what: str, status: int | None, **headers: str) -> Self:
        """The next request with this in it (`PUT /lfs/`) fails; `Retry_After="1"` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(what, status, named))
        return self

    def asked(self, what: str) -> list[str]:
        """The requests that have this in them."""
        return [request for request in self.requests if what in request]

    def created(self, name: str, *, private: bool = False, **files: str) -> Repo:
        """A dataset as the Hub makes it, with files of somebody's."""
        repo = self.repos[name] = Repo(private)
        repo.commit("initial commit", {SETTINGS: b"*.parquet filter=lfs\n"} | {k: v.encode() for k, v in files.items()})
        return repo

    # -- answering ----------------------------------------------------------------------------------------------------

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30, middlewares=[self._guard])
        name = r"{repo:[^/]+/[^/]+}"
        app.add_routes([
            web.get("/api/whoami-v2", self._whoami),
            web.post("/api/validate-yaml", self._validate),
            web.post("/api/repos/create", self._create),
            web.get(f"/api/datasets/{name}", self._info),
            web.get(f"/api/datasets/{name}/revision/{{revision}}", self._info),
            web.get(f"/api/datasets/{name}/tree/{{revision}}", self._tree),
            web.get(f"/api/datasets/{name}/tree/{{revision}}/{{path:.*}}", self._tree),
            web.post(f"/api/datasets/{name}/paths-info/{{revision}}", self._paths_info),
            web.post(f"/api/datasets/{name}/preupload/{{revision}}", self._preupload),
            web.post(f"/api/datasets/{name}/commit/{{revision}}", self._commit),
            web.post(f"/datasets/{name}.git/info/lfs/objects/batch", self._batch),
            web.put("/lfs/{oid}", self._store),
            web.post("/lfs/{oid}/verify", self._verify),
            web.get(f"/datasets/{name}/resolve/{{revision}}/{{path:.*}}", self._resolve),
        ])  # fmt: skip
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        for fault in self._faults:
            if fault.what in self.requests[-1]:
                self._faults.remove(fault)
                return await self._fail(request, fault)
        given = request.headers.get("Authorization")
        if given not in (None, f"Bearer {self.token}"):
            return _refuse(401, "Invalid credentials in Authorization header")
        if given is None and request.method == "POST" and not request.path.endswith(ANONYMOUS):
            return _refuse(401, "Invalid username or password.")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _fail(self, request: web.Request, fault: Fault) -> web.Response:
        if fault.status == HANG:
            await asyncio.sleep(3600)
        if fault.status is None and request.transport is not None:
            request.transport.close()
        return _refuse(fault.status or 500, "as the test says", **fault.headers)

    async def _whoami(self, request: web.Request) -> web.Response:
        return web.json_response({"name": self.user, "type": "user", "auth": {"accessToken": {"role": self.role}}})

    async def _validate(self, request: web.Request) -> web.Response:
        body = await request.json()
        front = yaml.safe_load(body["content"].split("---")[1])
        if front.get("license", "mit") in LICENCES:
            return web.json_response({"errors": [], "warnings": []})
        message = f'"license" must be one of [{", ".join(LICENCES)}]'
        return web.json_response({"errors": [{"message": message}], "warnings": []}, status=400)

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{body['organization']}/{body['name']}"
        if body["organization"] != self.user or self.role != "write":
            return _refuse(403, f'You don\'t have the rights to create a dataset under the namespace "{name}"')
        if name in self.repos:
            return _refuse(409, f"You already created this dataset repo: {name}")
        assert body["type"] == "dataset"
        self.created(name, private=body.get("visibility") == "private")
        return web.json_response({"url": f"{self.address}/datasets/{name}", "name": name})

    async def _info(self, request: web.Request) -> web.Response:
        repo, name = self._repo(request), request.match_info["repo"]
        siblings = [{"rfilename": path} for path in sorted(repo.files)]
        found = {"id": name, "sha": repo.head.oid, "private": repo.private, "siblings": siblings, "tags": []}
        return web.json_response(found | {"gated": False, "disabled": False, "downloads": 0, "likes": 0})

    async def _tree(self, request: web.Request) -> web.Response:
        repo, folder = self._repo(request), request.match_info.get("path", "")
        within = f"{folder}/" if folder else ""
        deep = request.query.get("recursive", "").lower() == "true"
        found: dict[str, dict[str, Any]] = {}
        for path, content in repo.files.items():
            if path.startswith(within):
                rest = path.removeprefix(within)
                top = within + rest.split("/")[0]
                if "/" in rest:
                    found[top] = {"type": "directory", "path": top, "oid": _sha1(top.encode()), "size": 0}
                if "/" not in rest or deep:
                    found[path] = _entry(path, content)
        if folder and not found:
            return _refuse(404, "not found", **{"X-Error-Code": "EntryNotFound"})
        return web.json_response(list(found.values()))

    async def _paths_info(self, request: web.Request) -> web.Response:
        repo = self._repo(request)
        form = await request.post() if "form" in request.content_type else await request.json()
        paths = form.getall("paths") if hasattr(form, "getall") else form["paths"]
        found = [_entry(path, repo.files[path]) for path in paths if path in repo.files]
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in repo.files)]
        found += [{"type": "directory", "path": path, "oid": _sha1(path.encode()), "size": 0} for path in folders]
        return web.json_response(found)

    async def _preupload(self, request: web.Request) -> web.Response:
        repo = self._repo(request, write=True)
        body = await request.json()
        files = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
             "shouldIgnore": False, "oid": _oid(file["path"], repo.files.get(file["path"]))}
            for file in body["files"]
        ]  # fmt: skip
        return web.json_response({"files": files})

    async def _commit(self, request: web.Request) -> web.Response:
        repo = self._repo(request, write=True)
        lines = [json.loads(line) for line in (await request.text()).splitlines()]
        head = lines[0]["value"]
        if head.get("parentCommit") not in (None, repo.head.oid):
            return _refuse(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.files)
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                if value["oid"] not in self.stored:
                    return _refuse(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = self.stored[value["oid"]]
            else:
                assert kind == "deletedFile"
                del files[value["path"]]
        commit = repo.commit(head["summary"], files)
        url = f"{self.address}/datasets/{request.match_info['repo']}/commit/{commit.oid}"
        return web.json_response({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    async def _batch(self, request: web.Request) -> web.Response:
        self._repo(request, write=True)
        body = await request.json()
        objects = []
        for one in body["objects"]:
            href = f"{self.address}/lfs/{one['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(one | ({} if one["oid"] in self.stored else {"actions": actions}))
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _store(self, request: web.Request) -> web.Response:
        content = await request.read()
        assert hashlib.sha256(content).hexdigest() == request.match_info["oid"]
        self.stored[request.match_info["oid"]] = content
        return web.Response()

    async def _verify(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["oid"] in self.stored else 404)

    async def _resolve(self, request: web.Request) -> web.Response:
        repo, path = self._repo(request), request.match_info["path"]
        headers = {"X-Repo-Commit": repo.head.oid, "Accept-Ranges": "bytes"}
        content = repo.files.get(path)
        if content is None:
            return _refuse(404, "Entry not found", **headers, **{"X-Error-Code": "EntryNotFound"})
        headers |= {"ETag": f'"{_oid(path, content)}"', "X-Linked-Size": str(len(content))}
        part = request.http_range
        sent = content[part]
        if part.start is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.start + len(sent) - 1}/{len(content)}"
        return web.Response(body=sent, status=200 if part.start is None else 206, headers=headers)

    def _repo(self, request: web.Request, *, write: bool = False) -> Repo:
        """The repository of a path, for who may see it, and change it.

        Raises:
            web.HTTPException: there is none for this token, or it may not be changed with it.
        """
        name = request.match_info["repo"]
        ours = "Authorization" in request.headers and name.split("/")[0] == self.user
        repo = self.repos.get(name)
        if repo is None or (repo.private and not ours):
            raise web.HTTPNotFound(text='{"error":"Repository not found"}', headers={"X-Error-Code": "RepoNotFound"})
        if write and not (ours and self.role == "write"):
            raise web.HTTPForbidden(text='{"error":"Forbidden: pass `create_pr=1` to create a Pull Request."}')
        return repo


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _git(content)}
    if path.endswith(LFS):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _oid(path: str, content: bytes | None) -> str | None:
    """The name of a content: SHA-256 of a large file, git's of another."""
    if content is None:
        return None
    return hashlib.sha256(content).hexdigest() if path.endswith(LFS) else _git(content)


def _git(content: bytes) -> str:
    return _sha1(b"blob %d\0" % len(content) + content)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _refuse(status: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"error": message}, status=status, headers={"X-Error-Message": message, **headers})


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an empty Hub until interrupted.")
    parser.add_argument("--port", type=int, default=8001)
    with HubServer(port=parser.parse_args().port) as server:
        print(f"HF_ENDPOINT={server.address} HF_TOKEN={server.token}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
