"""The files of batches: what each asks, how far it is, and what came back, so that no crash can lose or repeat any.

    0001.jsonl           the requests, a line each, as they are uploaded
    0001.json            how far the batch is, and what the server calls it
    0001.output.jsonl    what came back
    0001.errors.jsonl    what came back with an error

A file appears when it is whole and on the disk. Each step is recorded before the next one is taken, so what may have
been done without a record is always one thing alone: the upload of a file, or the submission of a batch. Whoever
takes that step looks for it on the server first (`batch_api`).

Not here: anything that asks a server.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from selfinstruct.backends.openai.boundary import object_of, parsed
from selfinstruct.errors import RunError
from selfinstruct.records import Record
from selfinstruct.text.files import Part, whole

FOLDER = "batches"
MOST_LINES = 50_000
"""Requests that OpenAI takes in one file."""
MOST_BYTES = 200_000_000
"""Bytes that it takes in one file."""

Stage = Literal["written", "uploaded", "submitted", "ended", "fetched", "retired"]
"""How far a batch is: on our disk, on the server's, begun there, done there, on our disk again; and no longer of
use, for its answers are in the ledger, or there will be none."""
Kind = Literal["output", "errors"]


class State(Record):
    """How far a batch is, as it is on the disk."""

    number: int
    name: str
    """Of its file on the server, and of no other there."""
    url: str
    """What every line asks, such as `/v1/chat/completions`."""
    lines: int
    stage: Stage = "written"
    server: str = ""
    """The address of the server that has it."""
    file: str = ""
    """The server's id of its file."""
    batch: str = ""
    """The server's id of it."""
    status: str = ""
    """How it ended, in the server's word."""
    output: str = ""
    """The server's id of what came back."""
    errors: str = ""
    """The same of what came back with an error."""


class Batch:
    """One file of requests, and how far it is.

    Args:
        folder: of all batches.
        state: as it is on the disk.
        ids: the `custom_id` of each line.
        fresh: every step of it that was taken is recorded, as this process took them all.
    """

    def __init__(self, folder: Path, state: State, ids: list[str], *, fresh: bool) -> None:
        self.state = state
        self.ids = ids
        self.fresh = fresh
        self.left = 0
        """Lines that came back and are still to be handed out."""
        self.done_at = float("-inf")
        """When the last of them was handed out, in seconds of `time.monotonic`."""
        self._folder = folder

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{FOLDER}/{self.state.number:04}"

    @property
    def input(self) -> Path:
        """The file of its requests."""
        return self._folder / f"{self.state.number:04}.jsonl"

    @property
    def record(self) -> Path:
        """The file that says how far it is."""
        return self._folder / f"{self.state.number:04}.json"

    def result(self, kind: Kind) -> Path:
        """The file of what came back."""
        return self._folder / f"{self.state.number:04}.{kind}.jsonl"

    def save(self, **changes: Any) -> None:
        """Record how far it is now.

        Raises:
            RunError: the folder cannot be written.
        """
        self.state = self.state.model_copy(update=changes)
        with writable(self.record):
            whole(self.record, f"{self.state.model_dump_json(indent=1)}\n")

    def requests(self) -> Iterator[tuple[str, bytes]]:
        """Each line of its file, with its id."""
        with self.input.open("rb") as file:
            for line in file:
                yield json.loads(line)["custom_id"], line


class Place(NamedTuple):
    """Where the line is that came back for a request."""

    batch: Batch
    kind: Kind
    offset: int
    """In bytes."""
    length: int

    def read(self) -> dict[str, Any]:
        """The line."""
        with self.batch.result(self.kind).open("rb") as file:
            file.seek(self.offset)
            return object_of(parsed(file.read(self.length).decode()))


