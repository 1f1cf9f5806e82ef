"""A run of a million drafts: what it takes of memory while it goes, and how soon `status` and a resume answer.

    python bench/long.py [--drafts 1000000] [--recipe evol-instruct] [--keep FOLDER]
    python bench/long.py --keep FOLDER --again    measures a ledger made before once more

A run of Self-Instruct (instructions and instances together), or an evolution of 4 rounds, is made by the engine in a
process of its own: real requests, judging and transactions; only the answers come from a function, in made-up text of
the usual lengths, a quarter of it near-duplicates. Then `status` and `generate` are started anew. A start is cold when
the ledger's pages are no longer in memory. Memory is the peak of the process (VmHWM), in MB of 10^6 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from itertools import accumulate, count
from pathlib import Path
from random import Random
from typing import NamedTuple

from simulated import simulated

NAME = "long"
VOCABULARY = 60_000
WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
CONSONANTS, VOWELS = "bcdfglmnprstvz", "aeiou"
IN_FLIGHT = 64


def word(rank: int) -> str:
    """A made-up word, the frequent ones short."""
    rank, syllables = rank + 20, ""
    while rank:
        rank, rest = divmod(rank, len(CONSONANTS) * len(VOWELS))
        syllables += CONSONANTS[rest // len(VOWELS)] + VOWELS[rest % len(VOWELS)]
    return syllables


class Writer:
    """Text with the frequencies of words that language has; the same again for the same numbers."""

    def __init__(self) -> None:
        self._words = [word(rank) for rank in range(VOCABULARY)]
        self._openings = [" ".join(self.words(Random(number), 3)) for number in range(300)]
        self._rng = Random(7)
        self._numbers = count()

    def words(self, rng: Random, number: int) -> list[str]:
        """So many words; one in a hundred is a number, which few texts share."""
        drawn = rng.choices(self._words, cum_weights=WEIGHTS, k=number)
        return [str(rng.randrange(10**6)) if rng.random() < 0.01 else word for word in drawn]

    def text(self, words: float) -> str:
        """About so many words."""
        return " ".join(self.words(self._rng, max(2, round(words * self._rng.lognormvariate(-0.1, 0.45)))))

    def instruction(self, number: int | None = None) -> str:
        """The next instruction, or one of those before: a quarter of them resemble an earlier one."""
        number = next(self._numbers) if number is None else number
        rng = Random(number)
        kind, length = rng.random(), min(60, max(4, round(14 * rng.lognormvariate(-0.1, 0.45))))
        if kind < 0.25 and number:
            earlier = self.instruction(rng.randrange(number)).split()
            earlier[rng.randrange(len(earlier))] = self.words(rng, 1)[0]
            return " ".join(earlier)
        if kind < 0.28:
            return " ".join(self.words(rng, 3))
        opening = rng.choice(self._openings).split() if kind < 0.55 else []
        return " ".join([*opening, *self.words(rng, length - len(opening))]).capitalize() + "."

    def answer(self, prompt: str, max_tokens: int) -> str:
        """What a model says: known by what is asked for, and by the length."""
        if max_tokens == 1024:
            return "\n".join(f"{number}. {self.instruction()}" for number in range(1, 8))
        if max_tokens == 16:
            return "Yes" if self._rng.random() < 0.2 else "No"
        if self._rng.random() < 0.12:
            return "Sorry."
        if max_tokens == 300:
            return "\n".join(f"Class label: {self.text(1)}\nText: {self.text(20)}" for _ in range(2))
        return f"Example 1\nInput: {self.text(15)}\nOutput: {self.text(40)}"

    def evolution(self, prompt: str, max_tokens: int) -> str:
        """The same of an evolution."""
        if "Not equal" in prompt:
            return "Equal" if self._rng.random() < 0.1 else "Not equal"
        return "Sorry." if self._rng.random() < 0.12 else self.text(25)


# -- making -----------------------------------------------------------------------------------------------------------


def make(folder: Path, drafts: int, recipe: str) -> None:
    """Make a run of so many drafts in `folder`, and print a row at each tenth of them."""
    # Here, so that whoever only starts others stays small.
    from selfinstruct.backends.scripted import ScriptedBackend, prompt_of
    from selfinstruct.cli.panel import Plain
    from selfinstruct.inputs.config import RunConfig, build
    from selfinstruct.run.engine import Engine, World
    from selfinstruct.run.events import Settled
    from selfinstruct.run.folder import begin
    from selfinstruct.run.state import RunState
    from selfinstruct.run.told import read

    writer = Writer()
    says = writer.answer if recipe == "self-instruct" else writer.evolution
    backend = ScriptedBackend(lambda r: says(prompt_of(r), r.sampling.max_tokens or 0), model="sim")

    async def run() -> None:
        told = read(build(RunConfig, configuration(folder, writer, drafts, recipe), where="bench"))
        with begin(folder, told, {"writer": "sim"}) as ledger:
            state, watcher = RunState.load(ledger, told), Plain(folder, told.config)
            engine = Engine(state, ledger, World({"writer": backend}))
            watcher.start(engine, ledger)
            made, due, began, cpu = 0, drafts // 10, time.perf_counter(), time.process_time()
            async with aclosing(engine.run()) as events:
                async for event in events:
                    watcher.see(event)
                    made += len(event.outcomes) if isinstance(event, Settled) else 0
                    if made >= due:
                        size = (folder / "ledger.sqlite").stat().st_size / 1e6
                        spent = f"{time.perf_counter() - began:,.0f} | {time.process_time() - cpu:,.0f}"
                        print(f"| {made:,} | {memory('VmRSS'):,.0f} | {spent} | {size:,.0f} |", flush=True)
                        due += drafts // 10
                    if made >= drafts:
                        engine.stop()
            shares = [f"{drafts:,} {stage} ({kept / drafts:.0%} kept)" for stage, drafts, kept in ledger.query(
                "SELECT stage, count(*), sum(kept) FROM drafts GROUP BY 1 ORDER BY min(rank)")]  # fmt: skip
            [[words]] = ledger.query(
                "SELECT avg(1 + length(instruction) - length(replace(instruction, ' ', ''))) FROM kept"
                " WHERE stage = ?", state.recipe.pooled)  # fmt: skip
            print(f"\n{', '.join(shares)}, {words:.1f} words in a kept instruction, {ledger.count('answers'):,}"
                  f" requests; peak {memory('VmHWM'):,.0f} MB")  # fmt: skip

    print("| drafts | MB | seconds | CPU | ledger, MB |\n|---:|---:|---:|---:|---:|", flush=True)
    asyncio.run(run())


def configuration(folder: Path, writer: Writer, drafts: int, recipe: str) -> dict[str, object]:
    """What the run is told; an evolution gets seeds enough for so many drafts."""
    backend = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "sim", "dialect": "chat",
               "concurrency": IN_FLIGHT}  # fmt: skip
    if recipe == "self-instruct":
        return {"n": 10**8, "backend": backend}
    seeds = folder / "seeds.jsonl"
    with seeds.open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"instruction": writer.instruction(), "output": writer.text(40)}) + "\n"
            for _ in range(drafts // 6)
        )
    return {"seeds": str(seeds), "backend": backend, "recipe": {"name": recipe, "rounds": 4}, "patience": 10**6,
            "filters": {"elimination": {"tolerance": 100}}}  # fmt: skip


def memory(which: str, process: int | str = "self") -> float:
    """What a process holds, in MB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{which}:")), 0.0)


