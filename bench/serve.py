"""How well a run uses a server: stragglers, a limit, slots, and our own CPU, beside a bare aiohttp loop.

    python bench/serve.py [stragglers|limit|cpu|slots|all] [--turns 5]
    python bench/serve.py --peers [NAME …] [--envs FOLDER]

Each prints a Markdown table. The server is simulated (`simulated.py`), in a process of its own, a fresh one for each
turn; the work is a whole run of Self-Instruct (recipe, parse, filters, ledger), and the loop posts the same requests
again (`work.py`). `--peers` gives the same servers as many prompts through other tools, which
`bench/peers/install.py` installs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from peers.compare import compare as compare_peers
from peers.install import ENVS, PEERS
from pipeline import compare as compare_cpu
from simulated import USED, Use, changes, simulated, stats
from tables import row, spread, table
from work import Done, asked, bare, ours, self_instruct

STRAGGLERS: dict[str, Any] = {"seconds": 0.05, "stragglers": 0.02, "straggler_seconds": 2.0}
LIMIT: dict[str, Any] = {"seconds": 0.05, "per_second": 150, "retry_after": 1.0}
WINDOWS: dict[str, dict[str, Any]] = {
    f"{window}{', told in headers' if told else ''}": {"window": window, "limit_headers": told}
    for window in ("sliding", "fixed", "bucket")
    for told in (False, True)
}
"""What a limit may look at, by what tables call it."""
SLOTS: dict[str, Any] = {"slots": 256, "prefill": 0.0002, "decode": 0.025}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


# -- stragglers --------------------------------------------------------------------------------------------------------


def stragglers(turns: int, tasks: int = 870, in_flight: int = 64) -> None:
    """2,000 requests of 50 ms, of which 2% take 2 s."""
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    requests = []

    def note(way: str, ran: float, loop: float) -> None:
        seconds.setdefault(way, []).append(ran)
        ratios.setdefault(way, []).append(ran / loop)

    for turn in range(turns):
        with folder() as run:
            with simulated(**STRAGGLERS) as url:
                done = asyncio.run(ours(self_instruct(url, tasks, in_flight, turn), run))
            requests.append(done.requests)
            loop = _again(run, in_flight)
            note("bare aiohttp loop, the same requests", loop, loop)
            note("ours, to the last kept task", done.kept - done.began, loop)
            note("ours, to the last answer", done.seconds, loop)
        with folder() as run:
            first_to_end, whole = generate(run, tasks, in_flight, turn)
            loop = _again(run / "run", in_flight)
            note("`selfinstruct generate`, first request to the end of the process", first_to_end, loop)
            note("the same, from the start of the process", whole, loop)
    print(f"\n{median(requests):,.0f} requests, {in_flight} in flight, 50 ms, 2% take 2 s; {turns} turns")
    table("way", "seconds", "of bare")
    for way, values in seconds.items():
        row(way, spread(values), spread(ratios[way]))


def _again(run: Path, in_flight: int) -> float:
    """Seconds that the loop takes for a run's requests."""
    with simulated(**STRAGGLERS) as url:
        return asyncio.run(bare(url, asked(run), in_flight)).seconds


def generate(into: Path, tasks: int, in_flight: int, luck: int) -> tuple[float, float]:
    """`selfinstruct generate`, with its export: seconds from the first request to its end, and from its start."""
    with simulated(**STRAGGLERS) as url:
        command = [
            *(sys.executable, "-m", "selfinstruct", "generate", "--quiet", "-n", str(tasks)),
            *("--set", f"seed={luck}"),
            *("--backend", "openai", "--base-url", f"{url}/v1", "--model", "sim", "--dialect", "completion"),
            *("--concurrency", str(in_flight), "--output-dir", str(into), "--run", "run"),
        ]
        began = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ended = time.time()
        return ended - stats(url)["arrivals"][0], ended - began


# -- a limit -----------------------------------------------------------------------------------------------------------


def limit(turns: int, tasks: int = 430, in_flight: int = 64) -> None:
    """1,000 requests where 150 a second are let in."""
    print(
        f"\n1,000 requests, {in_flight} in flight at most, 50 ms, 150 a second, 429 with Retry-After 1; {turns} turns"
    )
    table("way", "limit", "requests", "seconds", "of ideal", "refused")
    for name, window in WINDOWS.items():
        settings = {**LIMIT, **window}
        with folder() as runs:
            _limited("ours", name, [_ours_limited(settings, runs / str(i), tasks, in_flight) for i in range(turns)])
            if not window["limit_headers"]:
                bodies = asked(runs / "0")
                _limited("bare, waits as told", name, [_bare_limited(settings, bodies, in_flight)])


def _limited(way: str, name: str, turns: list[tuple[Done, int]]) -> None:
    per_second = LIMIT["per_second"]
    row(
        way,
        name,
        f"{median(done.requests for done, _ in turns):,.0f}",
        spread([done.seconds for done, _ in turns]),
        spread([done.seconds * per_second / done.requests for done, _ in turns]),
        spread([refused / (done.requests + refused) for done, refused in turns], ".1%"),
    )


def _ours_limited(settings: dict[str, Any], run: Path, tasks: int, in_flight: int) -> tuple[Done, int]:
    run.mkdir()
    with simulated(**settings) as url:
        return asyncio.run(ours(self_instruct(url, tasks, in_flight), run)), stats(url)["refused"]


def _bare_limited(settings: dict[str, Any], bodies: list[dict[str, Any]], in_flight: int) -> tuple[Done, int]:
    with simulated(**settings) as url:
        return asyncio.run(bare(url, bodies, in_flight)), stats(url)["refused"]


# -- slots -------------------------------------------------------------------------------------------------------------


def slots(tasks: int = 6000) -> None:
    """Answers of real lengths from a server of 256 slots."""
    size = SLOTS["slots"]
    print(f"\n{tasks} tasks, a server of {size} slots, lognormal lengths; the drain begins when all were last busy")
    table("in flight", "requests", "mean answer, s", *USED)
    with folder() as runs:
        for in_flight in (size, None):
            run = runs / str(in_flight)
            run.mkdir()
            with simulated(**SLOTS) as url:
                done = asyncio.run(ours(self_instruct(url, tasks, in_flight), run))
                _used(f"ours, {in_flight or 'finds itself'}", url, done)
        bodies = asked(runs / str(size))
        with simulated(**SLOTS) as url:
            _used(f"bare, {size}", url, asyncio.run(bare(url, bodies, size)))


def _used(way: str, url: str, done: Done) -> None:
    told, size = changes(url), SLOTS["slots"]
    use = Use.of(told, size)
    row(way, f"{done.requests:,}", f"{use.whole * use.seconds * size / done.requests:.2f}", *use.cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="How well a run uses a server.")
    parser.add_argument("scenario", nargs="?", default="all", choices=["stragglers", "limit", "cpu", "slots", "all"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", nargs="*", metavar="NAME", help=f"other tools instead: {', '.join(PEERS)}")
    parser.add_argument("--envs", type=Path, default=ENVS, metavar="FOLDER", help="where peers/install.py put them")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    if options.peers is not None:
        compare_peers(options.peers, options.envs, STRAGGLERS, LIMIT, in_flight=64)
        return
    wanted = {"stragglers", "limit", "cpu", "slots"} if options.scenario == "all" else {options.scenario}
    if "stragglers" in wanted:
        stragglers(options.turns)
    if "limit" in wanted:
        limit(options.turns)
    if "cpu" in wanted:
        compare_cpu()
    if "slots" in wanted:
        slots()


if __name__ == "__main__":
    main()
