"""The same run again, from its ledger and nothing else: everything is derived anew, and compared byte for byte.

No model is asked. Jobs are performed with the answers that the ledger holds, in the order that it recorded.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfinstruct.dataset.trainers import AXOLOTL, LLAMA_FACTORY
from selfinstruct.errors import Fault, RunError
from selfinstruct.records import Answer, Draft, Job, Outcome
from selfinstruct.run import loop
from selfinstruct.run.asking import Asked, Asking, Put, asked_of
from selfinstruct.run.folder import exported
from selfinstruct.run.rejudge import judged
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.store.keys import answer_key, canonical
from selfinstruct.store.ledger import FILTERED_FROM, Event, Ledger, PlannedJob, StoredDraft

log = logging.getLogger(__name__)


class Verified(NamedTuple):
    """What a verification looked at, and found."""

    differences: list[str]
    """A line for each thing that is not as stored."""
    jobs: int
    drafts: int


def verify(folder: Path) -> Verified:
    """Derive a run and its exports again from the stored answers, and compare."""
    with Ledger.open(folder) as ledger, ledger.snapshot():
        jobs, drafts = ledger.count("jobs"), ledger.count("drafts")
        log.info("%s: deriving %d jobs and %d drafts again", folder, jobs, drafts)
        return Verified(loop.run(_all, ledger) + list(_of_exports(ledger, folder / "export")), jobs, drafts)


async def _all(ledger: Ledger) -> list[str]:
    return [line async for line in Verifier(ledger).run()]


def _of_exports(ledger: Ledger, folder: Path) -> Iterator[str]:
    """Files of the run's formats that are not, byte for byte, what its samples give now.

    Not those that describe what was exported last, which may have been other formats.
    """
    with tempfile.TemporaryDirectory() as scratch:
        exported(ledger, Path(scratch))
        for derived in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
            stored = folder / derived.relative_to(scratch)
            log.debug("%s: compared", stored)
            if derived.name not in (AXOLOTL, LLAMA_FACTORY) and stored.exists() and not _same(stored, derived):
                yield f"{stored}: not what the run's own settings give; `selfinstruct export` writes it again"


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


class Unanswered(Exception):
    """The ledger lacks an answer that a job needs."""


class Verifier:
    """Derives a run again, event by event; `run` yields a line for each thing that is not as stored."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        told = Told.stored(ledger)
        self._state = RunState(told, target=None)
        self._asked = asked_of(told.config, ledger.models())
        self._filtered = ledger.fact(FILTERED_FROM) is not None
        self._mended: dict[int, Job] = {}
        """Jobs as they should have been planned, where that is not as they were: what follows is derived from it."""
        self._dropped: set[str] = set()
        """Drafts dropped so far, for a ledger that was filtered."""
        self._states: dict[int, str] = {}
        """What the events say of each job."""
        self._ranks = 0
        """Drafts seen so far."""
        self._expected: deque[tuple[int, Job]] = deque()
        """Jobs that the last settlements have planned and the ledger has not shown yet, each with the one that it
        follows."""

    async def run(self) -> AsyncIterator[str]:
        """Every difference between what is stored and what is derived."""
        for event in self._ledger.events():
            if event.job is not None:
                if event.kind != "plan" and event.job not in self._states:
                    yield f"job {event.job}: {_STATES[event.kind]} without having been planned"
                self._states[event.job] = _STATES[event.kind]
            if event.kind == "target":
                self._state.target = None if self._filtered else event.value
            elif event.kind == "plan":
                for difference in self._plan(event):
                    yield difference
            elif event.kind == "settle":
                async for difference in self._settle(event):
                    yield difference
            elif event.kind == "fail":
                self._state.fail(self._job(event).job)
        for difference in self._left_over():
            yield difference

    def _job(self, event: Event) -> PlannedJob:
        stored = self._ledger.find_job(event.job or 0)
        if stored is None:
            raise RunError(f"{self._ledger.path}: event {event.seq} is about job {event.job}, which is not there")
        return stored._replace(job=self._mended.get(stored.job.number, stored.job))

    def _plan(self, event: Event) -> Iterator[str]:
        stored, after, *_ = self._job(event)
        if self._filtered:
            return
        derived: tuple[int | None, Job | None] = (None, None)
        if self._expected:
            derived = self._expected.popleft()
        elif after is None:
            derived = (None, self._state.plan())
        if canonical(derived) != canonical([after, stored]):
            found = f"{canonical(derived[1]):.120}" if derived[1] else "nothing"
            yield f"job {stored.number}: planned as {canonical(stored):.120}, derived as {found}"
            if derived[1] is not None and derived[1].number == stored.number:
                self._mended[stored.number] = derived[1]

    async def _settle(self, event: Event) -> AsyncIterator[str]:
        job = self._job(event).job
        try:
            drafts = await perform(self._state, self._ledger, self._asked, job)
        except Unanswered as missing:
            yield f"job {job.number}: settled, but {missing}"
            return
        except Fault as fault:
            yield f"job {job.number}: settled, but its answers end it with {fault.kind}"
            return
        if self._filtered:
            outcomes = judged(self._state, job, drafts, self._dropped)
        else:
            outcomes, follow_ups = self._state.settle(job, drafts)
            self._expected.extend((job.number, follow_up) for follow_up in follow_ups)
        stored = [_as_stored(self._ledger, draft) for draft in self._ledger.drafts(job=job.number)]
        derived = [_as_derived(outcome, rank) for rank, outcome in enumerate(outcomes, start=self._ranks + 1)]
        self._ranks += len(stored)
        if [canonical(one) for one in stored] != [canonical(one) for one in derived]:
            yield f"job {job.number}: " + _first_difference(stored, derived)

    def _left_over(self) -> Iterator[str]:
        """What the events do not account for."""
        if self._expected:
            yield f"job {self._expected[0][1].number}: follows from what was settled, but was never planned"
        for (number, *_), _, state, *_ in self._ledger.jobs():
            if (told := self._states.get(number, "never planned")) != state:
                yield f"job {number}: stored as {state}, but by its events {told}"
        if (drafts := self._ledger.count("drafts")) != self._ranks:
            yield f"{drafts} drafts stored, {self._ranks} of settled jobs"
        if strays := self._ledger.strays("verdicts"):
            yield f"{strays} verdicts on drafts that are not there"
        if strays := self._ledger.strays("reviews"):
            yield f"{strays} reviews of drafts that are not there"
        for id, key, job, nth, question, kind in self._ledger.asked():
            if key != answer_key(job, question, nth, kind):
                yield f"answer {id} of job {job}: its question is not the one that it is stored under"
        yield from self._ledger.miscounted()


