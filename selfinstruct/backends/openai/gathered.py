"""Many requests in one file, asked at once and answered within a day: a backend for whoever has time and wants to pay
half.

    async with open_backend(config, folder=run, notice=print) as backend:      # with config.batch
        answers = await asyncio.gather(*(backend.complete(request) for request in requests))

A request goes into the file that is being gathered, and waits. The file is closed when it is full, or when no further
request has come for `QUIET` seconds; a `Runner` carries it to whoever answers and back; each line that came back is
handed to the request that waits for it. A request is known by its key, whatever happens to us meanwhile: one that
stands in a file on its way is not asked again, and what came back while we were away is handed out when it is asked
for.

A line without an answer is a fault like any other: the request is asked again, in the next file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol

from selfinstruct.backends.base import Again
from selfinstruct.backends.openai.batch_files import MOST_BYTES, MOST_LINES, Batch, Gathering, Journal, Place, places
from selfinstruct.backends.openai.boundary import BadRequest, NotFound, error_of, object_of, read_error
from selfinstruct.backends.openai.parameters import Parameters
from selfinstruct.backends.openai.server import Server
from selfinstruct.backends.openai.wire import body_of, completion_of
from selfinstruct.errors import EndpointError, RateLimited, Refused, SelfInstructError, Transient
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Completion, Request

QUIET = 1.0
"""Seconds without a further request after which a file is closed."""
STORED_AFTER = 60.0
"""Seconds after which an answer that was handed out is sure to be in the ledger."""
SLICE = 64
"""Lines handed out before everybody else has a turn."""

_UNDONE = {"batch_expired", "batch_cancelled"}
"""What the server calls a line that it did not come to."""


class TooLarge(SelfInstructError):
    """The server has no room for as many requests at once; none of them was asked. Never leaves the backends."""


class Runner(Protocol):
    """Whoever answers whole files."""

    async def carry(self, batch: Batch) -> None:
        """Take a batch from wherever it is until it is fetched, recording each step.

        Raises:
            TooLarge: with fewer lines it may do.
            EndpointError: it will not be answered, or no request will be.
            RunError: its folder cannot be written.
        """
        ...

    async def aclose(self) -> None:
        """Give back what is held; a batch that a server has stays with it."""
        ...


Found = Place | Exception
"""What a request is told: where its line is, or why there is none."""


class BatchBackend:
    """A backend that gathers requests into files.

    Args:
        runner: who answers them.
        journal: where the files are.
        server: what messages call whoever answers.
        model: the model to ask.
        notice: is told what is being waited for, and what came back that nobody can use.
    """

    def __init__(self, runner: Runner, journal: Journal, server: Server, *, model: str, notice: Notice) -> None:
        self.model = model
        self._runner = runner
        self._journal = journal
        self._server = server
        self._notice = notice
        self._parameters = Parameters(notice)
        self._most_lines = MOST_LINES
        self._gathering: dict[tuple[str, str], Gathering] = {}
        """Files being written, by what they ask and of which model: a file has one of each."""
        self._asked: dict[str, asyncio.Future[Found] | None] = {}
        """Every line gathered and not yet back, with the request that waits for it, if one does."""
        self._kept: dict[str, Place] = {}
        """Every line that came back and that nobody has asked for yet."""
        self._fetched: list[Batch] = []
        """Batches that are back and not yet retired."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None

    def load(self) -> None:
        """Take up what an earlier process began: of a request in several files, the last one counts."""
        batches = self._journal.load()
        last = {id: batch for batch in batches for id in batch.ids}
        for batch in batches:
            batch.ids = [id for id in batch.ids if last[id] is batch]
            if batch.state.stage == "fetched":
                self._keep(batch)
            else:
                self._asked.update(dict.fromkeys(batch.ids))
                self._start(self._carry(batch))

    async def complete(self, request: Request) -> Completion:
        """See `Backend.complete`."""
        while True:
            with contextlib.suppress(Again):
                return await self.once(request)

    async def once(self, request: Request) -> Completion:
        """See `Repeating.once`: a line of a file is a request."""
        id = _id_of(request)
        if id in self._kept:
            # What is final is an answer still; after anything else it is worth asking anew, now that time has passed.
            with contextlib.suppress(Transient, EndpointError):
                return self._understood(self._take(self._kept.pop(id)), body_of(request, self.model))
        names = self._enter(id, request)
        found = await self._wait(id)
        if isinstance(found, Exception):
            raise found
        return self._understood(self._take(found), names)

    def retire(self) -> None:
        """Let go of what was handed out: the run has ended in order, so all of it is in the ledger."""
        self._retire(self._fetched)

    async def aclose(self) -> None:
        """See `Backend.aclose`; what is on its way is taken up by the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for gathering in self._gathering.values():
            gathering.discard()
        await self._runner.aclose()

    # -- into a file --------------------------------------------------------------------------------------------------

    def _enter(self, id: str, request: Request) -> Iterable[str]:
        """See that a request stands in a file; returns the parameters that it is asked with."""
        if self._broken is not None:
            raise self._broken
        plain = body_of(request, self.model)
        if id in self._asked:
            return plain
        body = self._parameters.fitted(plain)
        url = "/v1/completions" if request.prompt is not None else "/v1/chat/completions"
        # Escaped, for there are servers that take every Unicode line break for one.
        line = json.dumps({"custom_id": id, "method": "POST", "url": url, "body": body}).encode() + b"\n"
        if len(line) > MOST_BYTES:
            raise Refused("prompt_too_long", f"a request of {len(line)} bytes is longer than a whole batch may be")
        self._gather(id, line, (url, body["model"]))
        return list(body)

    def _gather(self, id: str, line: bytes, kind: tuple[str, str]) -> None:
        gathering = self._gathering.get(kind)
        if gathering is None or not gathering.add(id, line):
            gathering = self._gathering[kind] = self._journal.gather(
                kind[0], most_lines=self._most_lines, most_bytes=MOST_BYTES
            )
            gathering.add(id, line)
            self._start(self._close(gathering, kind))
        self._asked.setdefault(id)

    async def _wait(self, id: str) -> Found:
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._asked[id] = future
        return await future

    async def _close(self, gathering: Gathering, kind: tuple[str, str]) -> None:
        """Wait until a file is full or nothing more comes, and send it."""
        while not gathering.full.is_set() and (left := gathering.touched + QUIET - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gathering.full.wait(), left)
        if self._gathering.get(kind) is gathering:
            del self._gathering[kind]
        with self._failing(gathering.ids):
            batch = await asyncio.to_thread(gathering.close)
            await self._carry(batch)

    # -- there and back -----------------------------------------------------------------------------------------------

    async def _carry(self, batch: Batch) -> None:
        with self._failing(batch.ids):
            try:
                await self._runner.carry(batch)
            except TooLarge:
                self._divide(batch)
            else:
                await self._deliver(batch)
                self._retire(one for one in self._fetched if time.monotonic() - one.done_at > STORED_AFTER)

    def _divide(self, batch: Batch) -> None:
        """Gather the lines of a batch anew, into files of half its size."""
        self._most_lines = max(1, min(self._most_lines, len(batch.ids) // 2))
        self._notice(f"{batch.title}: too much at once; from now on {self._most_lines} requests to a batch")
        for gathering in self._gathering.values():
            gathering.full.set()
        self._gathering.clear()
        batch.save(stage="retired")
        wanted = set(batch.ids)
        for id, line in batch.requests():
            if id in wanted:
                self._gather(id, line, (batch.state.url, json.loads(line)["body"]["model"]))

    async def _deliver(self, batch: Batch) -> None:
        """Hand each line that came back to the request that waits for it; say of the others that there is none."""
        lost = dict.fromkeys(batch.ids)
        useless: Counter[bool] = Counter()
        for number, (id, place) in enumerate(places(batch)):
            if id in lost:
                del lost[id]
                batch.left += 1
                self._hand(id, place)
            else:
                useless[id is None] += 1
            if number % SLICE == 0:
                await asyncio.sleep(0)
        self._tell_useless(batch, useless)
        for id in lost:
            self._hand(id, _no_line(batch))
        self._fetched.append(batch)

    def _hand(self, id: str, found: Found) -> None:
        future = self._asked.pop(id, None)
        if future is not None and not future.done():
            future.set_result(found)
        elif isinstance(found, Place):
            self._kept[id] = found

    def _keep(self, batch: Batch) -> None:
        """Keep what came back in an earlier process until it is asked for."""
        wanted = set(batch.ids)
        for id, place in places(batch):
            if id in wanted:
                wanted.discard(id)
                batch.left += 1
                self._kept[id] = place
        self._fetched.append(batch)

    def _take(self, place: Place) -> dict[str, Any]:
        """A line that came back, handed out."""
        line = place.read()
        place.batch.left -= 1
        place.batch.done_at = time.monotonic()
        return line

    def _retire(self, batches: Iterable[Batch]) -> None:
        for batch in [one for one in batches if not one.left]:
            batch.save(stage="retired")
            self._fetched.remove(batch)

    # -- what a line says ---------------------------------------------------------------------------------------------

    def _understood(self, line: Mapping[str, Any], names: Iterable[str]) -> Completion:
        """The answer in a line.

        Args:
            names: the parameters that it was asked with.

        Raises:
            Again: the request is to be asked anew, for the model refuses a parameter.
        """
        try:
            return answer_in(line, self._server)
        except BadRequest as refusal:
            if not self._parameters.learn(refusal.said, dict.fromkeys(names)):
                raise
            raise Again(str(refusal)) from refusal

    def _tell_useless(self, batch: Batch, useless: Counter[bool]) -> None:
        for nameless, count in useless.items():
            what = "cannot be read" if nameless else "answer nothing that it asks, or a second time"
            self._notice(f"{batch.title}: {count} of the lines that came back {what}")

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.contextmanager
    def _failing(self, ids: list[str]) -> Iterator[None]:
        """Tell those who wait for these what went wrong, and whoever asks from now on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._broken = error
            for id in ids:
                self._hand(id, error)


