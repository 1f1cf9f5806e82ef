"""What the card and a push of a large run take: seconds and memory, of a made ledger.

    python bench/card.py                      1,000,000 samples: 4 GB of disk, about 5 minutes on 2 cores
    python bench/card.py --samples 100000

The ledger is filled directly, as an Alpaca run would leave it: 10 drafts to an answer, 8 of them kept, prompts and
answers of 3,000 characters each. Every command runs as a process of its own; the wall clock, and the most memory
that it held.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.run.folder import begin
from selfinstruct.run.told import read
from selfinstruct.store.ledger import Ledger

WORDS = (  # noqa: SIM905 - a list of words is easier read so
    "describe compare explain list river market engine garden the a of with for from three short long letter table"
    " number reason story teacher doctor child winter summer bread water light paper question answer city country"
).split()
DRAFTS, KEPT = 10, 8
TEXT = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        fill(run, samples)
        size = (run / "ledger.sqlite").stat().st_size / 1e6
        print(f"{samples:,} samples, a ledger of {size:,.0f} MB")
        print(f"{'command':<24}{'seconds':>9}{'MB':>7}")
        for command in (["card", str(run)], ["push", str(run), "ada/tides", "--dry-run"]):
            seconds, memory = measured(*command)
            print(f"{command[0] + ' ' + ' '.join(command[3:]):<24}{seconds:>9.1f}{memory:>7.0f}", flush=True)


def fill(folder: Path, samples: int) -> None:
    """A run of the recipe `alpaca` with so many kept tasks."""
    folder.mkdir()
    tree = {"n": samples, "recipe": {"name": "alpaca"}, "backend": {"kind": "scripted", "script": "none"}}
    begin(folder, read(build(RunConfig, tree, where="bench")), {"writer": "m"}).close()
    rng, jobs = Random(0), range(1, samples // KEPT + 1)
    with Ledger.open(folder, write=True) as ledger:
        db = ledger._db
        db.execute("BEGIN")
        begun = "INSERT INTO jobs (number, stage, origin, payload, state) VALUES (?, 'tasks', '', '{}', 'settled')"
        db.executemany(begun, ((job,) for job in jobs))
        answer = "INSERT INTO answers VALUES (?,?,?,0,'completion',?,?,'stop','writer','m',800,700,0,0,NULL,'{}',1.0,?)"
        db.executemany(answer, ((job, f"b2:{job}", job, text(rng, TEXT), text(rng, TEXT), job) for job in jobs))
        db.executemany(
            "INSERT INTO drafts VALUES (?,?,?,?,'tasks',?,?,?,?,NULL,'{}','','[]','','{}')", drafts(rng, jobs)
        )
        db.executemany("INSERT INTO verdicts VALUES (?,0,'rouge',?,?,'{}','[]')",
                       ((f"{job}.{place}", place <= KEPT, "passed" if place <= KEPT else "near_duplicate")
                        for job in jobs for place in range(1, DRAFTS + 1)))  # fmt: skip
        db.execute("COMMIT")


def drafts(rng: Random, jobs: range) -> Iterator[tuple[Any, ...]]:
    for job in jobs:
        for place in range(1, DRAFTS + 1):
            instances = json.dumps([{"output": text(rng, 300)}])
            rank, kept = (job - 1) * DRAFTS + place, place <= KEPT
            yield (job, place, f"{job}.{place}", rank, kept, text(rng, 80), instances, instances if kept else None)


def text(rng: Random, length: int) -> str:
    return " ".join(rng.choices(WORDS, k=length // 6))


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "selfinstruct", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - began, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
