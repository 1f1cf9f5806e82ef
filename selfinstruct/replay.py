"""The same run again, from its ledger: `verify` derives everything anew and compares; `judge_again` judges under
other settings.

No model is asked. Jobs are performed with the answers that the ledger holds, in the order that it recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from selfinstruct.config import RunConfig, build, dump, merge
from selfinstruct.engine import Asking
from selfinstruct.errors import Fault, RunError
from selfinstruct.records import Completion, Draft, Job, Outcome, Reason, Request, Verdict
from selfinstruct.runs import RunState, resolve, stored_config
from selfinstruct.store.keys import answer_key, canonical
from selfinstruct.store.ledger import Event, Ledger

FILTERED_FROM = "filtered_from"
"""Fact of a ledger whose drafts were judged again: the run that it was copied from."""


class Unanswered(Exception):
    """The ledger lacks an answer that a job needs."""


class Verifier:
    """Derives a run again, event by event; `run` yields a line for each thing that is not as stored."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._config = stored_config(ledger)
        self._state = RunState(self._config, ledger.seeds(), ledger.prompts(), target=None)
        self._model = ledger.fact("model") or ""
        self._filtered = ledger.fact(FILTERED_FROM) is not None
        self._jobs = {stored.job.number: stored for stored in ledger.jobs()}
        self._expected: deque[Job] = deque()
        """Jobs that the last settlements have planned and the ledger has not shown yet."""

    async def run(self) -> AsyncIterator[str]:
        """Every difference between what is stored and what is derived."""
        for event in self._ledger.events():
            if event.kind == "target":
                self._state.target = None if self._filtered else event.value
            elif event.kind == "plan":
                for difference in self._plan(event):
                    yield difference
            elif event.kind == "settle":
                async for difference in self._settle(event):
                    yield difference
            elif event.kind == "fail":
                self._state.fail(self._job(event))
        if self._expected:
            yield f"job {self._expected[0].number}: follows from what was settled, but was never planned"

    def _job(self, event: Event) -> Job:
        if event.job not in self._jobs:
            raise RunError(f"{self._ledger.path}: event {event.seq} is about job {event.job}, which is not there")
        return self._jobs[event.job].job

    def _plan(self, event: Event) -> Iterator[str]:
        stored = self._job(event)
        if self._filtered:
            return
        if self._jobs[stored.number].after is not None:
            derived = self._expected.popleft() if self._expected else None
        else:
            derived = self._state.plan()
        if derived is None or _plain(derived) != _plain(stored):
            found = "nothing" if derived is None else f"{_plain(derived)!r:.120}"
            yield f"job {stored.number}: planned as {_plain(stored)!r:.120}, derived as {found}"

    async def _settle(self, event: Event) -> AsyncIterator[str]:
        job = self._job(event)
        try:
            drafts = await perform(self._state, self._ledger, self._model, job)
        except Unanswered as missing:
            yield f"job {job.number}: settled, but {missing}"
            return
        except Fault as fault:
            yield f"job {job.number}: settled, but its answers end it with {fault.kind}"
            return
        outcomes, follow_ups = self._state.settle(job, drafts)
        if not self._filtered:
            self._expected.extend(follow_ups)
        stored = [_as_stored(self._ledger, draft.id) for draft in self._ledger.drafts("d.job = ?", job.number)]
        derived = [_as_derived(outcome) for outcome in outcomes]
        if [canonical(one) for one in stored] != [canonical(one) for one in derived]:
            yield f"job {job.number}: " + _first_difference(stored, derived)


async def perform(state: RunState, ledger: Ledger, model: str, job: Job) -> list[Draft]:
    """The drafts of a job, made of its stored answers.

    Raises:
        Unanswered: the ledger lacks one.
        Refused: as the job met it.
    """

    async def answer(job: Job, request: Request, text: str, nth: int) -> Completion:
        completion = ledger.completion(answer_key(job.number, text, nth))
        if completion is None:
            raise Unanswered(f"no answer is stored to its request {text:.80}…")
        return completion

    return await state.recipe.perform(job, Asking(job, model, state.config.backend.extra, answer))


def _plain(job: Job) -> str:
    return canonical([job.number, job.stage, job.parent, job.payload])


def _as_stored(ledger: Ledger, id: str) -> dict[str, Any]:
    stored = next(ledger.drafts("d.id = ?", id))
    stayed = [i.model_dump() for i in stored.stayed] if stored.kept else None
    return {"id": id, "draft": stored.draft.model_dump(mode="json"), "stayed": stayed, "verdicts": ledger.verdicts(id)}


def _as_derived(outcome: Outcome) -> dict[str, Any]:
    stayed = None if outcome.sample is None else [i.model_dump() for i in outcome.sample.instances]
    verdicts = [verdict.model_dump(mode="json") for verdict in outcome.verdicts]
    return {"id": outcome.id, "draft": outcome.draft.model_dump(mode="json"), "stayed": stayed, "verdicts": verdicts}


def _first_difference(stored: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]]) -> str:
    if len(stored) != len(derived):
        return f"{len(stored)} drafts stored, {len(derived)} derived"
    for one, other in zip(stored, derived, strict=True):
        for key in one:
            if canonical(one[key]) != canonical(other[key]):
                return f"draft {one['id']}: {key} stored as {one[key]!r:.100}, derived as {other[key]!r:.100}"
    return "differs"


# -- judging again
# -----------------------------------------------------------------------------------------------------------


def other_settings(ledger: Ledger, filters: Mapping[str, Any]) -> RunConfig:
    """The run's configuration with other settings of its filters.

    Raises:
        ConfigError: a filter or setting that there is not.
    """
    tree = merge(dump(stored_config(ledger)), {"filters": filters})
    return resolve(build(RunConfig, tree, where="filter settings"), ledger.seeds())


def judge_again(ledger: Ledger, config: RunConfig) -> Iterator[tuple[int, list[Outcome]]]:
    """Every job's stored drafts under the filters of `config`, in the order in which they were settled; no target
    holds.

    A draft whose parent is dropped now is dropped with it. A draft that is kept now and was dropped then stays without
    what would have followed from it: that needs a model.
    """
    state = RunState(config, ledger.seeds(), ledger.prompts(), target=None)
    jobs = {stored.job.number: stored for stored in ledger.jobs()}
    dropped: set[str] = set()
    for event in ledger.events():
        if event.kind == "settle" and event.job is not None:
            job = jobs[event.job].job
            drafts = [stored.draft for stored in ledger.drafts("d.job = ?", job.number)]
            outcomes = [
                _orphan(job, position, draft) if job.parent in dropped else state.judge(job, position, draft)
                for position, draft in enumerate(drafts, start=1)
            ]
            dropped |= {outcome.id for outcome in outcomes if outcome.sample is None}
            yield job.number, outcomes


def _orphan(job: Job, position: int, draft: Draft) -> Outcome:
    verdict = Verdict(filter="parent", keep=False, reason=Reason.PARENT_DROPPED, detail={"parent": job.parent})
    return Outcome(f"{job.number}.{position}", draft, (verdict,), None)
