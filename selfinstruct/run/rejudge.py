"""Stored drafts judged again under other settings; nobody is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from selfinstruct.inputs.config import RunConfig, build, dump, merge
from selfinstruct.records import Draft, Job, Outcome, Reason, Verdict
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, resolve
from selfinstruct.store.ledger import Ledger


def other_settings(ledger: Ledger, filters: Mapping[str, Any]) -> Told:
    """What the run was told, with other settings of its filters.

    Raises:
        ConfigError: a filter or setting that there is not.
    """
    told = Told.stored(ledger)
    asked = build(RunConfig, merge(dump(told.config), {"filters": filters}), where="filter settings")
    return told._replace(config=resolve(asked, told.chain, told.seeds))


def judge_again(ledger: Ledger, told: Told) -> Iterator[tuple[int, list[Outcome]]]:
    """Every job's stored drafts under the filters that are told, in the order in which they were settled; no target
    holds.

    A draft whose parent is dropped now is dropped with it. A draft that is kept now and was dropped then stays without
    what would have followed from it: that needs a model.
    """
    state = RunState(told, target=None)
    dropped: set[str] = set()
    for event in ledger.events():
        if event.kind == "settle" and event.job is not None:
            job = ledger.job(event.job).job
            link = told.chain.link(job.stage)
            drafts = [link.own(stored.draft) for stored in ledger.drafts("d.job = ?", job.number)]
            yield job.number, judged(state, job, drafts, dropped)


def judged(state: RunState, job: Job, drafts: Sequence[Draft], dropped: set[str]) -> list[Outcome]:
    """The outcomes of a job's drafts where nothing is planned any more; adds those dropped to `dropped`."""
    outcomes = [
        _orphan(state, job, position, draft) if job.parent in dropped else state.judge(job, position, draft)
        for position, draft in enumerate(drafts, start=1)
    ]
    dropped |= {outcome.id for outcome in outcomes if outcome.sample is None}
    return outcomes


def _orphan(state: RunState, job: Job, position: int, draft: Draft) -> Outcome:
    verdict = Verdict(filter="parent", keep=False, reason=Reason.PARENT_DROPPED, detail={"parent": job.parent})
    return state.chain.link(job.stage).named(Outcome(f"{job.number}.{position}", draft, (verdict,), None))
