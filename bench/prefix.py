"""What prompts that begin alike save on a real vLLM, and whether the tasks become more alike by it.

    python bench/prefix.py --vllm-python .venv-vllm/bin/python --model .venv-vllm/smollm2-135m-instruct \
        [--in-flight 16] [--prompts 96] [--runs 1] [--server-arg=--block-size=32]

One vLLM, started through our own backend; Self-Instruct with `shared_prefixes` and without, in turns, with the same
seeds and an empty prefix cache each time. A run ends with so many prompts for instructions settled. Likeness compares
as many instructions of the one as of the other: the highest ROUGE-L of each with all others that were kept.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from real_vllm import GENERATED, HITS, LOOKED_UP, Server, arguments, backend_of, served

from selfinstruct.config import RunConfig, Tree, build
from selfinstruct.engine import Engine, Settled
from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.report.words import verb_and_noun
from selfinstruct.runs import RunState, begin, read
from selfinstruct.store.ledger import Ledger

COUNTERS = (HITS, LOOKED_UP, GENERATED)


class Run(NamedTuple):
    """How one went."""

    seconds: float
    hits: float
    looked_up: float
    generated: float
    tasks: int
    drafts: int
    kept: list[str]
    """Instructions, in the order in which they were kept."""
    stages: list[tuple[str, int, int, int]]
    """Stage, its answers, tokens of their prompts, those of them that were cached."""
    load: float


async def run(server: Server, tree: Tree, prompts: int, alone: bool, folder: Path) -> Run:
    """Self-Instruct until so many prompts for instructions are settled; `alone` leaves out what follows from them."""
    told = read(build(RunConfig, tree, where="bench"))
    with begin(folder, told, server.backend.model) as ledger:
        state = RunState.load(ledger, told.config)
        if alone:
            state.recipe.follow = lambda *_: ()  # type: ignore[method-assign]
        engine = Engine(state, ledger, server.backend, model=server.backend.model)
        server.forget()
        before, began = server.counters(*COUNTERS), time.perf_counter()
        async with aclosing(engine.run()) as events:
            async for event in events:
                if isinstance(event, Settled) and state.first_stage_done >= prompts:
                    break
        seconds = time.perf_counter() - began
        counted = [now - then for now, then in zip(server.counters(*COUNTERS), before, strict=True)]
        kept = [sample.instruction for sample in ledger.samples("d.stage = 'instructions'")]
        drafts = ledger.count("drafts", "stage = 'instructions'")
        return Run(seconds, *counted, state.tasks, drafts, kept, stages(ledger), os.getloadavg()[0])


def stages(ledger: Ledger) -> list[tuple[str, int, int, int]]:
    """Tokens of prompts by what was asked: new instructions, classification, instances."""
    asked = "CASE WHEN j.stage = 'instructions' THEN j.stage WHEN a.nth = 1 THEN 'classify' ELSE 'instances' END"
    return ledger.query(
        f"SELECT {asked}, count(*), sum(a.prompt_tokens), sum(a.cached_tokens)"
        " FROM answers a JOIN jobs j ON j.number = a.job GROUP BY 1 ORDER BY min(a.id)"
    )


def likeness(kept: Sequence[str]) -> np.ndarray:
    """Of each instruction the highest ROUGE-L with any other."""
    index = RougeIndex()
    index.add_many(kept)
    return np.array([index.most_similar(text, 2)[1].score for text in kept])


def row(name: str, r: Run, count: int) -> str:
    """A run as a line of the table; `count` kept instructions are compared."""
    alike = likeness(r.kept[:count])
    verbs = {verb_and_noun(text).verb for text in r.kept[:count]}
    cells = [name, f"{r.hits / r.looked_up:.1%}", *(f"{cached / tokens:.0%}" for _, _, tokens, cached in r.stages)]
    cells += [f"{r.looked_up - r.hits:,.0f}", f"{r.generated / r.seconds:.0f}", f"{60 * r.tasks / r.seconds:.1f}"]
    cells += [f"{len(r.kept)} of {r.drafts} ({len(r.kept) / r.drafts:.1%})", f"{alike.mean():.3f}"]
    cells += [f"{np.quantile(alike, 0.9):.2f}", str(len(verbs)), f"{r.load:.1f}"]
    return "| " + " | ".join(cells) + " |"


def head(first: Run) -> str:
    asked = [f"of {name}" for name, *_ in first.stages]
    cells = ["prompts", "cached", *asked, "prompt tokens computed", "tokens/s out", "tasks/min", "kept of drafts"]
    cells += ["mean highest ROUGE-L", "90%", "verbs", "load"]
    return "| " + " | ".join(cells) + " |\n|---|" + "---:|" * (len(cells) - 1)


async def compare(options: argparse.Namespace) -> None:
    config = backend_of(options)
    recipe: Tree = {"name": "self-instruct"}
    if options.instance_tokens:
        recipe |= {name: {"max_tokens": options.instance_tokens} for name in ("input_first", "output_first")}
    runs: list[tuple[str, Run]] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with served(config, options.vllm_python) as server:
            for number, shared in product(range(options.runs), (False, True)):
                tree = {"n": 10**6, "seed": 42 + number, "patience": 10**6,
                        "recipe": {**recipe, "switches": {"shared_prefixes": shared}},
                        "backend": config.model_dump(exclude_none=True)}  # fmt: skip
                folder = Path(scratch) / f"{number}{shared}"
                folder.mkdir()
                runs.append(
                    (
                        "arranged" if shared else "as published",
                        await run(server, tree, options.prompts, options.alone, folder),
                    )
                )
                print(f"{runs[-1][0]}: {runs[-1][1].seconds:.0f} s", flush=True)
    count = min(len(r.kept) for _, r in runs)
    print(f"\n{options.prompts} prompts for instructions each; the first {count} kept instructions are compared\n")
    print(head(runs[0][1]))
    for name, r in runs:
        print(row(name, r, count))


def main() -> None:
    parser = arguments("What prompts that begin alike save on a real vLLM.")
    parser.add_argument("--prompts", type=int, default=96, help="for instructions, in each run")
    parser.add_argument("--runs", type=int, default=1, help="of each kind, with other numbers of the draw")
    parser.add_argument("--instance-tokens", type=int, default=0, help="for an answer with instances; 0: as published")
    parser.add_argument("--alone", action="store_true", help="ask for instructions and for nothing else")
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
