"""`selfinstruct seeds check`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Say
from tests.support.cli import SEEDS, seeds, write


def test_a_file_of_thousands_of_problems_shows_the_first_and_counts_the_others(here: Path, selfinstruct: Say) -> None:
    rows = [{"instruction": f"Name river number {n} of the list."} for n in range(120)] + [{"instruction": ""}] * 60
    said = selfinstruct("seeds", "check", write(here, "big.jsonl", rows))
    assert said.out.count("warning: no instances") == said.out.count("error: no instruction") == 50
    assert "\n… and " in said.out
    assert said.out.endswith("60 errors, 239 warnings: the seeds do not load as they are\n")


def test_seeds_check_says_what_is_there_and_what_is_wrong(here: Path, selfinstruct: Say) -> None:
    good = selfinstruct("seeds", "check", seeds(here))
    assert good.code == 0
    assert good.out.splitlines()[0].startswith("8 seeds with 8 instances; 0 classification, 8 without input")
    assert good.out.endswith("0 errors, 0 warnings: the seeds load\n")
    bad = selfinstruct("seeds", "check", write(here, "bad.jsonl", [*SEEDS, {"instruction": " "}]))
    assert bad.code == 2
    assert "bad.jsonl:9: error: no instruction" in bad.out
    assert json.loads(selfinstruct("seeds", "check", seeds(here), "--json").out)["seeds"] == 8