_STATES = {"plan": "planned", "retry": "planned", "settle": "settled", "fail": "failed"}
"""What each event makes of its job."""


async def perform(state: RunState, ledger: Ledger, asked: Mapping[str, Asked], job: Job) -> list[Draft]:
    """The drafts of a job, made of its stored answers.

    Raises:
        Unanswered: the ledger lacks one.
        Refused: as the job met it.
    """

    async def answer(put: Put) -> Answer:
        found = ledger.find_answer(put.key)
        if found is None:
            raise Unanswered(f"no answer is stored to its question {put.text:.80}…")
        return found

    return await state.perform(job, Asking(job, state.config, asked, answer, max(1, ledger.sessions(job.number))))


def _as_stored(ledger: Ledger, stored: StoredDraft) -> dict[str, Any]:
    return {
        "id": stored.id,
        "rank": stored.rank,
        "draft": stored.draft.model_dump(mode="json"),
        "stayed": [instance.fields() for instance in stored.stayed] if stored.kept else None,
        "verdicts": ledger.verdicts(stored.id),
    }


def _as_derived(outcome: Outcome, rank: int) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "rank": rank,
        "draft": outcome.draft.model_dump(mode="json"),
        "stayed": None if outcome.sample is None else [instance.fields() for instance in outcome.sample.instances],
        "verdicts": [verdict.model_dump(mode="json") for verdict in outcome.verdicts],
    }


def _first_difference(stored: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]]) -> str:
    if len(stored) != len(derived):
        return f"{len(stored)} drafts stored, {len(derived)} derived"
    for one, other in zip(stored, derived, strict=True):
        for key in one:
            if canonical(one[key]) != canonical(other[key]):
                return f"draft {one['id']}: {key} stored as {one[key]!r:.100}, derived as {other[key]!r:.100}"
    return "differs"
