"""`selfinstruct generate`, whole outputs: its story, its files, its estimate, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import EXPORTS, TIDE, Say, timeless
from tests.support.cli import INSTRUCTIONS, SEEDS, Said, answers, seeds, write


def test_generate_tells_its_story_on_stderr_and_names_its_files_on_stdout(first: Said) -> None:
    assert first.code == 0
    assert first.out == EXPORTS
    told = timeless(first.err).splitlines()
    assert told[0] == "outputs/first: 0 of 2 tasks kept; model scripted"
    assert (
        told[-1] == "2 of 2 tasks kept · 2 dropped · 0 in flight · … tokens/s · drops: banned_word 1, near_duplicate 1"
    )


def test_generate_again_says_that_the_run_is_complete(first: Said, selfinstruct: Say) -> None:
    again = selfinstruct("generate", "--run", "first")
    assert again == (0, EXPORTS, "outputs/first is complete: 2 tasks kept; -n 4 would extend it.\n")


def test_a_complete_run_is_extended(first: Said, selfinstruct: Say, here: Path) -> None:
    script = answers(here, "\n10. ".join(INSTRUCTIONS))
    more = selfinstruct("generate", "--run", "first", "-n", "3", "--script", script, "--quiet")
    assert (more.code, more.out, more.err) == (0, EXPORTS.replace("2 rows", "3 rows"), "")
    assert "3 of 3 tasks kept, complete" in selfinstruct("status", "first").out
    assert selfinstruct("verify", "first").code == 0


def test_quiet_shows_nothing_but_the_result(here: Path, selfinstruct: Say) -> None:
    said = selfinstruct(
        "generate", "--script", answers(here), "--seeds", seeds(here), "--run", "first", "-n", "2", "--quiet"
    )
    assert (said.code, said.err) == (0, "")
    assert said.out == EXPORTS


def test_json_prints_events_and_nothing_else(here: Path, selfinstruct: Say) -> None:
    flags = ("--seeds", seeds(here), "-n", "1", "--concurrency", "1", "--json")
    said = selfinstruct("generate", "--script", answers(here, f" {TIDE}"), *flags)
    assert (said.code, said.err) == (0, "")
    events = [json.loads(line) for line in timeless(said.out).splitlines()]
    assert [event["event"] for event in events] == [
        "planned", "answered", "settled", "answered", "answered", "settled", "ended",
    ]  # fmt: skip
    assert events[2]["drafts"] == [{"id": "1.1", "kept": True, "reason": "passed", "instruction": TIDE}]
    assert events[-1] == {"event": "ended", "ending": "complete", "tasks": 1, "message": ""}


def test_a_dry_run_prints_the_first_prompt_and_an_estimate_and_leaves_nothing(here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("generate", "--script", answers(here), "--seeds", seeds(here), "--dry-run", "-n", "700")
    prompt, estimate = said.out.split("\n\nEstimate ")
    assert prompt.startswith("--- the first prompt ---\nA list of varied tasks")
    assert all(seed["instruction"] in prompt for seed in SEEDS)
    assert prompt.endswith("\n9.")
    assert estimate.splitlines()[:3] == [
        "for 700 tasks with self-instruct (scripted, completion dialect), by experience with small models:",
        "  instructions: about 333 jobs, 3 kept from each",
        "  instances: about 1,000 jobs, 0.7 kept from each",
    ]
    assert re.fullmatch(r"  about 2,333 requests, [\d,]+ tokens in, [\d,]+ out", estimate.splitlines()[3])
    assert estimate.splitlines()[4] == "  cost: no cost (a model of your own)"
    assert estimate.splitlines()[5] == "Nothing was asked."
    assert (said.code, said.err) == (0, "")
    assert sorted(path.name for path in here.iterdir()) == ["answers.jsonl", "seeds.jsonl"]


def test_a_run_whose_server_fails_every_job_says_how_to_retry_and_exits_1(here: Path, selfinstruct: Say) -> None:
    script = write(here, "faults.jsonl", [{"fault": "refused", "text": "too rude"}] * 9)
    flags = ("--seeds", seeds(here), "--concurrency", "1", "--set", "patience=2", "--quiet", "--run", "first")
    said = selfinstruct("generate", "--script", script, *flags)
    assert said.code == 1
    assert said.out == ""
    assert said.err == (
        "outputs/first: stopped: the last 2 jobs failed, most recently: too rude\n"
        "outputs/first: 2 jobs failed; `selfinstruct retry outputs/first` asks again\n"
    )
    write(here, "faults.jsonl", [" Explain why the tide rises.", *["No", "Output: The moon."] * 9])
    assert selfinstruct("retry", "first").err.startswith("outputs/first: asking again for 2 failed jobs\n")


def test_a_run_that_keeps_nothing_says_where_to_look_and_exits_1(here: Path, selfinstruct: Say) -> None:
    script = write(here, "poor.jsonl", ["Hm."] * 9)
    flags = ("--seeds", seeds(here), "--concurrency", "1", "--set", "patience=2", "--quiet", "--run", "first")
    said = selfinstruct("generate", "--script", script, *flags)
    assert said.code == 1
    assert said.err == (
        "outputs/first: stopped: the last 2 jobs kept nothing; `selfinstruct drops` tells why, "
        "--set patience=… allows more\n"
    )


def test_seeds_may_be_named_without_a_flag(here: Path, selfinstruct: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """`generate my.jsonl` is `generate --seeds my.jsonl`, whatever the environment says."""
    monkeypatch.setenv("SELFINSTRUCT_GENERATE_SEEDS", "nothing.jsonl")
    flags = ("--script", answers(here), "--run", "first", "-n", "2", "--quiet")
    assert selfinstruct("generate", seeds(here), *flags) == (0, EXPORTS, "")
    assert f'seeds = "{seeds(here)}"' in (here / "outputs/first/config.toml").read_text()


def test_settings_of_further_recipes(here: Path, selfinstruct: Say) -> None:
    """`--set then.…` adds to a recipe that `--then` names, by its place or, where there is one, without."""
    flags = ("--script", answers(here), "--seeds", seeds(here), "-n", "2", "--dry-run", "--then", "evol-instruct")
    assert selfinstruct("generate", *flags, "--set", "then.rounds=2").code == 0
    twice = (*flags, "--then", "evol-instruct")
    assert selfinstruct("generate", *twice, "--set", "then.1.rounds=2").code == 0
    refused = selfinstruct("generate", *twice, "--set", "then.1.rounds=0").err
    assert refused.startswith("selfinstruct: recipe evol-instruct: `rounds` = 0")