def places(batch: Batch) -> Iterator[tuple[str | None, Place]]:
    """Every line that came back, in the order of its file, with the id that it names; None where it names none."""
    kinds: tuple[Kind, ...] = ("output", "errors")
    for kind in kinds:
        with suppress(FileNotFoundError), batch.result(kind).open("rb") as file:
            offset = 0
            for line in file:
                if line.strip():
                    yield _id_in(line), Place(batch, kind, offset, len(line))
                offset += len(line)


def _id_in(line: bytes) -> str | None:
    with suppress(ValueError):
        id = object_of(parsed(line.decode())).get("custom_id")
        return id if isinstance(id, str) else None
    return None


class Gathering:
    """A file of requests that is being written; it becomes a `Batch` when it is closed.

    Args:
        folder: of all batches.
        number: of the batch.
        url: what every line asks.
        most_lines: how many it takes.
        most_bytes: how long it may become.
    """

    def __init__(self, folder: Path, number: int, url: str, *, most_lines: int, most_bytes: int) -> None:
        name = f"selfinstruct-{uuid.uuid4().hex}.jsonl"
        self._batch = Batch(folder, State(number=number, name=name, url=url, lines=0), [], fresh=True)
        self._most = (most_lines, most_bytes)
        self._bytes = 0
        with writable(self._batch.input):
            self._part = Part(self._batch.input)
        self.full = asyncio.Event()
        self.touched = time.monotonic()
        """When the last line was added, in seconds of `time.monotonic`."""

    @property
    def ids(self) -> list[str]:
        """Of the lines so far."""
        return self._batch.ids

    def add(self, id: str, line: bytes) -> bool:
        """Add a line, if there is room for it; a first line always has room."""
        most_lines, most_bytes = self._most
        if self.ids and (len(self.ids) >= most_lines or self._bytes + len(line) > most_bytes):
            self.full.set()
            return False
        with writable(self._batch.input):
            self._part.file.write(line)
        self.ids.append(id)
        self._bytes += len(line)
        self.touched = time.monotonic()
        return True

    def close(self) -> Batch:
        """The batch, whole and on the disk.

        Raises:
            RunError: the folder cannot be written.
        """
        with writable(self._batch.input):
            self._part.keep()
        self._batch.save(lines=len(self.ids))
        return self._batch

    def discard(self) -> None:
        """Throw away what was gathered."""
        self._part.discard()


class Journal:
    """All batches of a run.

    Args:
        folder: is made where it is missing.

    Raises:
        RunError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._last = 0

    def load(self) -> list[Batch]:
        """The batches that are still of use, in the order of their numbers; what was never whole is removed.

        Raises:
            RunError: a record cannot be read, or the file that belongs to it.
        """
        records = list(self.folder.glob("*.json"))
        states = sorted((_read(path) for path in records), key=lambda state: state.number)
        self._last = states[-1].number if states else 0
        known = {path.stem for path in records}
        for path in self.folder.iterdir():
            if path.suffix == ".part" or (path.suffix == ".jsonl" and path.name.split(".")[0] not in known):
                path.unlink()
        return [self._opened(state) for state in states if state.stage != "retired"]

    def gather(self, url: str, *, most_lines: int, most_bytes: int) -> Gathering:
        """Begin the next file."""
        self._last += 1
        return Gathering(self.folder, self._last, url, most_lines=most_lines, most_bytes=most_bytes)

    def _opened(self, state: State) -> Batch:
        batch = Batch(self.folder, state, [], fresh=False)
        try:
            batch.ids = [id for id, _ in batch.requests()]
        except (OSError, ValueError, KeyError) as error:
            problem = f"{batch.input}: cannot be read ({error})"
            raise RunError(f"{problem}; put it back, or delete {batch.record} to ask its requests anew") from None
        return batch


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Say in one line which file could not be written.

    Raises:
        RunError: the file system refused something.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; then run again") from None


def _read(path: Path) -> State:
    try:
        return State.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError):
        raise RunError(f"{path}: cannot be read; delete it to ask the requests of its batch anew") from None
