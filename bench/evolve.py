"""Evol-Instruct: how full it keeps a server, what an evolved sample costs us, and what the embedded model survives.

    python bench/evolve.py [--seeds 2000] [--rounds 3] [--slots 64] [--seconds 1]
    python bench/evolve.py --embedded [--seeds 60] [--rounds 1]

The first asks a simulated server of so many slots, 2% of whose answers take ten times as long; the drain begins when
fewer families are open than there are slots. The second evolves shipped seeds with the real embedded model, and shows
what became of the evolutions of each operator.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from simulated import changes, occupancy, simulated
from work import ours

from selfinstruct.inputs.config import Tree
from selfinstruct.inputs.resources import find
from selfinstruct.inputs.seeds import load_seeds
from selfinstruct.run.events import Event, Settled
from selfinstruct.run.state import RunState
from selfinstruct.store.ledger import Ledger


class Evolution(NamedTuple):
    """How one went."""

    requests: int
    kept: int
    seconds: float
    cpu: float
    drained_at: float
    """When, by the clock on the wall, fewer families were open than could be in flight."""
    outcomes: list[tuple[str, str, int]]
    """Operator, what became of its evolutions, how many."""


async def evolve(tree: Tree, folder: Path) -> Evolution:
    """A run from its first plan to its last settlement."""
    ended, drained_at, kept = 0, 0.0, 0

    def see(event: Event, state: RunState) -> None:
        nonlocal ended, drained_at, kept
        kept = state.tasks
        ended += isinstance(event, Settled) and _ends_a_family(event)
        if not drained_at and len(state.pool.seeds) - ended < (state.config.backend.concurrency or 1):
            drained_at = time.time()

    done = await ours(tree, folder, see)
    with Ledger.open(folder) as ledger:
        return Evolution(done.requests, kept, done.seconds, done.cpu, drained_at, _outcomes(ledger))


def _ends_a_family(event: Settled) -> bool:
    last = len(event.job.payload["steps"]) == 1
    return last and (event.job.stage == "answer" or event.outcomes[0].sample is None)


def _outcomes(ledger: Ledger) -> list[tuple[str, str, int]]:
    """An evolution ends where it is dropped, or with its answer."""
    query = (
        "SELECT json_extract(d.meta, '$.operator'), CASE WHEN d.kept THEN 'kept' ELSE v.reason END, count(*)"
        " FROM drafts d JOIN verdicts v ON v.draft = d.id AND v.place ="
        " (SELECT max(place) FROM verdicts WHERE draft = d.id)"
        " WHERE NOT d.kept OR d.stage = 'answer' GROUP BY 1, 2"
    )
    return ledger.query(query)


def made_seeds(folder: Path, count: int) -> Path:
    rng, path = random.Random(1), folder / "seeds.jsonl"
    rows = [
        {"instruction": " ".join(f"w{rng.randrange(8000)}" for _ in range(rng.randint(8, 20))), "output": "so"}
        for _ in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def on_a_simulated_server(seeds: int, rounds: int, slots: int, seconds: float) -> None:
    slow = 10 * seconds
    server = simulated(slots=slots, seconds=seconds, stragglers=0.02, straggler_seconds=slow)
    with tempfile.TemporaryDirectory() as folder, server as url:
        backend = {"kind": "openai", "base_url": f"{url}/v1", "model": "sim", "dialect": "chat", "concurrency": slots}
        tree = {"seeds": str(made_seeds(Path(folder), seeds)), "backend": backend, "patience": 10**6,
                "recipe": {"name": "evol-instruct", "rounds": rounds},
                "filters": {"elimination": {"tolerance": 100}}}  # fmt: skip
        run = Path(folder) / "run"
        run.mkdir()
        e = asyncio.run(evolve(tree, run))
        told = changes(url)
    mean = 0.98 * seconds + 0.02 * slow
    print(f"{seeds} seeds, {rounds} rounds, {slots} slots, {seconds:g} s an answer, 2% of them {slow:g} s\n")
    print("| | |\n|---|---:|")
    print(f"| requests | {e.requests} |")
    print(f"| kept | {e.kept} |")
    print(f"| seconds | {e.seconds:.1f} |")
    print(f"| busy slots over slots, until the drain | {occupancy(told, slots, e.drained_at):.1%} |")
    print(f"| the same, with the drain | {occupancy(told, slots, told[-1].at):.1%} |")
    print(f"| our CPU, ms a request | {1000 * e.cpu / e.requests:.2f} |")
    print(f"| our CPU, ms an evolved sample | {1000 * e.cpu / e.kept:.2f} |")
    print(f"| the model's time, ms an evolved sample | {1000 * mean * e.requests / e.kept:.0f} |")


def on_the_embedded_model(seeds: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seeds.jsonl"
        shipped = load_seeds(find("seeds/tasks.jsonl"))
        chosen = random.Random(1).sample(shipped, min(seeds, len(shipped)))
        path.write_text("".join(seed.model_dump_json() + "\n" for seed in chosen), encoding="utf-8")
        run = Path(folder) / "run"
        run.mkdir()
        tree = {"seeds": str(path), "recipe": {"name": "evol-instruct", "rounds": rounds}, "patience": 10**6}
        e = asyncio.run(evolve(tree, run))
    operators = sorted({operator for operator, _, _ in e.outcomes})
    reasons = ["kept", *sorted({reason for _, reason, _ in e.outcomes} - {"kept"})]
    counts = {(operator, reason): count for operator, reason, count in e.outcomes}
    print(f"{len(chosen)} shipped seeds, {rounds} rounds: {e.kept} kept, {e.requests} requests, {e.seconds:.0f} s\n")
    print("| operator | evolutions | " + " | ".join(reasons) + " |\n|---|---:|" + "---:|" * len(reasons))
    for operator in operators:
        row = [counts.get((operator, reason), 0) for reason in reasons]
        print(f"| `{operator}` | {sum(row)} | " + " | ".join(str(count or "") for count in row) + " |")
    print(f"\nour CPU: {1000 * e.cpu / max(1, e.kept):.1f} ms an evolved sample")


def main() -> None:
    parser = argparse.ArgumentParser(description="Evol-Instruct on a simulated server, or on the embedded model.")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    if options.embedded:
        on_the_embedded_model(options.seeds or 60, options.rounds or 1)
    else:
        on_a_simulated_server(options.seeds or 2000, options.rounds or 3, options.slots, options.seconds)


if __name__ == "__main__":
    main()
