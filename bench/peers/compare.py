"""Other tools on the same servers, with as many prompts: stragglers, a limit, and a kill half way.

Each runs in an environment of its own (`install.py`), as its runner in this folder says; a peer that is not installed
is told as such. The bare loop posts the same prompts, and what a peer takes is the work alone, without its start.
Stragglers are met three times by each, for what is told first depends on little.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from peers.install import OURS, PEERS, python_of
from peers.peer import MODEL, QUIET, prompts
from simulated import simulated, stats
from tables import row, spread, table
from work import bare

TURNS = 3
"""Times that each peer, and the loop, does the first work."""
PATIENCE = 240.0
"""Seconds that a peer may take for anything."""


class Ran(NamedTuple):
    """How a peer did; without a version it did not end."""

    version: str
    seconds: float
    rows: int
    answers: int
    refused: int

    def times(self, ideal: float) -> float:
        """Seconds, of as many as its answers would take ideally, at so many for one."""
        return self.seconds / (ideal * self.answers)


def compare(names: list[str], envs: Path, stragglers: dict[str, Any], limit: dict[str, Any], in_flight: int) -> None:
    """Print the table of peers on servers with these settings: 2,000 prompts, and 1,000 under the limit."""
    loop = median(_bare(stragglers, in_flight) for _ in range(TURNS))
    ideal = 1000 / limit["per_second"]
    print(f"\n2,000 prompts, {in_flight} in flight, 50 ms, 2% take 2 s: a bare aiohttp loop takes {loop:.1f} s")
    print(f"1,000 prompts where {limit['per_second']} a second are allowed: {ideal:.1f} s are ideal")
    table("peer", "version", "seconds", "of bare", "rows", "under a limit, s", "of ideal", "refused", "rows", "re-sent")
    for name in (OURS, *(names or PEERS)):
        if not python_of(envs, name).exists():
            row(name, "not installed", *8 * [""])
            continue
        turns = [measure(name, envs, stragglers, 2000, in_flight) for _ in range(TURNS)]
        one, two = turns[0], measure(name, envs, limit, 1000, in_flight)
        again = killed(name, envs, stragglers, 2000, in_flight)
        row(
            name, one.version or two.version,
            *(_times(turns, loop / 2000)), str(one.rows), *(_times([two], 1 / limit["per_second"])),
            str(two.refused), str(two.rows), again,
        )  # fmt: skip


def _bare(settings: dict[str, Any], in_flight: int) -> float:
    """Seconds that the loop takes for 2,000 prompts."""
    with simulated(**settings) as url:
        return asyncio.run(bare(url, bodies(2000), in_flight)).seconds


def _times(turns: list[Ran], ideal: float) -> tuple[str, str]:
    """Seconds, and of what is ideal for one answer; whoever did not end once has failed."""
    if not all(ran.version for ran in turns):
        return "failed", ""
    return spread([ran.seconds for ran in turns], ".1f"), spread([ran.times(ideal) for ran in turns])


def bodies(count: int) -> list[dict[str, Any]]:
    """The prompts as requests."""
    return [{"model": MODEL, "messages": [{"role": "user", "content": prompt}]} for prompt in prompts(count)]


def measure(name: str, envs: Path, settings: dict[str, Any], count: int, in_flight: int) -> Ran:
    """One peer on a server of its own."""
    with simulated(**settings) as url, tempfile.TemporaryDirectory() as folder:
        with started(name, envs, url, count, in_flight, Path(folder)) as peer:
            said = _said(peer, PATIENCE)
        counted = stats(url)
    return Ran(
        said.get("version", ""), said.get("seconds", 0.0), said.get("rows", 0), said.get("answers", 0),
        counted["refused"],
    )  # fmt: skip


def killed(name: str, envs: Path, settings: dict[str, Any], count: int, in_flight: int) -> str:
    """How many requests are asked twice when a peer is killed half way and the same command run again."""
    with simulated(**settings) as url, tempfile.TemporaryDirectory() as folder:
        with started(name, envs, url, count, in_flight, Path(folder)) as peer:
            _wait_for(url, count // 2, peer)
        with started(name, envs, url, count, in_flight, Path(folder)) as peer:
            said = _said(peer, PATIENCE)
        return f"{len(stats(url)['arrivals']) - said['answers']:,}" if said else "hangs"


def _wait_for(url: str, answers: int, peer: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while stats(url)["answered"] < answers and peer.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def started(
    name: str, envs: Path, url: str, count: int, in_flight: int, folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """A peer at work; killed with all that it started when the block is left."""
    runner = Path(__file__).with_name(f"run_{name}.py")
    command = [python_of(envs.resolve(), name), runner, f"{url}/v1", str(count), str(in_flight), folder]
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = kept | QUIET | {"HOME": str(folder)}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet) as peer:
        try:
            yield peer
        finally:
            with suppress(ProcessLookupError):
                os.killpg(peer.pid, signal.SIGKILL)


def _said(peer: subprocess.Popen[str], patience: float) -> dict[str, Any]:
    """What the runner printed at its end; empty where it failed, or did not end in time."""
    try:
        lines = peer.communicate(timeout=patience)[0].splitlines()
    except subprocess.TimeoutExpired:
        return {}
    return json.loads(lines[-1]) if peer.returncode == 0 and lines else {}
