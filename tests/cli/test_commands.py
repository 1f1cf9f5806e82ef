"""What every command prints, whole, on a run in which two tasks were kept and two drafts dropped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from selfinstruct.cli.main import cli
from tests.cli.conftest import Say
from tests.support.cli import INSTRUCTIONS, SEEDS, Said, answers, seeds, write

AGAIN = "`selfinstruct export` writes it again"
EXPORTS = "".join(f"outputs/first/export/{name}: 2 rows\n" for name in ("alpaca.json", "alpaca.jsonl", "samples.jsonl"))
TIDE, BUS = INSTRUCTIONS[0], INSTRUCTIONS[3]


def timeless(text: str) -> str:
    """Without what differs from time to time."""
    text = re.sub(r"\d+ tokens/s", "… tokens/s", text)
    text = re.sub(r" · about .* left", "", text)
    return re.sub(r'"seconds": [\d.]+', '"seconds": 0', text)


# -- generate
# -------------------------------------------------------------------------------------------------------------


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
    assert estimate.splitlines()[6] == "Nothing was asked."
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


# -- looking
# -------------------------------------------------------------------------------------------------------------


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


def test_show_tells_the_latest_tasks_with_their_story(first: Said, selfinstruct: Say) -> None:
    shown = "s3, s5, s6, s4, s2, s7, s1, s0"
    assert (
        re.sub("shown .*", f"shown {shown}", selfinstruct("show", "first").out)
        == f"""\
2.1 (instances) kept
  instruction: {TIDE}
  input: the sea
  output: It is wide.
  job 1 (instructions), shown {shown}
  job 2 (instances)

3.1 (instances) kept
  instruction: {BUS}
  input: the sea
  output: It is wide.
  job 1 (instructions), shown {shown}
  job 3 (instances)

