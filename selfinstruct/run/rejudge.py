"""A run copied with its drafts judged again under other settings; no model is asked."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfinstruct.dataset.files import Written
from selfinstruct.errors import RunError
from selfinstruct.inputs.config import RunConfig, build, dump, merge, refuse
from selfinstruct.records import Draft, Job, Outcome, Reason, Verdict
from selfinstruct.run.folder import exported, write_config
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, resolve
from selfinstruct.store.ledger import FILTERED_FROM, Ledger
from selfinstruct.store.readings import summary
from selfinstruct.text.files import replacing

log = logging.getLogger(__name__)

Tally = dict[tuple[str, str], int]
"""Drafts by stage and what became of them: `kept`, or the reason for which they were dropped."""


class Rejudged(NamedTuple):
    """What became of a run's drafts in its copy."""

    before: Tally
    after: Tally
    written: list[Written]
    """The exports of the copy."""


def rejudge(folder: Path, copy: Path, filters: Mapping[str, Any]) -> Rejudged:
    """Copy a run with its drafts judged again; whole or not at all.

    Args:
        filters: settings of filters by name, in place of those that the run has.

    Raises:
        RunError: the copy exists, or cannot be written.
        ConfigError: settings that there are not.
    """
    if copy.exists():
        raise RunError(f"{copy}: exists already; name another with --into")
    with Ledger.open(folder) as ledger:
        told = other_settings(ledger, filters)
        before = _tally(ledger)
        try:
            with replacing(copy) as [unborn]:
                unborn.mkdir()
                ledger.copy_to(unborn)
                log.info("%s: copied; judging its drafts again", folder)
                after, written = _judged_again(unborn, told, source=folder)
        except OSError as error:
            raise RunError(f"{copy.parent}: cannot be written: {error.strerror}; name another with --into") from None
    return Rejudged(before, after, [one._replace(path=copy / one.path.relative_to(unborn)) for one in written])


def _judged_again(copy: Path, told: Told, *, source: Path) -> tuple[Tally, list[Written]]:
    with Ledger.open(copy, write=True) as ledger:
        facts = {FILTERED_FROM: str(source), "config": json.dumps(dump(told.config))}
        ledger.judge_again(list(judge_again(ledger, told)), facts)
        write_config(copy, told.config)
        return _tally(ledger), exported(ledger, copy / "export")


def _tally(ledger: Ledger) -> Tally:
    told = summary(ledger)
    tally = Counter({(drafts.stage, "kept"): drafts.kept for drafts in told.drafts if drafts.kept})
    for drop in told.drops:
        tally[drop.stage, drop.reason] += drop.drafts
    return dict(tally)


def other_settings(ledger: Ledger, filters: Mapping[str, Any]) -> Told:
    """What the run was told, with other settings of its filters.

    Raises:
        ConfigError: a filter or setting that there is not.
    """
    told = Told.stored(ledger)
    refuse({"filters": filters}, where="filter settings")
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
            drafts = [link.own(stored.draft) for stored in ledger.drafts(job=job.number)]
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
