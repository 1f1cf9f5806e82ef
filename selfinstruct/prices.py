"""What tokens cost: prices from `genai-prices`, said only where they are known."""

from __future__ import annotations

from selfinstruct.config import BackendConfig, RunConfig


def cost(backend: BackendConfig, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """US dollars for these tokens; 0 for a model of one's own, None where the price is not known.

    A server with an address of its own is taken for one whose price nobody knows.
    """
    if backend.kind in ("llamacpp", "vllm", "scripted"):
        return 0.0
    if backend.base_url:
        return None
    from genai_prices import Usage, calc_price

    try:
        usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
        return float(calc_price(usage, model_ref=model, provider_id="openai").total_price)
    except LookupError:
        return None


def run_cost(config: RunConfig, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """As `cost`, for what a run asked; with a judge of its own None unless both are free, for whose tokens they are is
    not told apart."""
    dollars = cost(config.backend, model, prompt_tokens, completion_tokens)
    if config.judge is None or (dollars == 0 and cost(config.judge, config.judge.model, 1, 1) == 0):
        return dollars
    return None


def told(dollars: float | None) -> str:
    """A cost for a person."""
    if dollars is None:
        return "price unknown"
    return "no cost" if dollars == 0 else f"${dollars:,.2f}" if dollars >= 1 else f"${dollars:.4f}"
