"""Exports of a large run, beside a bare write of the same rows by `datasets` and by pyarrow.

    python bench/export.py [--samples 1000000] [--formats alpaca messages]

A ledger of made samples is written first, with texts of the usual lengths. Each way then runs in a process of its own,
so that its peak of memory is its own. The bare ways read the same rows with sqlite3 and json, or are given rows that
lie ready in memory.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfinstruct.dataset.files import export
from selfinstruct.inputs.config import ExportConfig, RunConfig, dump
from selfinstruct.store.ledger import Ledger

STAGE = "instances"
WORDS = ["river", "stone", "cloud", "apple", "train", "piano", "garden", "winter", "coffee", "letter", "bridge", "and"]
BATCH = 10_000


def make(folder: Path, samples: int) -> None:
    """A run of so many kept tasks, one instance to each."""
    folder.mkdir(parents=True)
    facts = {"config": json.dumps(dump(RunConfig())), "version": "0", "model": "made"}
    Ledger.create(folder, facts=facts, seeds=[], prompts={}, target=samples).close()
    with Ledger.open(folder, write=True) as ledger:
        db = ledger._db
        for start in range(0, samples, BATCH):
            numbers = range(start + 1, min(start + BATCH, samples) + 1)
            db.execute("BEGIN")
            db.executemany(
                "INSERT INTO jobs (number, stage, origin, payload, state) VALUES (?, ?, '', '{}', 'settled')",
                ((number, STAGE) for number in numbers),
            )
            db.executemany(
                "INSERT INTO drafts (job, position, id, stage, kept, instruction, instances, stayed, meta)"
                " VALUES (?, 1, ?, ?, 1, ?, '[]', ?, '{\"is_classification\":false}')",
                ((number, f"{number}.1", STAGE, *texts(number)) for number in numbers),
            )
            db.execute("COMMIT")


def texts(number: int) -> tuple[str, str]:
    """Instruction and instances of a task: some 15 words, then 10 and 50."""
    rng = random.Random(number)
    instruction, given, made = (" ".join(rng.choices(WORDS, k=k)) for k in (15, 10, 50))
    return f"{instruction} {number}.", json.dumps([{"input": given, "output": made}])


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows in Alpaca's columns, read with what Python has."""
    query = "SELECT instruction, stayed FROM drafts WHERE kept = 1 ORDER BY rank"
    for instruction, stayed in sqlite3.connect(folder / "ledger.sqlite").execute(query):
        for instance in json.loads(stayed):
            yield {"instruction": instruction, **instance}


def ready(samples: int) -> Iterator[dict[str, Any]]:
    """As many rows, from a pool that costs nothing."""
    pool = [
        {"instruction": instruction, **instance}
        for instruction, instances in map(texts, range(1, 1001))
        for instance in json.loads(instances)
    ]
    for number in range(samples):
        yield pool[number % len(pool)]


def ours(folder: Path, samples: int, name: str, kind: str, **options: Any) -> None:
    """One format of ours, from the ledger to the file."""
    with Ledger.open(folder) as ledger:
        export(ledger, STAGE, [name], folder / "export", ExportConfig(file_type=kind, **options))  # type: ignore[arg-type]


def bare_datasets(folder: Path, samples: int, name: str, kind: str, **options: Any) -> None:
    """What `datasets` takes for rows of a generator: through its Arrow file, as it does it."""
    import datasets

    datasets.disable_progress_bars()
    source, arguments = (ready, {"samples": samples}) if name == "ready" else (read, {"folder": folder})
    with tempfile.TemporaryDirectory() as cache:
        made = datasets.Dataset.from_generator(source, gen_kwargs=arguments, cache_dir=cache)
        getattr(made, "to_parquet" if kind == "parquet" else "to_json")(str(folder / f"bare.{kind}"))


def bare_pyarrow(folder: Path, samples: int, name: str, kind: str, **options: Any) -> None:
    """Row groups through pyarrow, or lines through json."""
    import pyarrow as pa
    from pyarrow import parquet

    if kind == "jsonl":
        with (folder / "bare.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in read(folder))
        return
    writer, batch = None, []
    for row in read(folder):
        batch.append(row)
        if len(batch) == BATCH:
            table = pa.Table.from_pylist(batch)
            writer = writer or parquet.ParquetWriter(folder / "bare.parquet", table.schema)
            writer.write_table(table)
            batch = []
    assert writer is not None
    writer.close()


WAYS = {"ours": ours, "datasets": bare_datasets, "pyarrow, json": bare_pyarrow}


def measured(way: str, folder: Path, samples: int, name: str, kind: str, **options: Any) -> tuple[float, float, float]:
    """Rows a second, by the clock and of CPU time, and the peak of memory in MB, in a process of its own."""
    told = json.dumps([way, str(folder), samples, name, kind, options])
    done = subprocess.run([sys.executable, __file__, "--way", told], check=True, stdout=subprocess.PIPE, text=True)
    seconds, cpu, peak = json.loads(done.stdout)
    return samples / seconds, samples / cpu, peak


def way(told: str) -> None:
    """What `measured` starts."""
    name, folder, samples, *rest, options = json.loads(told)
    began, cpu = time.perf_counter(), time.process_time()
    WAYS[name](Path(folder), samples, *rest, **options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps([seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", default=["alpaca", "messages", "self-instruct"])
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way(options.way)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        began = time.perf_counter()
        make(folder, options.samples)
        size = (folder / "ledger.sqlite").stat().st_size / 1e6
        print(f"a ledger of {options.samples:,} samples, {size:,.0f} MB, made in {time.perf_counter() - began:.0f} s\n")
        print(f"| {'way':<38} | kind    |  rows/s | rows/s CPU | peak MB |")
        print(f"|{'-' * 40}|---------|--------:|-----------:|--------:|")
        plan: list[tuple[str, str, str, dict[str, Any]]] = [
            (f"ours, {name}", "ours", name, {}) for name in options.formats
        ]
        plan += [
            ("ours, alpaca, validation, provenance", "ours", "alpaca", {"validation": 0.1, "provenance": True}),
            ("bare `datasets`, rows of the ledger", "datasets", "", {}),
            ("bare `datasets`, rows ready in memory", "datasets", "ready", {}),
            ("bare pyarrow or json, of the ledger", "pyarrow, json", "", {}),
        ]
        for kind in ("jsonl", "parquet"):
            for title, name, fmt, further in plan:
                rate, cpu, peak = measured(name, folder, options.samples, fmt, kind, **further)
                print(f"| {title:<38} | {kind:<7} | {rate:7,.0f} | {cpu:10,.0f} | {peak:7,.0f} |", flush=True)


if __name__ == "__main__":
    main()
