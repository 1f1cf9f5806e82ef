"""What tokens cost: prices as the person told them, or from `genai-prices`; said only where they are known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple, Protocol

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import BackendConfig, RunConfig, doors_of

HOSTED = "https://api.openai.com/v1"
"""Who is asked where no address is named."""
OURS = ("llamacpp", "vllm", "scripted")
"""Kinds of backend that nobody charges for."""
MILLION = 1_000_000


class Tokens(Protocol):
    """Whatever has been counted in tokens; the cached ones are among those of the prompts."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...


class Price(NamedTuple):
    """US dollars for a million tokens."""

    prompt: float
    cached: float
    """For those of a prompt that the server has in its prefix cache."""
    completion: float
    source: str
    """Who says so."""

    def of(self, tokens: Tokens) -> float:
        """US dollars for these."""
        fresh = tokens.prompt_tokens - tokens.cached_tokens
        dollars = fresh * self.prompt + tokens.cached_tokens * self.cached + tokens.completion_tokens * self.completion
        return dollars / MILLION

    def halved(self) -> Price:
        """As it is in batches."""
        return Price(self.prompt / 2, self.cached / 2, self.completion / 2, f"{self.source}, half of it in batches")


Prices = Mapping[str, Price | None]
"""What each model of a run costs, by its name in the run; None where that is not known."""


def price_of(backend: BackendConfig, model: str) -> Price | None:
    """What a model costs there: as told in the configuration, nothing for one of one's own, else as `genai-prices`
    knows it by the address, in batches half of that; None where nobody knows."""
    if backend.price_in is not None and backend.price_out is not None:
        cached = backend.price_in if backend.price_cached is None else backend.price_cached
        return Price(backend.price_in, cached, backend.price_out, "as you said")
    if backend.kind in OURS:
        return Price(0.0, 0.0, 0.0, "a model of your own")
    if backend.kind != "openai":
        return None
    urls = backend.urls or (os.environ.get("OPENAI_BASE_URL") or HOSTED,)
    prices = [price for url in urls if (price := _listed(url, model)) is not None]
    if len(prices) < len(urls):
        return None
    # Of several addresses the dearest, for which of them is asked is not known beforehand.
    price = max(prices, key=lambda price: (price.completion, price.prompt))
    return price.halved() if backend.batch else price


@cache
def _listed(url: str, model: str) -> Price | None:
    """The list price of a model at an address. Where it depends on the time of day, the dearest: a budget must hold."""
    from genai_prices import Usage, calc_price

    # Of a short prompt: where the price grows with its length, that begins at many times the prompts of this project.
    fresh, cached, written = (
        Usage(input_tokens=1000),
        Usage(input_tokens=1000, cache_read_tokens=1000),
        Usage(output_tokens=1000),
    )
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = [midnight + timedelta(hours=hour) for hour in range(24)]

    def highest(usage: Usage) -> float:
        prices = (
            calc_price(usage, model, provider_api_url=url, genai_request_timestamp=hour).total_price for hour in hours
        )
        return float(max(prices)) * MILLION / 1000

    try:
        source = f"genai-prices, {calc_price(fresh, model, provider_api_url=url).provider.name}"
        return Price(highest(fresh), highest(cached), highest(written), source)
    except LookupError:
        return None


def prices_of(config: RunConfig, models: Mapping[str, str]) -> Prices:
    """What each model of a run costs, by its name in the run (`config.doors_of`).

    Args:
        models: the models by the names that their backends gave, as far as these are known.
    """
    return {door: price_of(backend, models.get(door) or backend.model) for door, backend in doors_of(config).items()}


def known(config: RunConfig, models: Mapping[str, str]) -> dict[str, Price]:
    """What each model of a run costs, where a budget needs to know.

    Raises:
        ConfigError: the price of one is not known.
    """
    found: dict[str, Price] = {}
    for door, price in prices_of(config, models).items():
        if price is None:
            raise _unknown(config, door, models.get(door) or doors_of(config)[door].model)
        found[door] = price
    return found


def _unknown(config: RunConfig, door: str, name: str) -> ConfigError:
    """The error for a model whose price is not known, or which is not even named."""
    role = door.partition(":")[0]
    named, flags = "--model", "--price-in and --price-out"
    if role in config.roles:
        named, flags = f"roles.{role}.model", f"price_in and price_out in roles.{role}"
    problem = f"the price of {name} there is not known" if name else "no model is named, so no price is known"
    cure = "" if name else f"name it with {named}, or "
    return ConfigError(
        f"budget.cost: {problem}; {cure}say what a million tokens cost, in US dollars, with {flags}, or leave the"
        " budget out"
    )


def cost(prices: Prices, spent: Iterable[tuple[str, Tokens]]) -> float | None:
    """US dollars for all that was asked of these models, None where the price of one is not known."""
    dollars = 0.0
    for one in costs(prices, spent).values():
        if one is None:
            return None
        dollars += one
    return dollars


def costs(prices: Prices, spent: Iterable[tuple[str, Tokens]]) -> dict[str, float | None]:
    """US dollars for what was asked of each model, by its name in the run; None where tokens were spent and the price
    is not known."""
    found: dict[str, float | None] = {}
    for door, tokens in spent:
        before, price = found.get(door, 0.0), prices.get(door)
        dollars = price.of(tokens) if price else None if tokens.prompt_tokens or tokens.completion_tokens else 0.0
        found[door] = None if before is None or dollars is None else before + dollars
    return found
