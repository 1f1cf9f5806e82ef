"""A model server for tests that has batches too: `/v1/files` and `/v1/batches`, as strict as the real ones.

    with BatchServer(answer=…) as server:
        server.fates.append(Fate("expired", answered=3))        # what becomes of the next batch; then all is well
        server.meet("POST /v1/batches", Lost())                 # the next submission arrives, its answer does not
        ...
        assert server.answered[custom_id] == 1

Time passes with each look at a batch: it goes one step further along `statuses`, so nothing waits.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from tests.support.server import Body, ModelServer, Reply, _as_answer, _hang_up, _send, error

ENDPOINTS = ("/v1/chat/completions", "/v1/completions")


@dataclass(frozen=True)
class Fate:
    """What becomes of a batch."""

    status: str = "completed"
    """`completed`, `expired`, `cancelled`, or `failed`."""
    answered: int | None = None
    """Lines that are answered, of an `expired` or `cancelled` one; None: all."""
    code: str = ""
    """Of a `failed` one's error."""
    message: str = ""
    silent: bool = False
    """Whether lines that are not answered are left out of the error file too."""
    garbage: tuple[bytes, ...] = ()
    """Lines put among those that are answered."""
    twice: bool = False
    """Whether every line is in the output twice."""


class Lost(NamedTuple):
    """The request is dealt with, but its answer never arrives."""


class Late(NamedTuple):
    """The request is dealt with `seconds` after its connection was closed."""

    seconds: float


@dataclass
class File:
    """A file of the server's."""

    id: str
    name: str
    purpose: str
    content: bytes

    def shown(self) -> dict[str, Any]:
        shown = {"id": self.id, "object": "file", "filename": self.name, "purpose": self.purpose}
        return shown | {"bytes": len(self.content), "created_at": 1, "status": "processed"}


@dataclass
class Job:
    """A batch of the server's."""

    id: str
    input: str
    endpoint: str
    fate: Fate
    metadata: dict[str, Any]
    steps: deque[str]
    status: str = "validating"
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file: str | None = None
    error_file: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"total": 0, "completed": 0, "failed": 0})

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "input_file_id": self.input,
            "completion_window": "24h",
            "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "request_counts": self.counts,
            "metadata": self.metadata,
            "created_at": 1,
        }