def answer_in(line: Mapping[str, Any], server: Server) -> Completion:
    """The answer in a line that came back.

    Raises:
        Transient, Refused, EndpointError: there is none; as for a request that is answered at once.
    """
    response, error = object_of(line.get("response")), line.get("error")
    body, status = response.get("body"), response.get("status_code")
    if status in (200, None) and isinstance(body, dict) and not (error or body.get("error")):
        return completion_of(body, server)
    if isinstance(error, dict) and (code := str(error.get("code"))) in _UNDONE:
        raise Transient(code, f"{server.url}: {error.get('message') or code}")
    said = read_error(status if isinstance(status, int) else 500, {}, json.dumps(error or body).encode(), server)
    meaning = error_of(said, server)
    if isinstance(meaning, RateLimited):
        # Its turn comes with the next file; nobody else has to wait for it.
        raise Transient(meaning.kind, str(meaning), status=meaning.status, body=meaning.body)
    if isinstance(meaning, NotFound):
        raise EndpointError(f"{server.url}: {meaning}: name a model that it has with --model") from meaning
    raise meaning


def _no_line(batch: Batch) -> Transient:
    """Why nothing came back for a request."""
    status = batch.state.status
    kind = f"batch_{status}" if status in ("expired", "cancelled") else "batch_unanswered"
    return Transient(kind, f"{batch.title}: {status or 'over'}, with no answer to this request")


def _id_of(request: Request) -> str:
    """The request's name in a file, of characters and a length that every server takes; without a key, a new one."""
    return request.key.replace(":", "-") or f"once-{uuid.uuid4().hex}"