# -- looking at it ----------------------------------------------------------------------------------------------------


def selfinstruct(*words: str) -> list[str]:
    return [sys.executable, "-m", "selfinstruct", *words]


def let_go(folder: Path) -> None:
    """The ledger's pages out of the system's memory."""
    for path in folder.glob("ledger.sqlite*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Took(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    peak: float
    """MB."""


def timed(command: list[str]) -> Took:
    """A command to its end."""
    began, cpu, peak = time.perf_counter(), 0.0, 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            cpu, peak = max(cpu, processor(process.pid)), max(peak, memory("VmHWM", process.pid))
            time.sleep(0.01)
    assert process.returncode == 0, command
    return Took(time.perf_counter() - began, cpu, peak)


def processor(process: int) -> float:
    """Seconds of CPU that a process has taken; 0 where it is gone."""
    try:
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resumed(outputs: Path, recipe: str) -> Took:
    """From the start of the process to the first request; then it is killed."""
    verb = ["generate", "--run", NAME] if recipe == "self-instruct" else ["evolve", NAME]
    with simulated(slots=IN_FLIGHT, seconds=0.5) as url:
        began = time.time()
        command = selfinstruct(*verb, "--output-dir", str(outputs), "--base-url", f"{url}/v1")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not (busy := json.load(urllib.request.urlopen(f"{url}/busy"))) and process.poll() is None:
                time.sleep(0.02)
            took = Took(0.0, processor(process.pid), memory("VmHWM", process.pid))
            process.kill()
        assert busy, "it ended without a request"
    return took._replace(seconds=busy[0][0] - began)


def looks(outputs: Path, recipe: str) -> Iterator[tuple[str, Took]]:
    """Each way to look at the run, with what it took."""
    folder = outputs / NAME
    status = {
        "`status RUN`": selfinstruct("status", NAME, "--output-dir", str(outputs)),
        "`status`": selfinstruct("status", "--output-dir", str(outputs)),
    }
    for name, command in status.items():
        let_go(folder)
        yield f"{name}, cold", timed(command)
        yield name, min(timed(command) for _ in range(3))
    let_go(folder)
    yield "resume to its first request, cold", resumed(outputs, recipe)
    yield "resume to its first request", resumed(outputs, recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drafts", type=int, default=1_000_000)
    parser.add_argument("--recipe", choices=["self-instruct", "evol-instruct"], default="self-instruct")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Make the run in this folder, and leave it there.")
    parser.add_argument("--again", action="store_true", help="Measure the run that is kept there; make none.")
    parser.add_argument("--verify", action="store_true", help="Verify it too, which takes as long as making it.")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.drafts, options.recipe)
        return
    with tempfile.TemporaryDirectory() as scratch:
        outputs = options.keep or Path(scratch)
        if not options.again:
            (outputs / NAME).mkdir(parents=True)
            given = ["--drafts", str(options.drafts), "--recipe", options.recipe]
            subprocess.run([sys.executable, __file__, "--make", str(outputs / NAME), *given], check=True)
        print("\n| | seconds | CPU | peak MB |\n|---|---:|---:|---:|", flush=True)
        for name, took in looks(outputs, options.recipe):
            print(f"| {name} | {took.seconds:.2f} | {took.cpu:.2f} | {took.peak:,.0f} |", flush=True)
        if options.verify:
            took = timed(selfinstruct("verify", NAME, "--output-dir", str(outputs)))
            print(f"| `verify` | {took.seconds:,.0f} | {took.cpu:,.0f} | {took.peak:,.0f} |")


if __name__ == "__main__":
    main()