@dataclass
class BatchServer(ModelServer):
    """The server; every field may be changed while it runs."""

    most_lines: int = 50_000
    most_bytes: int = 200_000_000
    room: int | None = None
    """Lines of all batches that are not over; a batch above it fails."""
    statuses: tuple[str, ...] = ("validating", "in_progress", "finalizing")
    """What each batch goes through, a look at a time, before it is over."""
    page: int = 3
    """Entries to a page of a list, at most."""
    shuffled: int | None = None
    """Seed of the order of an output file; None keeps that of the input."""

    fates: deque[Fate] = field(default_factory=deque, init=False)
    files: dict[str, File] = field(default_factory=dict, init=False)
    batches: dict[str, Job] = field(default_factory=dict, init=False)
    answered: Counter[str] = field(default_factory=Counter, init=False)
    """How often each line was answered, or refused, by its id: what was paid for."""
    calls: Counter[str] = field(default_factory=Counter, init=False)
    """Requests by method and route: `POST /v1/batches`."""
    _faults: defaultdict[str, deque[Any]] = field(default_factory=lambda: defaultdict(deque), init=False)
    _ids: Any = field(default_factory=itertools.count, init=False)

    def meet(self, call: str, *faults: Reply | Lost | Late | None) -> None:
        """The next requests of this kind, such as `GET /v1/batches/{id}`, meet these; None is none."""
        self._faults[call].extend(faults)

    def submitted(self) -> Counter[str]:
        """How often each file was submitted, batches that were turned away left out."""
        return Counter(job.input for job in self.batches.values() if job.status != "failed")

    def lines(self) -> list[list[Body]]:
        """The lines of each file that was submitted and not turned away, in the order of submission."""
        jobs = [job for job in self.batches.values() if job.status != "failed"]
        return [[json.loads(line) for line in self.files[job.input].content.splitlines()] for job in jobs]

    def application(self) -> web.Application:
        app = super().application()
        app.middlewares.append(self._strictly)
        return app

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        super()._add_routes(router)
        router.add_post("/v1/files", self._upload)
        router.add_get("/v1/files", self._list_files)
        router.add_get("/v1/files/{id}", self._show_file)
        router.add_get("/v1/files/{id}/content", self._content)
        router.add_post("/v1/batches", self._submit)
        router.add_get("/v1/batches", self._list_batches)
        router.add_get("/v1/batches/{id}", self._look)
        router.add_post("/v1/batches/{id}/cancel", self._cancel)

    @web.middleware
    async def _strictly(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Keys, paths that are missing, and the faults that a test asked for."""
        resource = request.match_info.route.resource
        call = f"{request.method} {resource.canonical if resource else request.path}"
        self.calls[call] += 1
        if problem := self._problem(request):
            return await _send(request, problem)
        fault = self._faults[call].popleft() if self._faults[call] else None
        if isinstance(fault, Reply):
            return await _send(request, fault)
        if isinstance(fault, Late):
            await request.read()
            _hang_up(request)
            # In a task of its own, since this one is cancelled with its connection.
            self._late = asyncio.create_task(_later(handler(request), fault.seconds))
            return web.Response()
        answer: web.StreamResponse = await handler(request)
        if isinstance(fault, Lost):
            _hang_up(request)
        return answer

    # -- files --------------------------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form.get("file")
        if form.get("purpose") != "batch" or not isinstance(file, web.FileField):
            return await _send(request, error(400, "'purpose' must be batch, with a file", param="purpose"))
        content = file.file.read()
        if not file.filename.endswith(".jsonl"):
            return await _send(request, error(400, "Invalid extension: only .jsonl is supported for batch"))
        if len(content) > self.most_bytes:
            return await _send(request, error(413, "File is too large"))
        return web.json_response(self._stored(file.filename, "batch", content).shown())

    def _stored(self, name: str, purpose: str, content: bytes) -> File:
        file = File(f"file-{next(self._ids)}", name, purpose, content)
        self.files[file.id] = file
        return file

    async def _list_files(self, request: web.Request) -> web.StreamResponse:
        purpose = request.query.get("purpose")
        return self._listed(request, [file for file in self.files.values() if purpose in (None, file.purpose)])

    async def _show_file(self, request: web.Request) -> web.StreamResponse:
        if (file := self.files.get(request.match_info["id"])) is None:
            return await _send(request, error(404, "No such File object", param="id"))
        return web.json_response(file.shown())

    async def _content(self, request: web.Request) -> web.StreamResponse:
        if (file := self.files.get(request.match_info["id"])) is None:
            return await _send(request, error(404, "No such File object", param="id"))
        return web.Response(body=file.content, content_type="application/octet-stream")

    # -- batches ------------------------------------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("input_file_id") not in self.files:
            return await _send(request, error(400, "Invalid file id", param="input_file_id"))
        if body.get("endpoint") not in ENDPOINTS:
            return await _send(request, error(400, "Invalid endpoint", param="endpoint"))
        if body.get("completion_window") != "24h":
            return await _send(request, error(400, "Invalid completion_window", param="completion_window"))
        fate = self.fates.popleft() if self.fates else Fate()
        job = Job(f"batch_{next(self._ids)}", body["input_file_id"], body["endpoint"], fate,
                  body.get("metadata") or {}, deque(self.statuses))  # fmt: skip
        job.counts["total"] = self.files[job.input].content.count(b"\n")
        self.batches[job.id] = job
        return web.json_response(job.shown())

    async def _list_batches(self, request: web.Request) -> web.StreamResponse:
        return self._listed(request, list(self.batches.values()))

    async def _look(self, request: web.Request) -> web.StreamResponse:
        if (job := self.batches.get(request.match_info["id"])) is None:
            return await _send(request, error(404, "No batch found with that id"))
        self._step(job)
        return web.json_response(job.shown())

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        if (job := self.batches.get(request.match_info["id"])) is None:
            return await _send(request, error(404, "No batch found with that id"))
        job.status, job.steps, job.fate = "cancelling", deque(["cancelling"]), Fate("cancelled", answered=0)
        return web.json_response(job.shown())

    def _listed(self, request: web.Request, entries: list[Any]) -> web.StreamResponse:
        """A page, the newest first."""
        newest = list(reversed(entries))
        if after := request.query.get("after"):
            newest = newest[[entry.id for entry in newest].index(after) + 1 :]
        most = min(int(request.query.get("limit", 20)), self.page)
        shown = [entry.shown() for entry in newest[:most]]
        return web.json_response({"object": "list", "data": shown, "has_more": len(newest) > most})

    def _step(self, job: Job) -> None:
        """Time passes."""
        if job.steps:
            job.status = job.steps.popleft()
            if job.status == "in_progress" and (problem := self._problem_of(job)):
                job.status, job.errors = "failed", [problem]
                job.steps.clear()
        elif job.status not in ("completed", "expired", "cancelled", "failed"):
            self._end(job)

    def _problem_of(self, job: Job) -> dict[str, Any] | None:
        """What validation finds."""
        if job.fate.status == "failed":
            return {"code": job.fate.code, "message": job.fate.message, "line": None, "param": None}
        if self.room is not None and self._lines_at_work() > self.room:
            message = f"Enqueued token limit reached for test-model in organization org-1. Limit: {self.room}"
            return {"code": "token_limit_exceeded", "message": message, "line": None, "param": None}
        found = self._bad_line(job, self.files[job.input].content)
        return found and {"code": found[1], "message": found[2], "line": found[0], "param": None}

    def _lines_at_work(self) -> int:
        over = ("completed", "expired", "cancelled", "failed", "validating")
        return sum(job.counts["total"] for job in self.batches.values() if job.status not in over)

    def _bad_line(self, job: Job, content: bytes) -> tuple[int, str, str] | None:
        seen: set[str] = set()
        models: set[str] = set()
        lines = content.decode().splitlines()
        if len(lines) > self.most_lines:
            return len(lines), "too_many_tasks", "The batch has too many lines"
        for number, text in enumerate(lines, start=1):
            try:
                line = json.loads(text)
            except ValueError:
                return number, "invalid_json_line", "This line is not parseable as valid JSON."
            if sorted(line) != ["body", "custom_id", "method", "url"]:
                return number, "invalid_request", "Missing or unknown field"
            if not isinstance(line["custom_id"], str) or not 0 < len(line["custom_id"]) <= 64:
                return number, "invalid_custom_id", "custom_id must be a string of at most 64 characters"
            if line["custom_id"] in seen:
                return number, "duplicate_custom_id", "The custom_id is not unique"
            if line["method"] != "POST" or line["url"] != job.endpoint:
                return number, "mismatched_url", "The url does not match the batch's endpoint"
            seen.add(line["custom_id"])
            models.add(line["body"].get("model"))
        if len(models) != 1 or not models <= set(self.models):
            return 1, "model_not_found", f"The models {sorted(models)} are not one that there is"
        return None

    def _end(self, job: Job) -> None:
        lines = [json.loads(text) for text in self.files[job.input].content.splitlines()]
        done = len(lines) if job.fate.answered is None else job.fate.answered
        results = [self._result(line) for line in lines[:done]]
        output = [line for line in results if line["response"]["status_code"] == 200]
        errors = [line for line in results if line["response"]["status_code"] != 200]
        job.counts |= {"completed": len(output), "failed": len(lines) - len(output)}
        output *= 2 if job.fate.twice else 1
        if not job.fate.silent:
            errors += [_undone(line, job.fate.status) for line in lines[done:]]
        if self.shuffled is not None:
            random.Random(self.shuffled).shuffle(output)
        written = [*(json.dumps(line).encode() for line in output), *job.fate.garbage]
        job.output_file = self._result_file(job, "output", written)
        job.error_file = self._result_file(job, "error", [json.dumps(line).encode() for line in errors])
        job.status = job.fate.status

    def _result_file(self, job: Job, kind: str, lines: list[bytes]) -> str | None:
        if not lines:
            return None
        return self._stored(f"{job.id}_{kind}.jsonl", "batch_output", b"".join(line + b"\n" for line in lines)).id

    def _result(self, line: Body) -> dict[str, Any]:
        self.answered[line["custom_id"]] += 1
        reply = _as_answer(self._reply(line["body"]), line["url"], line["body"])
        response = {"status_code": reply.status, "request_id": f"req_{next(self._ids)}", "body": reply.payload}
        return {
            "id": f"batch_req_{next(self._ids)}",
            "custom_id": line["custom_id"],
            "response": response,
            "error": None,
        }


def _undone(line: Body, status: str) -> dict[str, Any]:
    said = {"code": f"batch_{status}", "message": "This request could not be executed before the completion window."}
    return {"id": "batch_req_0", "custom_id": line["custom_id"], "response": None, "error": said}


async def _later(work: Any, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await work
