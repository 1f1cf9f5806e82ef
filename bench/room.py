"""Room that questions take in the ledger, with texts that they share stored once and with every question stored whole.

    python bench/room.py [--jobs 2000]

Three kinds of work: conversations of 8 exchanges of 1.6 kB, passages of 6 kB of which each is asked about ten times,
and single exchanges under rules of 1.2 kB. Room is that of the ledger's file, in kB of 10^3 bytes a job; CPU is that of
storing alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from unittest.mock import patch

from selfinstruct.records import Completion, Request, Sampling, Turn
from selfinstruct.store import texts
from selfinstruct.store.keys import answer_key, canonical
from selfinstruct.store.ledger import NAME, Ledger

Asked = tuple[tuple[Turn, ...], str]
"""The messages of a request, and the answer."""


def text(rng: Random, length: int) -> str:
    """So many characters of made-up words."""
    return " ".join("".join(rng.choices("abdeiklmnorstu", k=5)) for _ in range(length // 6))


def conversation(job: int) -> Iterator[Asked]:
    """What a job asks that writes a conversation."""
    rng = Random(job)
    turns = [Turn(role="system", content=text(Random(0), 1_200))]
    for _ in range(8):
        turns.append(Turn(role="user", content=text(rng, 800)))
        said = text(rng, 800)
        yield tuple(turns), said
        turns.append(Turn(role="assistant", content=said))


def passage(job: int) -> Iterator[Asked]:
    """What ten jobs ask of a passage."""
    told = Turn(role="system", content=text(Random(job // 10), 6_000))
    yield (told, Turn(role="user", content=text(Random(job), 120))), text(Random(-job), 600)


def single(job: int) -> Iterator[Asked]:
    """What a job asks under rules that are the same for all."""
    rules = Turn(role="system", content=text(Random(0), 1_200))
    yield (rules, Turn(role="user", content=text(Random(job), 900))), text(Random(-job), 600)


def measure(kind: str, jobs: int, folder: Path) -> tuple[float, float]:
    """KB a job, and milliseconds of CPU an answer."""
    spent, answers = 0.0, 0
    with Ledger.create(folder, facts={}, seeds=(), prompts={}, target=None) as ledger:
        for job in range(1, jobs + 1):
            for messages, said in KINDS[kind](job):
                request = Request(model="m", messages=messages, sampling=Sampling(max_tokens=512))
                told = canonical(request.model_dump(mode="json", exclude_defaults=True))
                began = time.process_time()
                ledger.answer(answer_key(job, told, 0), job, 0, told, Completion(text=said), 1.0)
                spent, answers = spent + time.process_time() - began, answers + 1
    return (folder / NAME).stat().st_size / jobs / 1e3, 1e3 * spent / answers


KINDS = {"conversation": conversation, "passage": passage, "single": single}


def main() -> None:
    parser = argparse.ArgumentParser(description="Room that questions take in the ledger.")
    parser.add_argument("--jobs", type=int, default=2000)
    options = parser.parse_args()
    print("| work | whole, kB a job | once, kB a job | whole, ms an answer | once, ms an answer |")
    print("|---|---:|---:|---:|---:|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            once = measure(kind, options.jobs, Path(one))
            with patch.object(texts, "LONG", 10**9):
                whole = measure(kind, options.jobs, Path(two))
        print(f"| {kind} | {whole[0]:.1f} | {once[0]:.1f} | {whole[1]:.3f} | {once[1]:.3f} |")


if __name__ == "__main__":
    main()
