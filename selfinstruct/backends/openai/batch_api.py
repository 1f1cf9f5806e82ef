"""Batches of a server that has `/files` and `/batches`, as OpenAI has them: half the price, done within a day.

Each batch goes through upload, submission, waiting and download, and each step is recorded when it is done. What may
have been done without a record, because we were killed or the answer was lost on its way, is looked for first: a file
by its name, a batch by its file. So no file is ever submitted twice.

A server that is away is waited for, as long as a batch may take: nothing is lost by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from selfinstruct.backends.base import Backend
from selfinstruct.backends.openai.batch_files import FOLDER, Batch, Journal, writable
from selfinstruct.backends.openai.boundary import NotFound, boundary, object_of, payload_of
from selfinstruct.backends.openai.gathered import BatchBackend, TooLarge
from selfinstruct.backends.openai.live import open_openai
from selfinstruct.backends.openai.server import Server, client_of, servers_of
from selfinstruct.errors import EndpointError, RateLimited, Refused, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice
from selfinstruct.text.files import Part

FIRST_PAUSE = 5.0
"""Seconds before a batch is looked at again; grows by half each time."""
LONGEST_PAUSE = 60.0
"""Seconds at which it stops growing."""
LOOKS = 3
"""Times that a batch whose submission was not answered is looked for before it is submitted again: a server may take
its time to list it."""
NO_ROOM_PAUSE = 600.0
"""Seconds before a single request is tried again that the server had no room for."""
PATIENCE = 24 * 3600.0
"""Seconds that a server may be away."""
TOLD_AGAIN = 60.0
"""Seconds before the same is said again."""
CALL_TIMEOUT = 60.0
"""Seconds for an answer to a short question, and between two pieces of a download."""
UPLOAD_TIMEOUT = 3600.0
"""Seconds for a whole upload."""

_ENDED = ("completed", "expired", "cancelled")
"""The server's words for a batch from which nothing more will come."""
_NO_ROOM = ("token_limit_exceeded", "enqueued token limit")
"""What it says when the queue of an account is full: nothing of the batch was asked."""

_PAGE = 100
T = TypeVar("T")


@asynccontextmanager
async def open_batches(config: BackendConfig, *, folder: Path | None = None, notice: Notice) -> AsyncIterator[Backend]:
    """A backend that asks a server in batches, whose files are in `folder`; None uses a temporary one. That the server
    has none turns out with the first file, which costs nothing.

    Raises:
        EndpointError: no key, nothing there, or not the model.
        RunError: the files cannot be read or written.
    """
    async with open_openai(config, notice=notice) as live:
        model = live.model
    [server] = servers_of(config)
    api = BatchApi(server, notice=notice)
    journal = Journal((folder or Path(tempfile.mkdtemp(prefix="selfinstruct-"))) / FOLDER)
    backend = BatchBackend(api, journal, server, model=model, notice=notice)
    try:
        backend.load()
        yield backend
        backend.retire()
    finally:
        await backend.aclose()


