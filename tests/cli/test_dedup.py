"""`dedup` as people use it: whole outputs, and each mistake one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Say
from tests.support.cli import write

ROWS = [{"instruction": f"Write a poem about the {what}."} for what in ("sea", "moon")]
ROWS += [{"instruction": "Name three rivers in France."}]


def test_dedup_counts_and_names_both_files(here: Path, selfinstruct: Say) -> None:
    write(here, "mine.jsonl", ROWS)
    out = "3 rows: 2 kept, 1 dropped\nmine.kept.jsonl\nmine.dropped.jsonl\n"
    assert selfinstruct("dedup", "mine.jsonl") == (0, out, "")
    assert len((here / "mine.kept.jsonl").read_text().splitlines()) == 2


def test_dedup_against_a_fixed_corpus_says_how_many_fell_to_it(here: Path, selfinstruct: Say) -> None:
    write(here, "mine.jsonl", ROWS)
    write(here, "test.jsonl", [{"instruction": "Name four rivers in France."}])
    said = selfinstruct(
        "dedup", "mine.jsonl", "--against", "test.jsonl", "--to", "k.csv", "--dropped", "d.json", "--json"
    )
    report = {"rows": 3, "kept": 1, "dropped": 2, "against": 1, "kept_file": "k.csv", "dropped_file": "d.json"}
    assert (said.code, json.loads(said.out), said.err) == (0, report, "")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("nope.jsonl", "nope.jsonl: no such file or folder; check the spelling, and where you are"),
        ("empty.jsonl", "empty.jsonl: no rows in it that can be read; bring a file with a row for each task"),
        ("half.jsonl", "half.jsonl:2: "),
        ("mine.jsonl --field text", "mine.jsonl:1: no field 'text'; there are instruction: name one with --field"),
        ("mine.jsonl --threshold 0", "Invalid value for '--threshold': 0.0 is not in the range 0<x<=1"),
        ("mine.jsonl --against mine.jsonl", "mine.jsonl: given both as a file to deduplicate and as --against"),
        ("mine.jsonl --to mine.jsonl", "mine.jsonl: given both as a file to deduplicate and as where the kept rows go"),
        ("mine.jsonl --to there.jsonl", "there.jsonl: exists already; name another with --to and --dropped"),
        ("mine.jsonl --to out.txt", "out.txt: unknown kind of file; known: .jsonl, .json, .csv, .parquet"),
        ("", "Missing argument 'FILES...'"),
    ],
)
def test_a_mistake_is_one_line_and_overwrites_nothing(
    here: Path, selfinstruct: Say, arguments: str, problem: str
) -> None:
    write(here, "mine.jsonl", ROWS)
    (here / "empty.jsonl").write_text("")
    (here / "half.jsonl").write_text('{"instruction": "Name a river."}\n{"instruction": "Na')
    (here / "there.jsonl").write_text("precious\n")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    said = selfinstruct("dedup", *arguments.split())
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"selfinstruct: {problem}")
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


def test_force_replaces_what_exists(here: Path, selfinstruct: Say) -> None:
    write(here, "mine.jsonl", ROWS)
    (here / "there.jsonl").write_text("old\n")
    assert selfinstruct("dedup", "mine.jsonl", "--to", "there.jsonl", "--force").code == 0
    assert "old" not in (here / "there.jsonl").read_text()
