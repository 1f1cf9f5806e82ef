"""Budgets in words, for the ledger, for the event that ends a run, and for whoever shows how they stand."""

from __future__ import annotations

from selfinstruct.run.budget import Cap, Reached
from selfinstruct.text.display import duration, money

_DONE = {"requests": "sent", "time": "worked"}


def amount(cap: Cap, value: float) -> str:
    """An amount of a budget, without its unit where that is a word: `$1.20`, `4,812`, `1 h 20 min`."""
    if cap.what == "cost":
        return money(value)
    return duration(value) if cap.what == "time" else f"{value:,.0f}"


def limit(cap: Cap) -> str:
    """What a budget allows: `$5.00`, `5,000 tokens`, `2 h 00 min of work`."""
    return amount(cap, cap.limit) + {"cost": "", "time": " of work"}.get(cap.what, f" {cap.what}")


def standing(cap: Cap, spent: float) -> str:
    """How much of a budget is spent: `4,812 of 5,000 tokens`."""
    return f"{amount(cap, spent)} of {limit(cap)}"


def reached(end: Reached) -> str:
    """That a budget is reached, why, and what to do."""
    cap = end.cap
    why = f"{amount(cap, end.spent)} {_DONE.get(cap.what, 'spent')}"
    if cap.what in ("cost", "tokens") and end.more:
        why += f", and the next request may take {amount(cap, end.more)}"
    return f"budget of {limit(cap)} reached: {why}; a larger --max-{cap.what} and the same command continue it"
