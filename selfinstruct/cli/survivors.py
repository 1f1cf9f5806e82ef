"""How an evolution fares: what survived each round, what each operator's evolutions were dropped for, and what the
judge said."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.table import Table

from selfinstruct.records import Outcome, Reason
from selfinstruct.store.ledger import Ledger

KEPT, OPEN = "kept", "open"
UNDECIDED = (OPEN, Reason.SURPLUS)
"""Fates that are no word on an evolution: its answer is still to come, or was one too many."""
_DRAFTS = (
    "SELECT stage, kept, round, operator, nullif(judgement, ''), reason, drafts FROM tally_drafts"
    " ORDER BY 1, 2, 3, 4, 5, 6"
)


class Survivors:
    """Counts of evolutions by round, operator and fate: `kept`, `open`, or the reason for which one was dropped.

    They are read from the ledger once; `see` keeps up with a run that goes on.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._counts: Counter[tuple[int, str, str]] = Counter()
        self._judgements: Counter[str] = Counter()
        for row in ledger.query(_DRAFTS):
            self._count(*row)

    def see(self, outcome: Outcome) -> None:
        """Count a draft that has been judged."""
        draft, reason = outcome.draft, outcome.verdicts[-1].reason
        meta: dict[str, Any] = draft.meta
        said = meta.get("judgement")
        self._count(draft.stage, outcome.sample is not None, meta["round"], meta["operator"], said, reason)

    def _count(
        self, stage: str, kept: bool, round: int, operator: str, said: str | None, reason: str, count: int = 1
    ) -> None:
        if said is not None:
            self._judgements[said] += count
        if stage == "evolve":
            self._counts[round, operator, OPEN if kept else reason] += count
        elif reason != Reason.PARENT_DROPPED:
            # An answer that was dropped with its evolution (`filter`) leaves that with the evolution's own reason.
            self._counts[round, operator, OPEN] -= count
            self._counts[round, operator, KEPT if kept else reason] += count

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        operators = [_operator(name, fates) for name, fates in self._fates(1)]
        return {"rounds": self.rounds(), "operators": operators, "judgements": dict(self._judgements.most_common())}

    def rounds(self) -> list[dict[str, Any]]:
        """How many evolutions of each round are made, kept, eliminated and undecided, and what share is kept of those
        decided."""
        return [_round(number, fates) for number, fates in self._fates(0)]

    def _fates(self, place: int) -> list[tuple[Any, Counter[str]]]:
        """Counts of fates by round (place 0) or by operator (place 1), in order."""
        found: dict[Any, Counter[str]] = {}
        for key, count in self._counts.items():
            found.setdefault(key[place], Counter())[key[2]] += count
        return sorted(found.items())


def _round(number: int, fates: Counter[str]) -> dict[str, Any]:
    evolved, kept, undecided = fates.total(), fates[KEPT], sum(fates[fate] for fate in UNDECIDED)
    decided = evolved - undecided
    return {"round": number, "evolved": evolved, "kept": kept, "eliminated": decided - kept, "undecided": undecided,
            "share": kept / decided if decided else None}  # fmt: skip


def _operator(name: str, fates: Counter[str]) -> dict[str, Any]:
    dropped = {fate: count for fate, count in fates.most_common() if count and fate not in (KEPT, OPEN)}
    return {"operator": name, "evolved": fates.total(), "kept": fates[KEPT], "dropped": dropped}


# -- for a person -----------------------------------------------------------------------------------------------------


def told_rounds(rounds: list[dict[str, Any]]) -> str:
    """Survivors by round in one line: those kept of those decided."""
    return " · ".join(f"{row['round']}: {row['kept']} of {row['kept'] + row['eliminated']}" for row in rounds)


def told_judgements(judgements: dict[str, int]) -> str:
    """What the judge said; that it mostly said nothing clear comes first."""
    total, unclear = sum(judgements.values()), judgements.get("unclear", 0)
    counts = ", ".join(f"{name} {count}" for name, count in judgements.items())
    if 2 * unclear > total:
        return f"the judge gave no clear word in {unclear} of {total}: {counts}"
    return f"judged: {counts}"


def rounds_table(rounds: list[dict[str, Any]]) -> Table:
    """Survivors by round."""
    table = _table("round", "evolved", "kept", "eliminated", "undecided", "share")
    for row in rounds:
        *counts, share = row.values()
        table.add_row(*map(str, counts), "" if share is None else f"{share:.0%}")
    return table


def operators_table(operators: list[dict[str, Any]]) -> Table:
    """Operators by what their evolutions were dropped for, the most frequent reason first."""
    dropped: Counter[str] = Counter()
    for row in operators:
        dropped.update(row["dropped"])
    reasons = [reason for reason, _ in dropped.most_common()]
    table = _table("operator", "evolved", "kept", *reasons)
    table.columns[0].justify, table.columns[0].no_wrap = "left", True
    for row in operators:
        table.add_row(
            row["operator"], *map(str, [row["evolved"], row["kept"], *(row["dropped"].get(r, 0) for r in reasons)])
        )
    return table


def _table(*headings: str) -> Table:
    """A table of numbers; of a heading each word has its line, so that many find room."""
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="bold")
    for heading in headings:
        table.add_column(
            heading.replace("_", " ").replace(" ", "\n"), justify="right", vertical="bottom", overflow="fold"
        )
    return table