class BatchApi:
    """Carries batches to a server and back.

    Args:
        server: where, and with which key.
        notice: is told how far a batch is, and that a server is away.
    """

    def __init__(self, server: Server, *, notice: Notice) -> None:
        self._server = server
        self._notice = notice
        self._client = client_of(server)
        self._gate = asyncio.Lock()
        """One batch at a time is submitted and looked over by the server: whether there is room depends on the rest."""
        self._there: dict[int, Batch] = {}
        """Batches that the server is at work on."""
        self._ended = asyncio.Event()
        """Set when one of them has ended."""
        self._told: dict[str, tuple[str, float]] = {}
        """What was said last of each subject, and when."""

    async def carry(self, batch: Batch) -> None:
        """See `Runner.carry`."""
        if batch.state.stage == "submitted":
            self._there[batch.state.number] = batch
        if batch.state.stage == "written":
            await self._upload(batch)
        if batch.state.stage in ("uploaded", "submitted"):
            await self._accepted(batch)
            await self._over(batch)
        if batch.state.stage == "ended":
            await self._fetch(batch)

    async def aclose(self) -> None:
        """See `Runner.aclose`."""
        for batch in self._there.values():
            self._notice(f"{batch.title}: {batch.state.batch} stays with the server; the same command waits for it")
        await self._client.close()

    # -- the steps ----------------------------------------------------------------------------------------------------

    async def _upload(self, batch: Batch) -> None:
        file = await self._surely(batch, lambda: self._sent_file(batch), lambda: self._found_file(batch), "/files")
        batch.save(stage="uploaded", file=file, server=self._server.url)

    async def _accepted(self, batch: Batch) -> None:
        """Submit a batch, and wait until the server has looked it over and begun."""
        async with self._gate:
            while True:
                if batch.state.stage == "uploaded":
                    await self._submit(batch)
                self._ended.clear()
                seen = await self._until(batch, lambda status: status != "validating")
                if seen["status"] != "failed":
                    return
                await self._make_room(batch, seen)

    async def _submit(self, batch: Batch) -> None:
        id = await self._surely(batch, lambda: self._sent_batch(batch), lambda: self._found_batch(batch), "/batches")
        batch.save(stage="submitted", batch=id)
        self._there[batch.state.number] = batch

    async def _make_room(self, batch: Batch, seen: Mapping[str, Any]) -> None:
        """Wait until a batch that the server had no room for may be submitted again.

        Raises:
            TooLarge: it would do with fewer lines.
            EndpointError: room is not what it lacked.
        """
        words = _words_of(seen)
        if not any(word in words.lower() for word in _NO_ROOM):
            raise self._failed(batch, seen)
        del self._there[batch.state.number]
        if not self._there and batch.state.lines > 1:
            raise TooLarge(words)
        self._tell(batch.title, "no room", f"waiting for room: {words}")
        # The server has turned the whole file away: another batch for it asks nothing twice.
        batch.save(stage="uploaded", batch="")
        if self._there:
            await self._ended.wait()
        else:
            await asyncio.sleep(NO_ROOM_PAUSE)

    async def _over(self, batch: Batch) -> None:
        """Wait until a batch is over."""
        seen = await self._until(batch, lambda status: status in (*_ENDED, "failed"))
        for _ in range(LOOKS):
            if not _lacks_its_output(seen):
                break
            await asyncio.sleep(FIRST_PAUSE)
            seen = await self._steadily(lambda: self._seen(batch), "/batches")
        self._ended.set()
        if seen["status"] == "failed":
            raise self._failed(batch, seen)
        del self._there[batch.state.number]
        files = {"output": _file_in(seen, "output_file_id"), "errors": _file_in(seen, "error_file_id")}
        batch.save(stage="ended", status=seen["status"], **files)

    def _failed(self, batch: Batch, seen: Mapping[str, Any]) -> EndpointError:
        """The error for a batch of which nothing was asked, and never will be."""
        del self._there[batch.state.number]
        batch.save(stage="retired", status="failed")
        return EndpointError(f"{self._server.url}: {batch.state.batch} failed: {_words_of(seen)}")

    async def _fetch(self, batch: Batch) -> None:
        await self._fetch_one(batch.state.output, batch.result("output"))
        await self._fetch_one(batch.state.errors, batch.result("errors"))
        batch.save(stage="fetched")

    async def _fetch_one(self, id: str, path: Path) -> None:
        if id:
            await self._steadily(lambda: self._download(id, path), "/files")

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _sent_file(self, batch: Batch) -> str:
        with batch.input.open("rb") as file, boundary(self._server):
            async with asyncio.timeout(UPLOAD_TIMEOUT):
                sent = (batch.state.name, file, "application/jsonl")
                answer = await self._client.files.with_raw_response.create(file=sent, purpose="batch")
        return self._id_in(self._payload(answer.http_response))

    async def _sent_batch(self, batch: Batch) -> str:
        body = {
            "input_file_id": batch.state.file,
            "endpoint": batch.state.url,
            "completion_window": "24h",
            "metadata": {"selfinstruct": batch.state.name},
        }
        with boundary(self._server):
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._client.post("/batches", body=body, cast_to=httpx2.Response)
        return self._id_in(self._payload(answer))

    async def _found_file(self, batch: Batch) -> str | None:
        size = batch.input.stat().st_size
        # A server may have no such list; a file that is there twice costs nothing.
        with contextlib.suppress(NotFound):
            async for file in self._listed("/files", purpose="batch"):
                if file.get("filename") == batch.state.name and file.get("bytes") in (size, None):
                    return self._id_in(file)
        return None

    async def _found_batch(self, batch: Batch) -> str | None:
        try:
            async for other in self._listed("/batches"):
                if other.get("input_file_id") == batch.state.file and other.get("status") != "failed":
                    return self._id_in(other)
        except NotFound as missing:
            unknown = f"lists no batches ({missing}), so whether {batch.title} was submitted is not known"
            raise EndpointError(
                f"{self._server.url}: {unknown}: look there for one of {batch.state.file}; delete {batch.record} to "
                "ask its requests anew"
            ) from missing
        return None

    async def _seen(self, batch: Batch) -> dict[str, Any]:
        """A batch as the server has it now."""
        try:
            seen = await self._get(f"/batches/{batch.state.batch}")
        except NotFound as missing:
            known = f"{batch.record} says that {batch.state.server} has it"
            raise EndpointError(
                f"{self._server.url}: has no {batch.state.batch} ({missing}), but {known}: ask there, or delete that "
                "file to ask its requests anew"
            ) from missing
        if not isinstance(seen.get("status"), str):
            raise Transient("not_json", f"{self._server.url}: answered with a batch that has no status")
        return seen

    async def _download(self, id: str, path: Path) -> None:
        """A file of the server's; one that it has no longer is left out, and its lines are asked again."""
        try:
            with writable(path), Part(path) as file:
                async with aclosing(self._pieces(id)) as pieces:
                    async for line in _lines(pieces):
                        file.write(self._cleaned(line))
        except NotFound as missing:
            self._notice(f"{path.name}: the server has it no longer ({missing}); what was in it is asked again")

    def _cleaned(self, lines: bytes) -> bytes:
        return self._server.clean(lines.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    async def _pieces(self, id: str) -> AsyncGenerator[bytes]:
        with boundary(self._server):
            async with self._client.files.with_streaming_response.content(id) as answer:
                pieces = answer.iter_bytes()
                while True:
                    async with asyncio.timeout(CALL_TIMEOUT):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece

    async def _listed(self, path: str, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """Everything in a list of the server's, the newest first."""
        after: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = await self._get(path, limit=_PAGE, **query, **after)
            data = page.get("data")
            entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
            for entry in entries:
                yield entry
            if not (page.get("has_more") and entries):
                return
            last = self._id_in(entries[-1])
            if last in seen:
                # It tells the same page again and again.
                return
            seen.add(last)
            after = {"after": last}

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        with boundary(self._server):
            async with asyncio.timeout(CALL_TIMEOUT):
                answer = await self._client.get(path, cast_to=httpx2.Response, options={"params": query})
        return self._payload(answer)

    def _payload(self, answer: httpx2.Response) -> dict[str, Any]:
        return payload_of(answer.status_code, answer.headers, answer.content, self._server)

    def _id_in(self, payload: Mapping[str, Any]) -> str:
        if not isinstance(id := payload.get("id"), str):
            raise Transient("not_json", f"{self._server.url}: answered with something that has no id")
        return id

    # -- asking until there is an answer ------------------------------------------------------------------------------

    async def _surely(
        self,
        batch: Batch,
        send: Callable[[], Awaitable[str]],
        find: Callable[[], Awaitable[str | None]],
        path: str,
    ) -> str:
        """The id of what is sent once, and looked for before, where it may have been sent already."""
        doubtful, batch.fresh = not batch.fresh, True
        while True:
            for look in range(LOOKS if doubtful else 0):
                if look:
                    await asyncio.sleep(FIRST_PAUSE)
                if (found := await self._steadily(find, path)) is not None:
                    return found
            try:
                return await self._once(send, path)
            except Transient as fault:
                self._tell(path, "away", f"{fault}; looking whether it came through")
                await asyncio.sleep(max(fault.retry_after or 0.0, FIRST_PAUSE))
                doubtful = not isinstance(fault, RateLimited)

    async def _until(self, batch: Batch, done: Callable[[str], bool]) -> dict[str, Any]:
        """A batch as the server has it, once its status is such."""
        pause = FIRST_PAUSE
        while True:
            seen = await self._steadily(lambda: self._seen(batch), "/batches")
            self._tell(batch.title, seen["status"], _progress(seen))
            if done(seen["status"]):
                return seen
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)

    async def _steadily(self, call: Callable[[], Awaitable[T]], path: str) -> T:
        """What a question is answered, however long the server is away.

        Raises:
            EndpointError: for longer than `PATIENCE`; or what `_once` raises.
        """
        began, pause = time.monotonic(), FIRST_PAUSE / 5
        while True:
            try:
                return await self._once(call, path)
            except Transient as fault:
                if time.monotonic() - began > PATIENCE:
                    raise EndpointError(f"{fault}: for {PATIENCE / 3600:.0f} hours now: run again later") from fault
                self._tell(path, "away", f"{fault}; asking again")
                await asyncio.sleep(max(fault.retry_after or 0.0, random.uniform(pause / 2, pause)))
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, call: Callable[[], Awaitable[T]], path: str) -> T:
        """What a question is answered.

        Raises:
            Transient: the server is away.
            EndpointError: it refuses, or has no such thing.
        """
        try:
            return await call()
        except NotFound as missing:
            raise EndpointError(f"{self._server.url}: has no {path} ({missing}): leave --batch out") from missing
        except Refused as refusal:
            raise EndpointError(f"{self._server.url}{path}: {refusal}") from refusal

    def _tell(self, subject: str, state: str, line: str) -> None:
        """Say how something is: when it has changed, and now and then."""
        last, at = self._told.get(subject, ("", 0.0))
        if state != last or time.monotonic() - at >= TOLD_AGAIN:
            self._told[subject] = (state, time.monotonic())
            self._notice(f"{subject}: {line}")