"""
    )


def test_show_tells_why_a_draft_was_dropped(first: Said, selfinstruct: Say) -> None:
    assert selfinstruct("show", "first", "1.2").out.splitlines()[:2] == [
        '1.2 (instructions) dropped by validity: banned_word {"word": "Draw"}',
        "  instruction: Draw a map of the town.",
    ]


def test_show_prints_what_was_asked_and_answered(first: Said, selfinstruct: Say) -> None:
    told = selfinstruct("show", "first", "2.1", "--prompts").out
    assert "    asked: A list of varied tasks" in told
    assert "    answered (stop): No\n" in told
    story = json.loads(selfinstruct("show", "first", "2.1", "--json").out)
    assert [step["stage"] for step in story["lineage"]] == ["instructions", "instances"]
    assert story["instances"] == [{"input": "the sea", "output": "It is wide."}]


def test_drops_names_filter_reason_and_for_a_near_duplicate_of_what(first: Said, selfinstruct: Say) -> None:
    near = (
        "1.3  near_duplicate (rouge)  Name three rivers of Europe!\n      1.000 like s0: Name three rivers of Europe.\n"
    )
    banned = "1.2  banned_word (validity)  Draw a map of the town.\n      word: Draw\n"
    assert selfinstruct("drops", "first").out == banned + near
    assert selfinstruct("drops", "first", "--reason", "near_duplicate").out == near
    assert selfinstruct("drops", "first", "--filter", "validity").out == banned
    assert selfinstruct("drops", "first", "-n", "1").out == banned
    assert json.loads(selfinstruct("drops", "first", "--json", "--filter", "rouge").out) == {
        "id": "1.3", "stage": "instructions", "filter": "rouge", "reason": "near_duplicate",
        "detail": {"of": "s0", "score": 1.0}, "instruction": "Name three rivers of Europe!",
    }  # fmt: skip


# -- the rest
# -----------------------------------------------------------------------------------------------------------


def test_filter_judges_again_into_a_copy(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct("filter", "first", "--set", 'filters.validity.banned_words=["bus"]')
    assert said.code == 0
    assert said.out == EXPORTS.replace("first/", "first-filtered/").replace("2 rows", "1 rows")
    assert said.err == (
        "instances: kept 2 -> 1\ninstances: parent_dropped 0 -> 1\n"
        "instructions: kept 2 -> 2\ninstructions: banned_word 1 -> 1\ninstructions: near_duplicate 1 -> 1\n"
    )
    assert "filtered copy" in selfinstruct("status", "first-filtered").out
    assert "2 of 2 tasks kept" in selfinstruct("status", "first").out
    assert selfinstruct("filter", "first").err == (
        "selfinstruct: outputs/first-filtered: exists already; name another with --into\n"
    )


def test_retry_of_a_run_without_failures_says_so(first: Said, selfinstruct: Say) -> None:
    assert selfinstruct("retry", "first") == (0, "", "outputs/first: no job has failed\n")


def test_verify_says_what_it_derived(first: Said, selfinstruct: Say, here: Path) -> None:
    assert selfinstruct("verify", "first") == (
        0, "outputs/first: verified: 3 jobs, 6 drafts and the exports derive from the stored answers\n", "",
    )  # fmt: skip
    (here / "outputs/first/export/alpaca.json").write_text("[]\n")
    assert selfinstruct("verify", "first") == (
        1,
        f"outputs/first/export/alpaca.json: not what the run's own settings give; {AGAIN}\n",
        "outputs/first: 1 differences\n",
    )


def test_export_writes_the_formats_asked_for(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct("export", "first", "--format", "alpaca", "--to", "data")
    assert said == (0, "data/alpaca.json: 2 rows\ndata/alpaca.jsonl: 2 rows\n", "")
    assert json.loads((here / "data/alpaca.json").read_text()) == [
        {"instruction": TIDE, "input": "the sea", "output": "It is wide."},
        {"instruction": BUS, "input": "the sea", "output": "It is wide."},
    ]
    assert sorted(path.name for path in (here / "data").iterdir()) == [
        "alpaca.json", "alpaca.jsonl", "axolotl.yaml", "dataset_info.json",
    ]  # fmt: skip


def test_export_splits_shards_and_says_where_a_row_is_from(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct(
        "export", "first", "--format", "messages", "--to", "data", "--validation", "1", "--shard-rows", "1",
        "--system-prompt", "Be kind.", "--provenance", "--split-seed", "3",
    )  # fmt: skip
    assert said == (0, "data/messages/train: 1 rows\ndata/messages/validation: 1 rows\n", "")
    [row] = [json.loads(line) for line in (here / "data/messages/train/00000-of-00001.jsonl").read_text().splitlines()]
    assert row["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (row["recipe"], row["model"]) == ("self-instruct", "scripted")


def test_export_replaces_in_the_folder_of_the_run_and_elsewhere_only_when_told(first: Said, selfinstruct: Say) -> None:
    alpaca = ("export", "first", "--format", "alpaca", "--file-type", "parquet")
    assert selfinstruct(*alpaca) == (0, "outputs/first/export/alpaca.parquet: 2 rows\n", "")
    assert selfinstruct(*alpaca, "--to", "data").code == 0
    assert selfinstruct(*alpaca, "--to", "data") == (
        2, "", "selfinstruct: data/alpaca.parquet: exists already; name another folder with --to, or add --force\n",
    )  # fmt: skip
    assert selfinstruct(*alpaca, "--to", "data", "--force").code == 0


def test_a_run_exports_by_its_own_table_and_verifies(here: Path, selfinstruct: Say) -> None:
    flags = ("--script", answers(here), "--seeds", seeds(here), "-n", "2", "--concurrency", "1", "--run", "first")
    settings = ("--set", "export.validation=0.5", "--set", "export.file_type=parquet", "--format", "messages")
    said = selfinstruct("generate", *flags, *settings)
    train, validation = (f"outputs/first/export/messages-{split}.parquet" for split in ("train", "validation"))
    assert (said.code, said.out) == (0, f"{train}: 1 rows\n{validation}: 1 rows\n")
    assert selfinstruct("verify", "first").code == 0
    (here / train).write_bytes((here / validation).read_bytes())
    assert selfinstruct("verify", "first").out == f"{train}: not what the run's own settings give; {AGAIN}\n"


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


def test_check_tells_what_answers(here: Path, selfinstruct: Say) -> None:
    script = write(here, "short.jsonl", [" 4, 5", "Yes."])
    said = selfinstruct("check", "--script", script)
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "model scripted at scripted\n  completion: answers, such as '4, 5'\n  chat: answers, such as 'Yes.'\n"
        "  prompts will be in the completion dialect (--dialect overrides)\n"
    )
    assert json.loads(selfinstruct("check", "--script", script, "--json").out)["dialect"] == "completion"


def test_version_is_one_line(selfinstruct: Say) -> None:
    said = selfinstruct("--version")
    assert said.code == 0
    assert re.fullmatch(r"selfinstruct, version \d+\.\d+\.\d+\n", said.out)


@pytest.mark.parametrize(
    "command", [[], ["seeds", "check"], *([name] for name in cli.commands if name != "seeds")], ids=" ".join
)
def test_help_ends_with_an_example_to_paste(command: list[str], selfinstruct: Say) -> None:
    said = selfinstruct(*command, "--help")
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"\n +selfinstruct {' '.join(command)}", said.out)
