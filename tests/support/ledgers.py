"""Ledgers for tests of exports: samples as given, without a run that made them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfinstruct.dataset.files import Written, export
from selfinstruct.inputs.config import ExportConfig, RunConfig, dump
from selfinstruct.records import Draft, Instance, Job, Outcome, Sample, Seed, Verdict
from selfinstruct.store.ledger import Ledger

STAGE = "instances"
KEPT = Verdict(filter="none", keep=True)


def task(instruction: str, *cases: tuple[str, str], **meta: Any) -> Draft:
    """A draft that is kept, with its instances as (input, output)."""
    instances = tuple(Instance(input=given, output=made) for given, made in cases)
    return Draft(stage=STAGE, instruction=instruction, instances=instances, meta=meta)


def empty(folder: Path, seeds: Iterable[Seed] = ()) -> Ledger:
    """The ledger of a run that has done nothing yet."""
    folder.mkdir(parents=True)
    facts = {"config": json.dumps(dump(RunConfig())), "version": "0", "models": json.dumps({"writer": "m"})}
    return Ledger.create(folder, facts=facts, seeds=seeds, prompts={}, target=1)


def settled(
    ledger: Ledger, draft: Draft, verdict: Verdict = KEPT, parent: str | None = None, shown: tuple[str, ...] = ()
) -> str:
    """The id of a draft of a job of its own, as it was judged."""
    job = Job(ledger.last_job() + 1, draft.stage, {}, parent, shown)
    ledger.plan(job)
    id = f"{job.number}.1"
    sample = Sample(id=id, **draft.model_dump(exclude={"flaw"}), parent=parent) if verdict.keep else None
    ledger.settle(job, [Outcome(id, draft, (verdict,), sample)], [])
    return id


def ledger_of(folder: Path, *drafts: Draft, seeds: tuple[Seed, ...] = ()) -> Path:
    """A run's folder whose ledger keeps these drafts, with ids 1.1, 2.1, …"""
    with empty(folder, seeds) as ledger:
        for draft in drafts:
            settled(ledger, draft)
    return folder


def exported(
    folder: Path, *formats: str, to: Path | None = None, replace: bool = True, **options: Any
) -> list[Written]:
    """What `export` wrote into `export/` beside the ledger, or elsewhere."""
    with Ledger.open(folder) as ledger:
        return export(ledger, STAGE, formats, to or folder / "export", ExportConfig(**options), replace=replace)


def lines(path: Path) -> list[Any]:
    """The rows of a JSONL file, or of all those in a folder, in the order of their names."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
