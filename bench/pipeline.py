"""What one request costs on its whole way, recipe, client, parse, filters, ledger, beside a bare aiohttp loop.

    python bench/pipeline.py [--tasks 2000] [--in-flight 256] [--latency 0.05]

A simulated server in a process of its own answers Self-Instruct's three kinds of prompts with made-up text of the usual
lengths. CPU is this process's alone. A second run, under the profiler, tells where it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from collections import Counter
from pathlib import Path

from simulated import simulated, stats
from work import asked, bare, ours, self_instruct

AREAS = {
    "client (openai, aiohttp, ssl, json)": ("openai", "httpx", "aiohttp", "yarl", "multidict", "backends/", "json/"),
    "ledger (sqlite, canonical JSON)": ("store/", "sqlite"),
    "filters (ROUGE index, validity)": ("filters/", "numpy", "rapidfuzz", "text/words.py"),
    "recipe (render, parse, records)": (
        "recipes/",
        "prompts.py",
        "jinja2",
        "text/thoughts.py",
        "pydantic",
        "records.py",
        "<template>",
    ),
    "engine, budget, door": ("selfinstruct/run/", "random.py", "prices.py"),
    "event loop": ("asyncio", "selectors.py", "tenacity"),
}


def shares(profile: cProfile.Profile) -> Counter[str]:
    """Seconds by area of the code, by where a function stands."""
    found: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        place = f"{path} {name}"
        area = next((area for area, marks in AREAS.items() if any(mark in place for mark in marks)), "other")
        found[area] += own
    return found


def compare(tasks: int = 2000, in_flight: int = 256, latency: float = 0.05) -> None:
    """Print what a request costs, and where it goes."""
    with simulated(seconds=latency) as url, tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        whole = asyncio.run(ours(self_instruct(url, tasks, in_flight), Path(one)))
        least = asyncio.run(bare(url, asked(Path(one)), in_flight))
        counted = stats(url)
        profile = cProfile.Profile(time.process_time)  # else it would show who waits for a core
        profile.enable()
        asyncio.run(ours(self_instruct(url, tasks // 4, in_flight), Path(two)))
        profile.disable()
    print(f"\n{whole.requests} requests, {in_flight} in flight, {1000 * latency:.0f} ms each")
    print("\n| way | requests/s | CPU ms a request | of bare |\n|---|---:|---:|---:|")
    for name, done in (("bare aiohttp loop", least), ("whole pipeline", whole)):
        ratio = done.cpu_ms / least.cpu_ms
        print(f"| {name} | {done.requests / done.seconds:,.0f} | {done.cpu_ms:.2f} | {ratio:.1f} × |")
    print(f"\nThe server took {1000 * counted['cpu'] / counted['answered']:.2f} ms a request of its own.")
    print("\n| where it goes | share |\n|---|---:|")
    spent = shares(profile)
    for area, seconds in spent.most_common():
        print(f"| {area} | {seconds / spent.total():.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="What one request costs on its whole way.")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS")
    options = parser.parse_args()
    compare(options.tasks, options.in_flight, options.latency)


if __name__ == "__main__":
    main()
