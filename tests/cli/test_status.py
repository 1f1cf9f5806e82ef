"""`selfinstruct status`, whole outputs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Say
from tests.support.cli import Said
from tests.support.runs import Run


def test_status_tells_how_a_run_is(first: Said, selfinstruct: Say) -> None:
    assert (
        selfinstruct("status", "first").out
        == """\
outputs/first: 2 of 2 tasks kept, complete
  recipe self-instruct, model scripted
  instructions: 4 drafts, 2 kept
  instances: 2 drafts, 2 kept
    dropped 1 × near_duplicate (rouge, instructions)
    dropped 1 × banned_word (validity, instructions)
  jobs: instructions settled 1, instances settled 2
  5 answers, 2,092 tokens in (0 from cache), 50 out; no cost
  outputs/first/export/alpaca.json
  outputs/first/export/alpaca.jsonl
  outputs/first/export/axolotl.yaml
  outputs/first/export/dataset_info.json
  outputs/first/export/samples.jsonl
"""
    )


def test_status_in_json_says_the_same(first: Said, selfinstruct: Say) -> None:
    facts = json.loads(selfinstruct("status", "first", "--json").out)
    assert (facts["run"], facts["kept"], facts["target"], facts["state"]) == ("outputs/first", 2, 2, "complete")
    assert sum(drop["count"] for drop in facts["drops"]) == 2
    assert facts["drafts"][0] == {"stage": "instructions", "drafts": 4, "kept": 2}


def test_status_lists_all_runs_and_one_that_is_broken_hides_none(first: Said, selfinstruct: Say, here: Path) -> None:
    (here / "outputs" / "broken").mkdir()
    (here / "outputs" / "broken" / "ledger.sqlite").write_text("no ledger at all " * 9)
    lines = selfinstruct("status").out.splitlines()
    assert "outputs/first: 2 of 2 kept, complete" in lines
    assert any(line.startswith("outputs/broken/ledger.sqlite: ") for line in lines)
    listed = json.loads(selfinstruct("status", "--json").out)
    assert {entry["run"]: entry.get("state") for entry in listed} == {
        "outputs/first": "complete",
        "outputs/broken": None,
    }


def test_status_of_nothing_says_how_to_begin(here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("status")
    assert said == (0, "no runs under outputs yet; `selfinstruct generate` begins one\n", "")


def test_each_of_several_models_has_its_cost(here: Path, selfinstruct: Say) -> None:
    """A row for each with its tokens and cost; where a price is not known, the total names the model."""
    told = {"kind": "openai", "base_url": "http://10.1.2.3/v1"}
    writers = [{**told, "model": "a", "price_in": 1.0, "price_out": 2.0}, {**told, "model": "b"}]
    run = Run(here / "outputs", n=2, roles={"writer": writers})
    run.change("""UPDATE run SET value = '{"writer:a": "a", "writer:b": "b-0925"}' WHERE key = 'models'""")
    for door in ("writer:a", "writer:b"):
        run.change("INSERT INTO meter (role, requests, prompt_tokens, completion_tokens) VALUES (?, 3, 1000000, 2000)",
                   door)  # fmt: skip
    facts = json.loads(selfinstruct("status", "run", "--json").out)
    assert {role: meter["cost"] for role, meter in facts["meter"].items()} == {"writer:a": 1.004, "writer:b": None}
    assert (facts["model"], facts["cost"]) == ("a, b-0925", None)
    lines = selfinstruct("status", "run").out.splitlines()
    assert lines[1] == "  recipe self-instruct, writer:a a, writer:b b-0925"
    assert lines[3:] == [
        "  0 answers, 0 tokens in (0 from cache), 0 out; price of b-0925 unknown",
        "    writer:a: 3 requests, 1,000,000 tokens in, 2,000 out; $1.00",
        "    writer:b: 3 requests, 1,000,000 tokens in, 2,000 out; price unknown",
    ]
