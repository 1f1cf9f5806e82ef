"""The ledger: everything a run is told, asks, is answered and decides, in one SQLite file.

What was paid for is stored before anything else is done with it (`answer`); what follows from it, drafts, verdicts
and the jobs planned next, is stored in one transaction (`settle`). The order of those transactions is numbered
(`events`), so that the whole run can be derived again from the answers.

The file is in WAL mode with `synchronous=NORMAL`: a commit survives the death of the process at any instant; a power
failure may take the last few commits, never the file's integrity. Reading while a run writes is safe; writing is for
one process (`store.lock`), with one exception: `review` adds to a table that no run reads, in transactions of one row.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import TypeAdapter

from selfinstruct.errors import Fault, RunError
from selfinstruct.records import (
    WRITER,
    Answer,
    Completion,
    Draft,
    Execution,
    Instance,
    Job,
    Outcome,
    Record,
    Result,
    Review,
    Role,
    Sample,
    Seed,
    Tool,
    Usage,
)
from selfinstruct.store.damage import damaged
from selfinstruct.store.keys import Kind, canonical
from selfinstruct.store.schema import FIRST, TALLIES, migrate, newest, version
from selfinstruct.store.texts import folded, unfolded
from selfinstruct.text.files import replacing
from selfinstruct.text.words import storable

NAME = "ledger.sqlite"
LOCKED = 30.0
"""Seconds to wait for another program that holds the ledger."""
CHUNK = 256
"""Rows that a query reads ahead."""

Table = Literal["seeds", "jobs", "answers", "faults", "drafts", "verdicts", "reviews"]
State = Literal["planned", "settled", "failed"]
"""Of a job."""


class Event(NamedTuple):
    """One line of the recorded order; `value` is the target of a `target` event."""

    seq: int
    kind: str
    job: int | None
    value: int | None


class PlannedJob(NamedTuple):
    """A job as the ledger knows it; `after` is the job whose settlement planned it."""

    job: Job
    after: int | None
    state: str
    error_kind: str | None
    error: str | None


class StoredDraft(NamedTuple):
    """A draft as the ledger knows it, with the verdict that decided."""

    id: str
    rank: int
    """Its place in the order of settlement, from 1."""
    draft: Draft
    kept: bool
    stayed: tuple[Instance, ...]
    parent: str | None
    filter: str
    reason: str
    detail: dict[str, Any]

    @property
    def job(self) -> int:
        """The number of the job that made it."""
        return job_of(self.id)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that stayed; of a draft that was dropped, all."""
        return self.stayed if self.kept else self.draft.instances

    @property
    def sample(self) -> Sample:
        """The sample that this draft became (it was kept)."""
        draft = self.draft
        return Sample(
            id=self.id, stage=draft.stage, instruction=draft.instruction, instances=self.stayed, meta=draft.meta,
            parent=self.parent, system=draft.system, tools=draft.tools, family=draft.family, facets=draft.facets,
        )  # fmt: skip


def job_of(draft: str) -> int:
    """The number of the job that made the draft of this id."""
    return int(draft.partition(".")[0])


class StoredAnswer(NamedTuple):
    """An answer as the ledger knows it, with the question that it answers."""

    id: int
    key: str
    job: int
    question: dict[str, Any]
    answer: Answer
    seconds: float


class Count(NamedTuple):
    """What is to be added to the meter of a role."""

    role: Role
    usage: Usage
    seconds: float = 0.0
    """Of working time, since the last count."""
    in_flight: Usage = Usage()
    """What may be in flight from now on."""


class Meter(NamedTuple):
    """What was asked of a role, over all attempts and sessions."""

    usage: Usage
    in_flight: Usage
    """What was sent at most, and has not come back; of a run that was killed it counts as spent."""
    seconds: float

    @property
    def spent(self) -> Usage:
        """What counts."""
        return self.usage.plus(self.in_flight)


class End(NamedTuple):
    """How a session ended."""

    ending: str
    message: str
    at: float
    """Seconds since 1970."""


