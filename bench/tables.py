"""Markdown tables on standard output, a row as soon as it is known."""

from __future__ import annotations

from statistics import median


def table(*columns: str) -> None:
    """The head; the first column is words, the others are numbers."""
    print("\n| " + " | ".join(columns) + " |\n|---|" + "---:|" * (len(columns) - 1), flush=True)


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and the extremes where there are several."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
