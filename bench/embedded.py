"""What the embedded model gives: tokens and accepted instructions a minute, and accepted instructions per 1,000 tokens.

    python bench/embedded.py [--seconds 60]

Each recipe in each dialect gets the same time, one after the other; the model's loading is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from selfinstruct.backends import Backend, open_backend
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.events import Settled
from selfinstruct.run.folder import begin
from selfinstruct.run.state import RunState
from selfinstruct.run.told import read


class Yield(NamedTuple):
    """What a recipe brought in its time."""

    minutes: float
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    inventing: int
    """Of these tokens, those of the answers that instructions were read from."""
    drafts: int
    instructions: int
    tasks: int
    first_task: float


async def measure(recipe: str, dialect: str, seconds: float, folder: Path, backend: Backend) -> Yield:
    """One recipe in one dialect, for so many seconds."""
    tree = {"n": 100_000, "recipe": {"name": recipe}, "backend": {"dialect": dialect}, "patience": 1000}
    told = read(build(RunConfig, tree, where="bench"))
    with begin(folder, told, {"writer": backend.model}) as ledger:
        state = RunState.load(ledger, told)
        engine = Engine(state, ledger, World({"writer": backend}))
        began, first = time.monotonic(), float("nan")
        asyncio.get_running_loop().call_later(seconds, engine.stop)
        async with aclosing(engine.run()) as events:
            async for event in events:
                if isinstance(event, Settled) and state.tasks and first != first:
                    first = time.monotonic() - began
        minutes = (time.monotonic() - began) / 60
        tokens = ledger.query("SELECT sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens) FROM answers")[0]
        listing = "SELECT sum(completion_tokens) FROM spend WHERE stage = ?"
        inventing = ledger.query(listing, state.chain.first.pooled)[0][0]
        drafts = ledger.query("SELECT count(*) FROM drafts WHERE stage = ?", state.chain.first.pooled)[0][0]
        return Yield(minutes, *tokens, inventing or 0, drafts, len(state.pool.kept), state.tasks, first)


async def run(seconds: float) -> None:
    config = build(RunConfig, {}, where="bench").backend
    began = time.monotonic()
    async with open_backend(config, notice=print) as backend:
        print(f"{backend.model}: up in {time.monotonic() - began:.1f} s; {seconds:.0f} s for each\n")
        head = ["recipe", "dialect", "tokens/s out", "tokens/s in (cached)", "instructions/min", "of drafts"]
        head += ["per 1,000 tokens", "tasks/min", "first task"]
        print("| " + " | ".join(head) + " |")
        print("|---|---|" + "---:|" * (len(head) - 2))
        for recipe, dialect in (
            ("self-instruct", "completion"),
            ("self-instruct", "chat"),
            ("alpaca", "completion"),
            ("alpaca", "chat"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                y = await measure(recipe, dialect, seconds, Path(folder), backend)
            row = (
                recipe, dialect, f"{y.tokens / y.minutes / 60:.0f}",
                f"{y.prompt_tokens / y.minutes / 60:.0f} ({y.cached_tokens / max(1, y.prompt_tokens):.0%})",
                f"{y.instructions / y.minutes:.0f}", f"{y.instructions / max(1, y.drafts):.0%}",
                f"{1000 * y.instructions / max(1, y.inventing):.1f}", f"{y.tasks / y.minutes:.1f}",
                f"{y.first_task:.0f} s",
            )  # fmt: skip
            print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the embedded model gives.")
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