class Ledger:
    """An open ledger. Use `create` for a new run, `open` for one that exists; both are context managers.

    with Ledger.open(Path("outputs/first")) as ledger:
        print(ledger.count("drafts"))
    """

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self.path = path

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        facts: Mapping[str, str],
        seeds: Iterable[Seed],
        prompts: Mapping[str, str],
        target: int | None,
    ) -> Self:
        """A new ledger in `folder`; whole or not at all.

        Args:
            facts: what the run is (`config`, `version`, …), kept in the table `run`.

        Raises:
            RunError: the folder cannot be written.
        """
        path = folder / NAME
        with boundary(path):
            if path.exists():
                raise RunError(f"{folder}: holds a run since a moment ago; the same command continues it")
            for leftover in (Path(f"{path}-wal"), Path(f"{path}-shm")):
                leftover.unlink(missing_ok=True)
            # Without a write-ahead log, so that one rename makes the run exist: what is cut short before is no run.
            with replacing(path) as [unborn], cls(sqlite3.connect(unborn, isolation_level=None), unborn) as ledger:
                migrate(ledger._db)
                with ledger._transaction():
                    ledger._db.executemany("INSERT INTO run VALUES (?, ?)", facts.items())
                    rows = [(i, seed.id, seed.model_dump_json()) for i, seed in enumerate(seeds, start=1)]
                    ledger._db.executemany("INSERT INTO seeds VALUES (?, ?, ?)", rows)
                    ledger._db.executemany("INSERT INTO prompts VALUES (?, ?)", prompts.items())
                    ledger._event("target", value=target)
            return cls(_connect(path), path)

    @classmethod
    def open(cls, folder: Path, *, write: bool = False) -> Self:
        """The ledger of a run, brought to the present schema when it may be written.

        Raises:
            RunError: there is none, it was written by a newer version, or it is no ledger.
        """
        path = folder / NAME
        if not path.is_file():
            raise RunError(f"{folder}: no run here (no {NAME}); `selfinstruct status` lists the runs there are")
        with boundary(path):
            db = _connect(path) if write else _connect_to_read(path)
            try:
                _bring_up(db, path, write=write)
            except BaseException:
                db.close()
                raise
            return cls(db, path)

    def close(self) -> None:
        """Close the file; without it nothing is lost."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, _UNREADABLE) and (what := self._damage()) is not None:
                cure = "restore it from a copy, or begin another run with --run"
                raise RunError(f"{self.path}: damaged: {what} cannot be read; {cure}") from error
        finally:
            self.close()

    def _damage(self) -> str | None:
        """What cannot be read, as far as there is such: an error may also be a bug of ours."""
        if (what := damaged(self.query)) is not None:
            return what
        try:
            answers = map(_answer, self._rows(f"SELECT {_ANSWER} FROM answers"))
            for _ in chain(self.seeds(), answers, self.drafts(), self.samples()):
                pass
        except ValueError as error:
            return " ".join(str(error).split())[:120]
        return None

    # -- writing ------------------------------------------------------------------------------------------------------

    def reconfigure(self, config: str, target: int | None) -> None:
        """Set what may change while a run goes on, the number of tasks to keep above all."""
        with self._transaction():
            self._db.execute("UPDATE run SET value = ? WHERE key = 'config' AND value <> ?", (config, config))
            if target != self.target():
                self._event("target", value=target)

    def plan(self, job: Job) -> None:
        """Store a job planned from the pool."""
        with self._transaction():
            self._plan(job, after=None, origin="")

    def answer(
        self,
        key: str,
        job: int,
        nth: int,
        question: str,
        answer: Answer,
        seconds: float,
        *,
        role: Role = WRITER,
        counts: Iterable[Count] | None = None,
    ) -> None:
        """Store an answer, the first under a key stands, and count what it took.

        Args:
            question: its canonical text.
            role: who was asked.
            counts: for the meter; None counts what a completion says of itself.
        """
        row = _row_of(answer)
        if counts is None:
            counts = [Count(role, Usage(1, row.prompt_tokens, row.cached_tokens, row.completion_tokens))]
        with self._transaction():
            stored = folded(self._db, question)
            self._db.execute(_ANSWERED, (*row, key, job, nth, stored, seconds, time.time(), role))
            self._count(counts)

    def intend(self, key: str, job: int) -> None:
        """Note that a call which must not be repeated is about to be made."""
        with self._transaction():
            self._db.execute("INSERT INTO intents (key, job, at) VALUES (?,?,?)", (key, job, time.time()))

    def fault(self, key: str, job: int, attempt: int, fault: Fault, counts: Iterable[Count] = ()) -> None:
        """Store what an attempt met that brought no answer, and count what it took."""
        message, body = storable(str(fault)), storable(fault.body)
        row = (job, key, attempt, fault.kind, message, fault.status, body, time.time())
        with self._transaction():
            self._db.execute(
                "INSERT INTO faults (job, key, attempt, kind, message, status, body, at) VALUES (?,?,?,?,?,?,?,?)", row
            )
            self._count(counts)

    def charge(self, counts: Iterable[Count]) -> None:
        """Store what was spent, and what may be in flight, before it is: a process that dies has then counted it."""
        with self._transaction():
            self._count(counts)

    def go_on(self, resumed: Collection[Role] = ()) -> None:
        """Begin a session: what was in flight when the last one died is spent, and it is no longer ended.

        Args:
            resumed: roles whose requests outlive the process; they are asked for again, and counted then.
        """
        with self._transaction():
            self._db.execute("DELETE FROM run WHERE key = 'ended'")
            for role in resumed:
                self._db.execute(_FORGOTTEN, (role,))
            self._db.execute(_LANDED)

    def end(self, ending: str, message: str, counts: Iterable[Count] = ()) -> None:
        """End a session: nothing is in flight any more, and `ended` in the table `run` says how it ended."""
        ended = json.dumps({"ending": ending, "message": storable(message), "at": time.time()}, ensure_ascii=False)
        with self._transaction():
            self._count(counts)
            self._db.execute("INSERT OR REPLACE INTO run VALUES ('ended', ?)", (ended,))

    def settle(self, job: Job, outcomes: Sequence[Outcome], follow_ups: Sequence[Job]) -> None:
        """Store what became of a job, and the jobs that follow from it, in one transaction."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state = 'settled', error_kind = NULL, error = NULL WHERE number = ?", (job.number,)
            )
            self._event("settle", job.number)
            self._outcomes(job.number, outcomes)
            for follow_up in follow_ups:
                self._plan(follow_up, after=job.number, origin=job.stage)

    def fail(self, job: int, kind: str, error: str) -> None:
        """Store that a job failed; `retry` gives it another chance."""
        with self._transaction():
            self._db.execute(
                "UPDATE jobs SET state = 'failed', error_kind = ?, error = ? WHERE number = ?",
                (kind, storable(error), job),
            )
            self._event("fail", job)

    def retry(self) -> list[int]:
        """Open every failed job again, and forget the refusals that ended it.

        Returns:
            those opened now, and those opened before and not performed since.
        """
        with self._transaction():
            failed = self._db.execute("SELECT number, error_kind FROM jobs WHERE state = 'failed'").fetchall()
            for number, kind in failed:
                self._db.execute(
                    "UPDATE jobs SET state = 'planned', error_kind = NULL, error = NULL WHERE number = ?", (number,)
                )
                self._db.execute("DELETE FROM answers WHERE job = ? AND refused = ?", (number, kind))
                self._db.execute("DELETE FROM intents WHERE job = ?", (number,))
                self._event("retry", number)
        opened = "SELECT number FROM jobs WHERE state = 'planned' AND number IN (SELECT job FROM events WHERE kind = ?)"
        return [number for (number,) in self._rows(opened, "retry")]

    def judge_again(self, outcomes: Iterable[tuple[int, Sequence[Outcome]]], facts: Mapping[str, str]) -> None:
        """Replace every draft and verdict, and the given facts, in one transaction (`filter`)."""
        with self._transaction():
            for table in ("verdicts", "drafts", "tally_drafts", "tally_instances"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.executemany("INSERT OR REPLACE INTO run VALUES (?, ?)", facts.items())
            for job, judged in outcomes:
                self._outcomes(job, judged)

    def review(self, review: Review) -> None:
        """Store what a person decided on a draft; the last decision counts. Needs no lock: no run reads it."""
        instances = None if review.instances is None else _dump(review.instances)
        with self._transaction():
            self._db.execute(
                "INSERT INTO reviews (draft, keep, instruction, instances, at) VALUES (?,?,?,?,?)",
                (review.draft, review.keep, review.instruction, instances, time.time()),
            )

    def copy_to(self, folder: Path) -> None:
        """A copy of this ledger in another folder."""
        with boundary(folder / NAME), closing(_connect(folder / NAME)) as other:
            self._db.backup(other)

    def _count(self, counts: Iterable[Count]) -> None:
        for count in counts:
            self._db.execute(_COUNTED, (*count.usage, count.seconds, *_sent(count.in_flight), count.role))

    def _outcomes(self, job: int, outcomes: Sequence[Outcome]) -> None:
        for position, outcome in enumerate(outcomes, start=1):
            draft, sample = outcome.draft, outcome.sample
            instances = _dump(draft.instances)
            stayed = None if sample is None else _dump(sample.instances)
            self._db.execute(
                "INSERT INTO drafts (job, position, id, stage, kept, instruction, instances, stayed, flaw, meta,"
                " system, tools, family, facets) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (job, position, outcome.id, draft.stage, sample is not None, draft.instruction, instances, stayed,
                 draft.flaw, canonical(draft.meta), draft.system, _dump(draft.tools), draft.family,
                 canonical(draft.facets)),
            )  # fmt: skip
            self._db.executemany(
                "INSERT INTO verdicts VALUES (?,?,?,?,?,?,?)",
                [(outcome.id, place, v.filter, v.keep, v.reason, canonical(v.detail), canonical(v.instance_drops))
                 for place, v in enumerate(outcome.verdicts)],
            )  # fmt: skip

    def _plan(self, job: Job, after: int | None, origin: str) -> None:
        row = (job.number, job.stage, job.parent, after, origin, canonical(job.payload), canonical(job.shown),
               canonical(job.models))  # fmt: skip
        self._db.execute(
            "INSERT INTO jobs (number, stage, parent, after, origin, payload, shown, models) VALUES (?,?,?,?,?,?,?,?)",
            row,
        )
        self._event("plan", job.number)

    def _event(self, kind: str, job: int | None = None, value: int | None = None) -> None:
        self._db.execute("INSERT INTO events (kind, job, value, at) VALUES (?,?,?,?)", (kind, job, value, time.time()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with boundary(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """While it lasts, what is read is of one moment, though a run goes on; one inside another changes nothing."""
        if self._db.in_transaction:
            yield
            return
        self._row("BEGIN")
        try:
            yield
        finally:
            self._row("ROLLBACK")

    def fact(self, key: str) -> str | None:
        """What the table `run` says under this key."""
        row = self._row("SELECT value FROM run WHERE key = ?", key)
        return None if row is None else str(row[0])

    def ended(self) -> End | None:
        """How the last session ended; None while one goes on, or where it was killed."""
        ended = self.fact("ended")
        return None if ended is None else End(**json.loads(ended))

    def meter(self) -> dict[Role, Meter]:
        """What was asked of each role, over all attempts and sessions."""
        query = (
            "SELECT role, requests, prompt_tokens, cached_tokens, completion_tokens, requests_in_flight,"
            " prompt_tokens_in_flight, 0, completion_tokens_in_flight, seconds FROM meter"
        )
        return {role: Meter(Usage(*row[:4]), Usage(*row[4:8]), row[8]) for role, *row in self._rows(query)}

    def target(self) -> int | None:
        """The number of tasks to keep, as last set; None where all are wanted that there are."""
        row = self._row("SELECT value FROM events WHERE kind = 'target' ORDER BY seq DESC LIMIT 1")
        assert row is not None
        return None if row[0] is None else int(row[0])

    def seeds(self) -> list[Seed]:
        """The seed tasks, in order."""
        return [
            Seed.model_validate_json(record) for (record,) in self._rows("SELECT record FROM seeds ORDER BY number")
        ]

    def prompts(self) -> dict[str, str]:
        """The text of each prompt, by name."""
        return dict(self._rows("SELECT name, text FROM prompts ORDER BY name"))

    def events(self) -> Iterator[Event]:
        """What happened, in order."""
        return (Event(*row) for row in self._rows("SELECT seq, kind, job, value FROM events ORDER BY seq"))

    def jobs(self, state: State | None = None) -> Iterator[PlannedJob]:
        """Jobs in order of planning, all or those in one state."""
        # Spelt out, for an index of some rows only is of use to a query that names the same.
        where = f"state = '{state}'" if state else "1"
        return (_planned(row) for row in self._rows(f"SELECT {_JOB} FROM jobs WHERE {where} ORDER BY number"))

    def job(self, number: int) -> PlannedJob:
        """One job.

        Raises:
            RunError: there is none of that number.
        """
        if (found := self.find_job(number)) is None:
            raise RunError(f"{self.path}: no job {number}; the last is {self.last_job()}")
        return found

    def find_job(self, number: int) -> PlannedJob | None:
        """One job, or None where there is none of that number."""
        row = self._row(f"SELECT {_JOB} FROM jobs WHERE number = ?", number)
        return None if row is None else _planned(row)

    def last_job(self) -> int:
        """The highest job number given."""
        row = self._row("SELECT coalesce(max(number), 0) FROM jobs")
        assert row is not None
        return int(row[0])

    def find_answer(self, key: str) -> Answer | None:
        """The answer stored under a key."""
        row = self._row(f"SELECT {_ANSWER} FROM answers WHERE key = ?", key)
        return None if row is None else _answer(row)

    def answers(self, job: int) -> list[StoredAnswer]:
        """The answers of one job, in order of arrival."""
        query = f"SELECT id, key, job, question, seconds, {_ANSWER} FROM answers WHERE job = ? ORDER BY id"
        rows = self._rows(query, job)
        whole = partial(unfolded, self._db)
        return [StoredAnswer(i, key, n, json.loads(whole(q)), _answer(a), s) for i, key, n, q, s, *a in rows]

    def intended(self, job: int) -> set[str]:
        """The keys of the calls of a job that must not be repeated and were made, or may have been."""
        return {key for (key,) in self._rows("SELECT key FROM intents WHERE job = ?", job)}

    def sessions(self, job: int) -> int:
        """How often the sessions of a job were begun so far."""
        row = self._row(
            "SELECT max(json_extract(question, '$.attempt')) FROM answers WHERE job = ? AND kind = 'result'", job
        )
        return int(row[0] or 0)

    def models(self) -> dict[str, str]:
        """The models of the run as their backends named them, by their names in the run."""
        return dict(json.loads(self.fact("models") or "{}"))

    def drafts(
        self,
        *,
        ids: Iterable[str] | None = None,
        job: int | None = None,
        stage: str | None = None,
        kept: bool | None = None,
        filter: str | None = None,
        reason: str | None = None,
        limit: int | None = None,
    ) -> Iterator[StoredDraft]:
        """Drafts in order of settlement; what is None chooses nothing.

        Args:
            filter, reason: of the verdict that decided.
            limit: how many at most.
        """
        where, values = _equal({"d.job": job, "d.stage": stage, "d.kept": kept, "v.filter": filter, "v.reason": reason})
        if ids is not None:
            where, values = f"{where} AND d.id IN {_LISTED}", [*values, json.dumps(list(ids))]
        query = (
            f"SELECT d.id, d.rank, d.kept, d.stayed, j.parent, v.filter, v.reason, v.detail, {_DRAFT}"
            " FROM drafts d JOIN jobs j ON j.number = d.job"
            " JOIN verdicts v ON v.draft = d.id AND v.place = (SELECT max(place) FROM verdicts WHERE draft = d.id)"
            f" WHERE {where} ORDER BY d.rank LIMIT ?"
        )
        return (_stored_draft(row) for row in self._rows(query, *values, -1 if limit is None else limit))

    def draft(self, id: str) -> StoredDraft | None:
        """One draft; None where there is none of that id."""
        return next(self.drafts(ids=[id]), None)

    def latest(self, stage: str, number: int) -> list[str]:
        """The ids of the drafts of a stage that were kept last, in order of settlement."""
        query = "SELECT id FROM drafts WHERE kept AND stage = ? ORDER BY rank DESC LIMIT ?"
        return [id for (id,) in self._rows(query, stage, number)][::-1]

    def samples(
        self,
        *,
        stage: str | None = None,
        ids: Iterable[str] | None = None,
        facets: Mapping[str, Collection[str]] | None = None,
        parents: bool = False,
    ) -> Iterator[Sample]:
        """What is in the dataset, in order of settlement: kept drafts, as people have reviewed them.

        Args:
            facets: values to choose by; a sample is chosen that has one of the values in each.
            parents: add what the chosen ones were made from: samples of that stage up the line of their jobs, and
                those of an earlier stage that their families began with.
        """
        chosen, values = self._chosen(stage, ids, facets)
        where = f"({chosen})"
        if parents:
            where = f"(({chosen}) OR d.id IN ({_ABOVE.format(chosen=chosen)}))"
            values = [*values, *values, stage]
        # Where nobody has reviewed anything, what the index of drafts holds spares a third of the time.
        query = f"{_REVIEWED if self.count('reviews') else _KEPT} AND {where} ORDER BY d.rank"
        return map(_sample, self._rows(query, *values))

    def _chosen(
        self, stage: str | None, ids: Iterable[str] | None, facets: Mapping[str, Collection[str]] | None
    ) -> tuple[str, list[Any]]:
        """A condition on drafts, and what its marks stand for."""
        chosen, values = _equal({"d.stage": stage})
        if ids is not None:
            chosen, values = f"{chosen} AND d.id IN {_LISTED}", [*values, json.dumps(list(ids))]
        if facets:
            chosen, values = f"{chosen} AND d.facets IN {_LISTED}", [*values, json.dumps(self._with(facets))]
        return chosen, values

    def _with(self, facets: Mapping[str, Collection[str]]) -> list[str]:
        """The texts of facets, as drafts have them, that have one of the values in each."""
        texts = [text for (text,) in self._rows("SELECT DISTINCT facets FROM tally_drafts")]
        return [text for text in texts if all(json.loads(text).get(name) in values for name, values in facets.items())]

    def has_families(self, stage: str) -> bool:
        """Whether kept drafts of a stage belong to families that are not their own."""
        return (
            self._row("SELECT 1 FROM drafts WHERE kept AND stage = ? AND family NOT IN ('', id) LIMIT 1", stage)
            is not None
        )

    def sources(self, stage: str, facets: Mapping[str, Collection[str]] | None = None) -> set[str]:
        """The ids of the seeds that the kept drafts of a stage, those chosen by facets, were made from in the end."""
        chosen, values = self._chosen(stage, None, facets)
        return {id for (id,) in self._rows(_BEGUN.format(chosen=chosen), *values)}

    def instructions(self, ids: Iterable[str]) -> dict[str, str]:
        """By id, the instructions of seeds and drafts; ids of neither are left out."""
        query = (
            f"SELECT id, json_extract(record, '$.instruction') FROM seeds WHERE id IN {_LISTED}"
            f" UNION ALL SELECT id, instruction FROM drafts WHERE id IN {_LISTED}"
        )
        listed = json.dumps(sorted(ids))
        return dict(self._rows(query, listed, listed))

    def joined(self, stages: Collection[str]) -> Iterator[Sample]:
        """The samples of these stages as they were kept, in order of settlement; what people decided on them since is
        no part of it."""
        some = f"d.stage IN ({', '.join('?' * len(stages))})"
        return map(_sample, self._rows(f"{_KEPT} AND {some} ORDER BY d.rank", *stages))

    def barren(self) -> int:
        """How many jobs were settled since the last that kept anything."""
        row = self._row("SELECT job FROM drafts WHERE kept ORDER BY rank DESC LIMIT 1")
        settled = self._rows("SELECT job FROM events WHERE kind = 'settle' ORDER BY seq DESC")
        return sum(1 for _ in takewhile(lambda event: event != row, settled))

    def reviews(self, ids: Iterable[str] | None = None) -> dict[str, Review]:
        """By draft, what people decided and have not taken back, in the order of decision.

        Args:
            ids: the drafts; None for all.
        """
        where, values = ("1", []) if ids is None else (f"draft IN {_LISTED}", [json.dumps(list(ids))])
        query = (
            "SELECT draft, keep, instruction, instances FROM reviews"
            " WHERE id = (SELECT max(id) FROM reviews r WHERE r.draft = reviews.draft) AND keep IS NOT NULL"
            f" AND {where} ORDER BY id"
        )
        return {
            draft: Review(draft=draft, keep=bool(keep), instruction=instruction,
                          instances=None if instances is None else _load(instances))
            for draft, keep, instruction, instances in self._rows(query, *values)
        }  # fmt: skip

    def decisions(self, draft: str) -> list[dict[str, Any]]:
        """All verdicts on a draft, a person's last, as the filter `human`."""
        reviews = self.reviews([draft]).values()
        return [*self.verdicts(draft), *(review.verdict.model_dump(mode="json") for review in reviews)]

    def verdicts(self, draft: str) -> list[dict[str, Any]]:
        """All verdicts on a draft, in the order they were given, as stored."""
        query = "SELECT filter, keep, reason, detail, instance_drops FROM verdicts WHERE draft = ? ORDER BY place"
        return [
            {"filter": f, "keep": bool(k), "reason": r, "detail": json.loads(d), "instance_drops": json.loads(i)}
            for f, k, r, d, i in self._rows(query, draft)
        ]

    def asked(self) -> Iterator[tuple[int, str, int, int, str, Kind]]:
        """Of each answer its id, its key, its job, how often that had asked this before, the canonical text of its
        question, and its kind."""
        rows = self._rows("SELECT id, key, job, nth, question, kind FROM answers")
        return ((*before, unfolded(self._db, question), kind) for *before, question, kind in rows)

    def count(self, table: Table) -> int:
        """How many rows a table has."""
        return int(self._row(f"SELECT count(*) FROM {table}")[0])

    def count_jobs(self, state: State) -> int:
        """How many jobs are in a state."""
        return int(self._row(f"SELECT count(*) FROM jobs WHERE state = '{state}'")[0])

    def strays(self, table: Literal["verdicts", "reviews"]) -> int:
        """How many rows of a table are on drafts that are not there."""
        return int(self._row(f"SELECT count(*) FROM {table} WHERE draft NOT IN (SELECT id FROM drafts)")[0])

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query: for the modules of this room, where all SQL stands, and for people."""
        return list(self._rows(sql, *values))

    def miscounted(self) -> Iterator[str]:
        """A line for each group whose tally is not what there is of it."""
        for tally in TALLIES:
            # Without the seconds of answers: their sum depends on the order of adding.
            names = [name for _, name, *_ in self._rows(f"PRAGMA table_info(tally_{tally})") if name != "seconds"]
            told = f"SELECT {', '.join(names)} FROM tally_{tally} WHERE {tally} > 0"
            counted = f"SELECT {', '.join(names)} FROM counted_{tally}"
            for one, other, word in ((told, counted, "says"), (counted, told, "should say")):
                for row in self._rows(f"SELECT * FROM ({one}) EXCEPT SELECT * FROM ({other})"):
                    yield f"tally_{tally} {word} " + ", ".join(f"{n} {v!r}" for n, v in zip(names, row, strict=True))

    def _row(self, sql: str, *values: Any) -> Any:
        with boundary(self.path):
            return self._db.execute(sql, values).fetchone()

    def _rows(self, sql: str, *values: Any) -> Iterator[Any]:
        """Read by the chunk, between which there is nothing to close: whoever leaves off in the middle, as at Ctrl-C,
        may close the ledger before this generator."""
        with boundary(self.path):
            cursor = self._db.execute(sql, values)
            rows = cursor.fetchmany(CHUNK)
        while rows:
            yield from rows
            with boundary(self.path):
                rows = cursor.fetchmany(CHUNK)


def _equal(columns: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The condition that columns have these values, those that are None left out, and what its marks stand for."""
    wanted = {column: value for column, value in columns.items() if value is not None}
    return " AND ".join(f"{column} = ?" for column in wanted) or "1", list(wanted.values())


_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)
"""What reading damaged rows comes to."""
_LISTED = "(SELECT value FROM json_each(?))"
_ANSWERED = (
    "INSERT OR IGNORE INTO answers (kind, text, finish_reason, model, prompt_tokens, completion_tokens, cached_tokens,"
    " reasoning_tokens, refused, body, key, job, nth, question, seconds, at, role)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_COUNTED = (
    "INSERT INTO meter (requests, prompt_tokens, cached_tokens, completion_tokens, seconds, requests_in_flight,"
    " prompt_tokens_in_flight, completion_tokens_in_flight, role) VALUES (?,?,?,?,?,?,?,?,?)"
    " ON CONFLICT (role) DO UPDATE SET requests = requests + excluded.requests,"
    " prompt_tokens = prompt_tokens + excluded.prompt_tokens, cached_tokens = cached_tokens + excluded.cached_tokens,"
    " completion_tokens = completion_tokens + excluded.completion_tokens, seconds = seconds + excluded.seconds,"
    " requests_in_flight = excluded.requests_in_flight, prompt_tokens_in_flight = excluded.prompt_tokens_in_flight,"
    " completion_tokens_in_flight = excluded.completion_tokens_in_flight"
)
_FORGOTTEN = (
    "UPDATE meter SET requests_in_flight = 0, prompt_tokens_in_flight = 0, completion_tokens_in_flight = 0"
    " WHERE role = ?"
)
_LANDED = (
    "UPDATE meter SET requests = requests + requests_in_flight,"
    " prompt_tokens = prompt_tokens + prompt_tokens_in_flight,"
    " completion_tokens = completion_tokens + completion_tokens_in_flight,"
    " requests_in_flight = 0, prompt_tokens_in_flight = 0, completion_tokens_in_flight = 0"
)
_JOB = "number, stage, payload, parent, shown, models, after, state, error_kind, error"
_DRAFT = "d.stage, d.instruction, d.instances, d.flaw, d.meta, d.system, d.tools, d.family, d.facets"
_SAMPLE = "d.meta, d.system, d.tools, d.family, d.facets, d.id, d.stage, j.parent"
_KEPT = f"SELECT d.instruction, d.stayed, {_SAMPLE} FROM drafts d JOIN jobs j ON j.number = d.job WHERE d.kept = 1"
_REVIEWED = (
    f"SELECT coalesce(r.instruction, d.instruction), coalesce(r.instances, d.stayed, d.instances), {_SAMPLE}"
    " FROM drafts d JOIN jobs j ON j.number = d.job"
    " LEFT JOIN reviews r ON r.id = (SELECT max(id) FROM reviews WHERE draft = d.id) WHERE coalesce(r.keep, d.kept)"
)
_ABOVE = """
WITH RECURSIVE
chosen(id, job, family) AS (SELECT d.id, d.job, d.family FROM drafts d WHERE d.kept AND {chosen}),
above(id) AS (
    SELECT j.parent FROM chosen c JOIN jobs j ON j.number = c.job WHERE j.parent IS NOT NULL
    UNION
    SELECT j.parent FROM above a JOIN drafts d ON d.id = a.id JOIN jobs j ON j.number = d.job WHERE j.parent IS NOT NULL
)
SELECT d.id FROM drafts d JOIN above a ON a.id = d.id WHERE d.stage = ?
UNION SELECT family FROM chosen WHERE family NOT IN (SELECT id FROM seeds)
"""
_BEGUN = """
WITH RECURSIVE
chosen(job, family) AS (SELECT d.job, d.family FROM drafts d WHERE d.kept AND d.family <> '' AND {chosen}),
line(job) AS (
    SELECT job FROM chosen
    UNION
    SELECT d.job FROM line l JOIN jobs j ON j.number = l.job JOIN drafts d ON d.id = j.parent
)
SELECT id FROM seeds WHERE coalesce(nullif(json_extract(record, '$.family'), ''), id) IN (SELECT family FROM chosen)
AND id IN (SELECT s.value FROM line l JOIN jobs j ON j.number = l.job, json_each(j.shown) s WHERE j.parent IS NULL)
"""
_ANSWER = (
    "kind, text, finish_reason, model, prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, refused, body"
)


class AnswerRow(NamedTuple):
    """An answer of any kind as the columns that hold it."""

    kind: str
    text: str
    finish_reason: str
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    refused: str | None = None
    body: str = "{}"


def _row_of(answer: Answer) -> AnswerRow:
    if isinstance(answer, Completion):
        c = answer
        more = c.reasoning or c.reasoning_from or c.calls or c.logprobs
        return AnswerRow(
            "completion", c.text, c.finish_reason, c.model, c.prompt_tokens, c.completion_tokens, c.cached_tokens,
            c.reasoning_tokens, c.refused, _rest(c, _HELD) if more else "{}",
        )  # fmt: skip
    if isinstance(answer, Execution):
        return AnswerRow("execution", answer.stdout, answer.status, body=_rest(answer, {"stdout", "status"}))
    word = "failed" if answer.failed else "ok"
    return AnswerRow("result", answer.content, word, body=_rest(answer, {"content", "failed"}))


def _rest(answer: Answer, held: set[str]) -> str:
    """What of an answer no column holds."""
    return canonical(answer.model_dump(mode="json", exclude=held, exclude_defaults=True))


_HELD = {*AnswerRow._fields}


def _answer(row: Sequence[Any]) -> Answer:
    stored = AnswerRow(*row)
    body: dict[str, Any] = {} if stored.body == "{}" else json.loads(stored.body)
    if stored.kind == "execution":
        return Execution(status=stored.finish_reason, stdout=stored.text, **body)
    if stored.kind == "result":
        return Result(content=stored.text, failed=stored.finish_reason == "failed", **body)
    told: dict[str, Any] = stored._asdict()
    del told["kind"], told["body"]
    return Completion(**told, **body) if body else Completion.model_construct(**told)


def _sent(usage: Usage) -> tuple[int, int, int]:
    """What can be in flight; what will come from a cache is not known beforehand."""
    return usage.requests, usage.prompt_tokens, usage.completion_tokens


def _planned(row: Sequence[Any]) -> PlannedJob:
    number, stage, payload, parent, shown, models, *rest = row
    job = Job(number, stage, json.loads(payload), parent, tuple(json.loads(shown)), json.loads(models))
    return PlannedJob(job, *rest)


def _stored_draft(row: Any) -> StoredDraft:
    id, rank, kept, stayed, parent, filter_, reason, detail, *draft = row
    return StoredDraft(id, rank, _draft(draft), bool(kept), _load(stayed), parent, filter_, reason, json.loads(detail))


def _draft(row: Sequence[Any]) -> Draft:
    stage, instruction, instances, flaw, meta, system, tools, family, facets = row
    return Draft(
        stage=stage, instruction=instruction, instances=_load(instances), flaw=flaw, meta=json.loads(meta),
        system=system, tools=_tools(tools), family=family, facets=json.loads(facets),
    )  # fmt: skip


def _sample(row: Sequence[Any]) -> Sample:
    instruction, instances, meta, system, tools, family, facets, id, stage, parent = row
    sample: Sample = _AS_SAMPLE.validate_python({
        "id": id, "stage": stage, "instruction": instruction, "instances": _load(instances), "meta": _decode(meta)[0],
        "parent": parent, "system": system, "tools": _tools(tools), "family": family,
        "facets": {} if facets == "{}" else _decode(facets)[0],
    })  # fmt: skip
    return sample


def _dump(records: Iterable[Record]) -> str:
    return canonical([record.model_dump(mode="json", exclude_defaults=True) for record in records])


_decode = json.JSONDecoder().raw_decode
"""What `json.loads` comes down to for text of our own, which has no space around it: half its time, row for row."""
# The validators themselves: what pydantic wraps around them costs as much as a short record.
_AS_SAMPLE = TypeAdapter(Sample).validator
_AS_INSTANCES = TypeAdapter(tuple[Instance, ...]).validator
_AS_TOOLS = TypeAdapter(tuple[Tool, ...]).validator


def _load(text: str | None) -> tuple[Instance, ...]:
    if text is None or text == "[]":
        return ()
    instances: tuple[Instance, ...] = _AS_INSTANCES.validate_json(text)
    return instances


def _tools(text: str) -> tuple[Tool, ...]:
    tools: tuple[Tool, ...] = () if text == "[]" else _AS_TOOLS.validate_json(text)
    return tools


@contextmanager
def boundary(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one line for a person.

    Raises:
        RunError: disk full, read-only, locked, or not a ledger.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise RunError(f"{path}: {_cure(str(error))}") from error
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}; nothing that was settled is lost") from error


_DAMAGED = re.compile(r"malformed|not a database|no such (table|column|index|view|trigger)|has no column|constraint")
"""What SQLite says of a file that is not as we wrote it."""


def _cure(said: str) -> str:
    if "full" in said:
        return "the disk is full: free some space and run again; nothing that was settled is lost"
    if "readonly" in said or "unable to open" in said:
        return "cannot be written: check the folder's permissions and run again"
    if "locked" in said:
        return "another program holds the ledger: close it and run again; nothing that was settled is lost"
    if _DAMAGED.search(said):
        return f"damaged or not a ledger ({said}): restore it from a copy, or begin another run with --run"
    return f"{said}; nothing that was settled is lost"


def _bring_up(db: sqlite3.Connection, path: Path, *, write: bool) -> None:
    """Bring a ledger to the present schema; refuse what cannot be brought there."""
    found = version(db)
    if found > newest():
        raise RunError(f"{path}: written by a newer selfinstruct (schema {found}); upgrade to read it")
    if found == 0:
        raise RunError(f"{path}: not a finished ledger; if the run died while it was begun, remove the folder")
    if found < FIRST:
        raise RunError(
            f"{path}: written by a selfinstruct of before 0.1 (schema {found}), which this one does not read; begin "
            "another run with --run"
        )
    if write:
        migrate(db)
    elif found < newest():
        raise RunError(f"{path}: written by an older selfinstruct (schema {found}); `generate` brings it up to date")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=LOCKED, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # query_only rather than mode=ro: a reader of a WAL file must be able to make its shared-memory file, and can in any
    # folder that may be written; in one that may not, `immutable` reads what the last checkpoint left.
    try:
        db = sqlite3.connect(path, timeout=LOCKED, isolation_level=None)
        db.execute("PRAGMA query_only = ON")
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None)
    return db


FILTERED_FROM = "filtered_from"
"""Fact of a ledger whose drafts were judged again: the run that it was copied from."""
