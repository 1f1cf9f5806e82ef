"""`selfinstruct drops`: what was dropped, and why."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click

from selfinstruct.cli.family import told_detail
from selfinstruct.cli.flags import MOST, as_json, command, existing, run_argument
from selfinstruct.errors import ConfigError
from selfinstruct.store.ledger import Ledger, StoredDraft
from selfinstruct.store.readings import summary
from selfinstruct.text.display import json_line, one_line


@command("drops self-instruct-embedded", "drops self-instruct-embedded --reason near_duplicate -n 50")
@run_argument
@click.option("--reason", metavar="REASON", help="Only drops for this reason.")
@click.option("--filter", "filter_name", metavar="NAME", help="Only drops by this filter.")
@click.option("-n", "--number", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many at most.")
@as_json
def drops(run: str, reason: str | None, filter_name: str | None, number: int, output_dir: Path, as_json: bool) -> int:
    """Show what was dropped, by which filter and why; for a near-duplicate, of what."""
    with Ledger.open(existing(run, output_dir)) as ledger:
        told = summary(ledger).drops
        _check("for reason", reason, {drop.reason for drop in told})
        _check("by filter", filter_name, {drop.filter for drop in told})
        for draft in ledger.drafts(kept=False, reason=reason, filter=filter_name, limit=number):
            if as_json:
                fields = {"id": draft.id, "stage": draft.draft.stage, "filter": draft.filter, "reason": draft.reason}
                print(json_line({**fields, "detail": draft.detail, "instruction": draft.draft.instruction}))
            else:
                print(_drop(ledger, draft))
    return 0


def _check(word: str, name: str | None, known: Collection[str]) -> None:
    """Raise ConfigError when nothing was dropped for that reason or by that filter, and name those that dropped."""
    if name is not None and name not in known:
        there = ", ".join(sorted(known)) or "no drops at all"
        raise ConfigError(f"nothing was dropped {word} {name!r}; in this run: {there}")


def _drop(ledger: Ledger, draft: StoredDraft) -> str:
    text = draft.draft.instruction or str(draft.draft.meta.get("answer", ""))
    line = f"{draft.id}  {draft.reason} ({draft.filter})  {one_line(text[:400])[:200]}"
    if draft.detail:
        line += f"\n      {told_detail(draft.detail)}"
    if "of" in draft.detail:
        id = str(draft.detail["of"])
        line += f": {one_line(ledger.instructions([id]).get(id, ''))[:200]}"
    return line
