"""What became of each line of work, by facet, for a person: a line for the panel, tables for `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from selfinstruct.text.display import one_line


def line(rows: Sequence[dict[str, Any]]) -> str:
    """The values of a facet in one line, each with those kept of those decided."""
    return " · ".join(f"{one_line(row['value'])}: {row['kept']} of {row['kept'] + row['dropped']}" for row in rows)


def table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    """The values of a facet, with what they were dropped for, the most frequent reason first."""
    reasons = [reason for reason, _ in sum((Counter(row["reasons"]) for row in rows), Counter[str]()).most_common()]
    drawn = Table(box=None, padding=(0, 0, 0, 2), header_style="bold")
    for heading in (name, "made", "kept", "dropped", "undecided", "share", *reasons):
        # Of a heading each word has its line, so that many find room.
        words = one_line(heading).replace("_", " ").replace(" ", "\n")
        drawn.add_column(words, justify="right", vertical="bottom", overflow="fold")
    drawn.columns[0].justify, drawn.columns[0].no_wrap = "left", True
    for row in rows:
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        counts = [row["made"], row["kept"], row["dropped"], row["undecided"]]
        dropped = [row["reasons"].get(reason, 0) for reason in reasons]
        drawn.add_row(one_line(row["value"]), *map(str, counts), share, *map(str, dropped))
    return drawn
