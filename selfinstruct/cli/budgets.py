"""What a person is told of budgets and costs: before a run, while it works, and afterwards.

The sentences that a run itself stores and sends stand in `run.wording`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from selfinstruct.inputs.config import BudgetConfig
from selfinstruct.inputs.prices import Price
from selfinstruct.records import Usage
from selfinstruct.run import wording
from selfinstruct.run.budget import Cap, What, amount, caps_of
from selfinstruct.text.display import bill

Standings = Mapping[What, tuple[float, float]]
"""Of each budget how much is spent, and of how much."""


def stand(budgets: Standings) -> str:
    """How budgets stand: `$1.20 of $5.00, 31 of 100 requests`."""
    return ", ".join(wording.standing(Cap(what, limit), spent) for what, (spent, limit) in budgets.items())


def forecasts(budgets: Standings, in_all: Callable[[float], float | None]) -> list[str]:
    """How each budget stands, and what the whole run would take of it.

    Args:
        in_all: what the whole run takes, by what is spent; None while that is not known.
    """
    return [_forecast(Cap(what, limit), spent, in_all(spent)) for what, (spent, limit) in budgets.items()]


def _forecast(cap: Cap, spent: float, whole: float | None) -> str:
    more = "" if whole is None else f", about {wording.amount(cap, whole)} in all"
    return wording.standing(cap, spent) + more


def cost_forecast(spent: float | None, whole: float | None) -> str:
    """What a run cost so far, and what it will in all, where that is known."""
    return bill(spent) if whole is None else f"{bill(spent)}, about {bill(whole)} in all"


def estimated_cost(price: Price | None, usage: Usage) -> str:
    """What so much would cost, and who says so."""
    if price is None:
        return "price unknown; --price-in and --price-out say it, in US dollars for a million tokens"
    if not price.prompt and not price.completion:
        return f"no cost ({price.source})"
    per = f"${price.prompt:g} in, ${price.completion:g} out for a million tokens ({price.source})"
    return f"about {bill(price.of(usage))}, at {per}"


def reaches(budget: BudgetConfig, usage: Usage, price: Price | None, target: int | None) -> Iterator[str]:
    """How far each budget would reach, for a run that takes so much; how long it takes is not foreseen."""
    for cap in caps_of(budget):
        if cap.what != "time":
            yield f"budget of {wording.limit(cap)}: {_reach(cap, amount(cap.what, usage, price), target)}"


def _reach(cap: Cap, whole: float, target: int | None) -> str:
    if whole <= cap.limit:
        return f"enough, about {whole / cap.limit:.0%} of it"
    share = cap.limit / whole
    return f"enough for about {share:.0%}" + (f", {int(share * target):,} tasks" if target else "")