def _progress(seen: Mapping[str, Any]) -> str:
    counts = object_of(seen.get("request_counts"))
    done, total = _count(counts, "completed") + _count(counts, "failed"), _count(counts, "total")
    progress = f", {done} of {total} requests done" if total else ""
    return f"{seen.get('id')} is {seen['status']}{progress}"


def _words_of(seen: Mapping[str, Any]) -> str:
    """Why a batch failed, in the server's words."""
    errors = object_of(seen.get("errors")).get("data")
    said = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    words = [" ".join(str(error[name]) for name in ("code", "message") if error.get(name)) for error in said]
    lines = [f" (line {error['line']})" if error.get("line") else "" for error in said]
    shown = "; ".join(word + line for word, line in zip(words[:3], lines, strict=False))
    return " ".join(shown.split())[:600] or "it does not say why"


def _lacks_its_output(seen: Mapping[str, Any]) -> bool:
    """Whether answers are counted whose file is not named yet."""
    return bool(_count(object_of(seen.get("request_counts")), "completed")) and not _file_in(seen, "output_file_id")


def _count(counts: Mapping[str, Any], name: str) -> int:
    count = counts.get(name)
    return count if isinstance(count, int) else 0


def _file_in(seen: Mapping[str, Any], name: str) -> str:
    """The id of a file of a batch's; "" where there is none."""
    id = seen.get(name)
    return id if isinstance(id, str) else ""


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same in whole lines: a key may stand where two pieces meet."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        end = rest.rfind(b"\n", len(rest) - len(piece)) + 1
        if end:
            yield bytes(rest[:end])
            del rest[:end]
    if rest:
        yield bytes(rest)
