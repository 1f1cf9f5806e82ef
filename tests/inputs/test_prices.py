"""What tokens cost: by address and model where that is known, as told where it is told, and never guessed."""

from __future__ import annotations

import pytest

from selfinstruct.inputs.config import BackendConfig, RunConfig, Tree, build, filled_role
from selfinstruct.inputs.prices import Price, cost, price_of, prices_of
from selfinstruct.records import Usage

OPENAI = {"kind": "openai", "model": "gpt-4o-mini"}


def backend(**given: object) -> BackendConfig:
    return build(BackendConfig, given, where="test")


@pytest.mark.parametrize(
    ("url", "model", "provider"),
    [
        (None, "gpt-4o-mini", "OpenAI"),
        ("https://api.openai.com/v1", "gpt-4o-mini-2024-07-18", "OpenAI"),
        ("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "OpenRouter"),
        ("https://api.mistral.ai/v1", "mistral-small-latest", "Mistral"),
        ("https://api.deepseek.com", "deepseek-chat", "Deepseek"),
    ],
)
def test_a_hosted_model_has_the_list_price_of_its_address(url: str | None, model: str, provider: str) -> None:
    price = price_of(backend(kind="openai", base_url=url), model)
    assert price is not None
    assert price.source == f"genai-prices, {provider}"
    assert 0 < price.cached <= price.prompt <= price.completion


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"kind": "openai", "base_url": "http://localhost:8000/v1"}, "gpt-4o-mini"),
        ({"kind": "openai"}, "no-such-model"),
        ({"kind": "of-another-package"}, "gpt-4o-mini"),
    ],
)
def test_what_nobody_knows_has_no_price(given: Tree, model: str) -> None:
    assert price_of(backend(**given), model) is None


def test_the_environments_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert price_of(backend(**OPENAI), "gpt-4o-mini") is None


@pytest.mark.parametrize("kind", ["llamacpp", "vllm", "scripted"])
def test_a_model_of_ones_own_costs_nothing_unless_one_says_so(kind: str) -> None:
    given = {"kind": kind, **({"script": "x"} if kind == "scripted" else {})}
    free = price_of(backend(**given), "m")
    rented = price_of(backend(**given, price_in=0.1, price_out=0.4), "m")
    assert free is not None
    assert rented is not None
    assert free.of(Usage(1, 10**6, 0, 10**6)) == 0
    assert rented.of(Usage(1, 10**6, 0, 10**6)) == pytest.approx(0.5)


def test_batches_cost_half(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(1, 10_000, 3_000, 5_000)
    whole, half = price_of(backend(**OPENAI), "gpt-4o-mini"), price_of(backend(**OPENAI, batch=True), "gpt-4o-mini")
    assert whole is not None
    assert half is not None
    assert half.of(usage) == pytest.approx(whole.of(usage) / 2)


def test_cached_tokens_are_part_of_the_prompt_at_their_own_price() -> None:
    assert Price(2.0, 0.5, 10.0, "").of(Usage(1, 1_000_000, 400_000, 100_000)) == pytest.approx(1.2 + 0.2 + 1.0)


def test_where_the_price_depends_on_the_time_of_day_the_dearest_is_taken() -> None:
    price = price_of(backend(kind="openai", base_url="https://api.deepseek.com"), "deepseek-chat")
    assert price is not None
    assert (price.prompt, price.completion) == pytest.approx((0.27, 1.1))


def test_each_role_has_its_own_price() -> None:
    tree = {"backend": {"kind": "llamacpp"}, "judge": {"kind": "openai", "model": "gpt-4o-mini"}}
    prices = prices_of(build(RunConfig, tree, where="test"), {"writer": "m", "judge": "gpt-4o-mini"})
    used = {"writer": Usage(9, 10**6, 0, 10**6), "judge": Usage(1, 10**6, 0, 0)}
    assert cost(prices, used.items()) == pytest.approx(prices["judge"].prompt)  # type: ignore[arg-type, union-attr]


def test_a_filled_role_another_model_does_not_take_over_the_writers_price() -> None:
    told = {"price_in": 1.0, "price_out": 2.0, **OPENAI}
    [other] = filled_role(build(RunConfig, {"backend": told, "judge": {"model": "gpt-4o"}}, where="test"), "judge")
    [same] = filled_role(build(RunConfig, {"backend": told, "judge": {"extra": {"seed": 1}}}, where="test"), "judge")
    assert (other.price_in, same.price_in) == (None, 1.0)


def test_one_unknown_price_makes_the_whole_unknown_unless_it_was_not_asked() -> None:
    prices = {"writer": Price(1, 1, 1, ""), "judge": None}
    writer, judge = Usage(1, 10**6), Usage(1, 5)
    assert cost(prices, [("writer", writer), ("judge", judge)]) is None  # type: ignore[arg-type]
    assert cost(prices, [("writer", writer), ("judge", Usage())]) == 1  # type: ignore[arg-type]
