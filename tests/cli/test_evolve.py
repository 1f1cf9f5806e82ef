"""`selfinstruct evolve` as people use it: whole outputs, a scripted model, and what they get wrong."""

# ruff: noqa: E501 - a message is one line, and so it stands here

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.inputs.config import RecipeConfig, RunConfig
from selfinstruct.recipes.chain import Chain
from selfinstruct.run.told import source
from tests.cli.conftest import Say, timeless
from tests.support.cli import INSTRUCTIONS, Said, answers, write

TIDE, BUS = INSTRUCTIONS[0], INSTRUCTIONS[3]
TIDE_2 = f"{TIDE} Tell also where on earth it rises only once, and what the shape of a bay adds."
BUS_2 = f"{BUS} Weigh the price, the time and the view, and name a trip where the bus wins."
TIDE_3 = f"{TIDE_2} Then draw up a table of tides for one week in a harbour of your choice."
BUS_3 = f"{BUS_2} Write it as a letter to a friend who has never left the island on foot."
WHY = "Twice, for the earth turns under it."
"""The answer to every evolved task."""
KNOWN = "add_constraints, code_complexity, code_constraints, code_misdirect, code_rarer, code_reasoning, complicate_input, concretise, deepen, in_breadth, increase_reasoning"


def evolving(folder: Path, *tasks: Any, judge: str = " Not equal", name: str = "evolve.jsonl") -> str:
    """A script: these evolved tasks in order, one judgement on all of them, one answer to all of them."""
    return write(folder, name, [
        {"when": "Two tasks are equal if", "text": judge}, {"when": "full and correct answer", "text": f" {WHY}"},
        *(tasks or (TIDE_2, BUS_2)),
    ])  # fmt: skip


def alpaca(folder: Path, *rows: dict[str, str]) -> str:
    """An Alpaca file of two tasks."""
    path = folder / "alpaca.json"
    tasks = rows or (
        {"instruction": TIDE, "input": "", "output": "…"},
        {"instruction": BUS, "input": "", "output": "…"},
    )
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path.name


ONCE = ("--operators", "deepen=1", "--rounds", "1", "--concurrency", "1")


def exports(run: str, rows: int) -> str:
    return "".join(
        f"outputs/{run}/export/{name}: {rows} rows\n" for name in ("alpaca.json", "alpaca.jsonl", "samples.jsonl")
    )


def exported(here: Path, run: str) -> list[dict[str, str]]:
    return json.loads((here / f"outputs/{run}/export/alpaca.json").read_text())  # type: ignore[no-any-return]


# -- a run, a file, and both again
# ----------------------------------------------------------------------------------------------------------------------


def test_the_tasks_of_a_run_are_evolved(first: Said, here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "first", "--script", evolving(here), *ONCE)
    assert (said.code, said.out) == (0, exports("first-evolved", 2))
    told = timeless(said.err).splitlines()
    assert told[0] == "outputs/first-evolved: 0 tasks kept; model scripted"
    assert told[-1] == "2 of 2 evolve jobs done, 2 tasks kept · 0 dropped · 0 in flight · … tokens/s"
    # The tasks of `first` have the input "the sea", which stands in the evolved task or is left out by its model.
    assert exported(here, "first-evolved") == [
        {"instruction": TIDE_2, "input": "", "output": WHY}, {"instruction": BUS_2, "input": "", "output": WHY},
    ]  # fmt: skip
    shown = json.loads(selfinstruct("show", "first-evolved", "2.1", "--json").out)
    family = ("operator", "round", "depth", "root", "parent", "judgement", "evolved_from", "added_words")
    assert {key: shown[key] for key in family} == {
        "operator": "deepen", "round": 1, "depth": 1, "root": "first/2.1", "parent": "first/2.1", "judgement": "not_equal",
        "evolved_from": f"{TIDE}\nthe sea", "added_words": [10, 20],
    }  # fmt: skip
    assert selfinstruct("verify", "first-evolved").code == 0


def test_the_path_of_a_run_is_its_name(first: Said, here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "outputs/first/", "--script", evolving(here), *ONCE, "--quiet")
    assert said == (0, exports("first-evolved", 2), "")


def test_the_rows_of_an_alpaca_file_are_evolved_round_by_round(here: Path, selfinstruct: Say) -> None:
    script = evolving(here, TIDE_2, TIDE_3, f"{BUS_2} #Given Prompt#", BUS_2)
    flags = ("--operators", "deepen=1", "--rounds", "2", "--concurrency", "1")
    said = selfinstruct("evolve", alpaca(here), "--script", script, *flags, "--quiet")
    assert said == (0, exports("alpaca-evolved", 3), "")
    assert exported(here, "alpaca-evolved") == [
        {"instruction": task, "input": "", "output": WHY} for task in (TIDE_2, TIDE_3, BUS_2)
    ]
    rows = map(json.loads, (here / "outputs/alpaca-evolved/export/samples.jsonl").read_text().splitlines())
    assert [(row["round"], row["depth"], row["root"]) for row in rows] == [
        (1, 1, "seed_0001"), (2, 2, "seed_0001"), (2, 1, "seed_0002"),
    ]  # fmt: skip


def test_an_evolution_that_is_done_says_so_when_it_is_run_again(here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), *ONCE, "--quiet")
    assert selfinstruct(*command) == (0, exports("alpaca-evolved", 2), "")
    done = "outputs/alpaca-evolved is complete: 2 tasks kept; nothing is left to do.\n"
    assert selfinstruct(*command) == (0, exports("alpaca-evolved", 2), done)


def test_the_same_command_continues_an_evolution_that_was_cut_short(here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here, TIDE_2), *ONCE, "--quiet")
    cut = selfinstruct(*command)
    assert cut.code == 2
    assert cut.err.endswith('evolve.jsonl: all 1 answers are given: add more, or "choose": "cycle"\n')
    evolving(here, BUS_2)
    assert selfinstruct(*command) == (0, exports("alpaca-evolved", 2), "")
    assert [row["instruction"] for row in exported(here, "alpaca-evolved")] == [TIDE_2, BUS_2]
    assert selfinstruct("verify", "alpaca-evolved").code == 0


@pytest.mark.parametrize("operators", ["deepen", "general", "code", "deepen,in_breadth"])
def test_the_same_operators_are_the_same_run(operators: str, here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here, ""), "--operators", operators, "-n", "1", "--quiet")
    assert selfinstruct(*command).code == 2
    evolving(here, *[TIDE_2] * 20)
    assert "begun with" not in selfinstruct(*command).err


def test_an_evolution_named_itself_is_continued(here: Path, selfinstruct: Say) -> None:
    selfinstruct("evolve", alpaca(here), "--script", evolving(here, TIDE_2), *ONCE, "--quiet")
    evolving(here, BUS_2)
    said = selfinstruct("evolve", "alpaca-evolved", "--quiet")
    assert said.code == 0
    assert said.err == "outputs/alpaca-evolved is an evolution: continuing it; --run evolves what lives in it\n"
    assert [row["instruction"] for row in exported(here, "alpaca-evolved")] == [TIDE_2, BUS_2]


def test_an_evolution_named_itself_is_called_as_it_was(here: Path, selfinstruct: Say) -> None:
    selfinstruct("evolve", alpaca(here), "--script", evolving(here), *ONCE, "--quiet")
    assert selfinstruct("evolve", "alpaca-evolved", "--quiet").out == exports("alpaca-evolved", 2)


def test_with_a_name_of_its_own_what_lives_in_an_evolution_is_evolved(here: Path, selfinstruct: Say) -> None:
    script = evolving(here, TIDE_2, f"{BUS_2} #Rewritten Prompt#")
    selfinstruct("evolve", alpaca(here), "--script", script, *ONCE, "--quiet")
    further = evolving(here, BUS_2, TIDE_3, name="further.jsonl")
    said = selfinstruct("evolve", "alpaca-evolved", "--run", "further", "--script", further, *ONCE, "--quiet")
    assert said == (0, exports("further", 2), "")
    live = source(Chain.of(RunConfig(recipe=RecipeConfig(name="evol-instruct"))), here / "outputs/alpaca-evolved")
    assert [(seed.id, seed.instruction) for seed in live] == [
        ("alpaca-evolved/seed_0002", BUS), ("alpaca-evolved/2.1", TIDE_2),
    ]  # fmt: skip
    assert [row["instruction"] for row in exported(here, "further")] == [BUS_2, TIDE_3]


def test_as_many_are_kept_as_were_asked_for_and_more_when_more_are(here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), *ONCE, "--quiet", "-n")
    assert selfinstruct(*command, "1") == (0, exports("alpaca-evolved", 1), "")
    assert selfinstruct("status", "alpaca-evolved").out.startswith(
        "outputs/alpaca-evolved: 1 of 1 tasks kept, complete\n"
    )
    evolving(here, BUS_2)
    assert selfinstruct(*command, "2") == (0, exports("alpaca-evolved", 2), "")
    said = selfinstruct(*command, "9")
    assert (said.code, said.out) == (1, exports("alpaca-evolved", 2))
    assert said.err == "outputs/alpaca-evolved: nothing more can be planned; 2 of 9 tasks kept\n"


def test_events_as_json_lines(here: Path, selfinstruct: Say) -> None:
    one = alpaca(here, {"instruction": TIDE, "input": "", "output": "…"})
    said = selfinstruct("evolve", one, "--script", evolving(here, TIDE_2), *ONCE, "--json")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [event["event"] for event in events] == [
        "planned", "answered", "settled", "answered", "answered", "settled", "ended",
    ]  # fmt: skip
    assert events[-1] == {"event": "ended", "ending": "complete", "tasks": 1, "message": ""}


def test_a_failed_job_is_told_and_retried(here: Path, selfinstruct: Say) -> None:
    script = evolving(here, {"fault": "refused", "text": "too rude"}, BUS_2)
    said = selfinstruct("evolve", alpaca(here), "--script", script, *ONCE, "--quiet")
    assert said == (
        1,
        exports("alpaca-evolved", 1),
        "outputs/alpaca-evolved: 1 job failed; `selfinstruct retry outputs/alpaca-evolved` asks again\n",
    )
    evolving(here, TIDE_2)
    said = selfinstruct("retry", "alpaca-evolved")
    assert (said.code, said.out) == (0, exports("alpaca-evolved", 2))
    assert said.err.startswith("outputs/alpaca-evolved: asking again for 1 failed job\n")


def test_an_evolution_is_what_the_recipe_of_that_name_makes(here: Path, selfinstruct: Say) -> None:
    flags = ("--set", 'recipe.operators=["deepen"]', "--set", "recipe.rounds=1", "--concurrency", "1", "--quiet")
    said = selfinstruct(
        "generate",
        "--recipe",
        "evol-instruct",
        "--seeds",
        alpaca(here),
        "--script",
        evolving(here),
        "--run",
        "made",
        *flags,
    )
    assert said == (0, exports("made", 2), "")


# -- flags
# ----------------------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_first_prompt_and_an_estimate_and_leaves_nothing(here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", alpaca(here), "--script", evolving(here), "--operators", "deepen", "--dry-run")
    assert (said.code, said.err) == (0, "")
    prompt, estimate = said.out.split("\n\nEstimate ")
    assert prompt.startswith(
        "--- the first prompt ---\nEach task is followed by a harder one: the same task in full, with 10 to 20 words added"
    )
    assert prompt.endswith(f"\n\nTask: {TIDE}\nHarder task:")
    lines = estimate.splitlines()
    assert lines[:3] == [
        "for all tasks that 2 seeds make with evol-instruct (scripted, completion dialect), by experience with small models:",
        "  evolve: about 8 jobs, 0.7 kept from each",
        "  answer: about 6 jobs, 0.7 kept from each",
    ]
    assert re.fullmatch(r"  about 19 requests, [\d,]+ tokens in, [\d,]+ out", lines[3])
    assert lines[4] == "  cost: no cost (a model of your own)"
    assert lines[5:] == ["Nothing was asked."]
    assert sorted(path.name for path in here.iterdir()) == ["alpaca.json", "evolve.jsonl"]


def test_a_dry_run_estimates_by_rounds_and_by_target(here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), "--dry-run")
    assert "  evolve: about 20 jobs, " in selfinstruct(*command, "--rounds", "10").out
    said = selfinstruct(*command, "-n", "49").out
    assert "Estimate for 49 tasks with evol-instruct" in said
    assert "  evolve: about 100 jobs, 0.7 kept from each\n  answer: about 70 jobs" in said


def stored(here: Path, run: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads((here / f"outputs/{run}/config.toml").read_text())


OPERATORS = {
    "deepen": {"deepen": 1.0},
    "deepen,in_breadth": {"deepen": 1.0, "in_breadth": 1.0},
    "deepen=2, in_breadth": {"deepen": 2.0, "in_breadth": 1.0},
    "deepen=0.5,concretise=0": {"deepen": 0.5},
    "code": {"code_constraints": 1.0, "code_rarer": 1.0, "code_reasoning": 1.0, "code_misdirect": 1.0, "code_complexity": 0.5},
    "general": dict.fromkeys(["add_constraints", "deepen", "concretise", "increase_reasoning", "complicate_input", "in_breadth"], 1.0),
}  # fmt: skip


@pytest.mark.parametrize(("operators", "weights"), OPERATORS.items(), ids=OPERATORS)
def test_operators_are_named_by_set_by_name_or_with_weights(
    operators: str, weights: dict[str, float], here: Path, selfinstruct: Say
) -> None:
    script = evolving(here, *[""] * 9)
    selfinstruct("evolve", alpaca(here), "--script", script, "--operators", operators, "--rounds", "2", "--quiet")
    assert stored(here, "alpaca-evolved")["recipe"]["operators"] == weights
    assert stored(here, "alpaca-evolved")["recipe"]["rounds"] == 2


@pytest.mark.parametrize(("strict", "rounds", "filters"), [("released", 1, []), ("paper", 4, ["elimination"])])
def test_strict_is_by_the_code_or_by_the_paper(
    strict: str, rounds: int, filters: list[str], here: Path, selfinstruct: Say
) -> None:
    rows = [{"when": "Are the two tasks below equal?", "text": "Not equal"}, *[WHY] * 40]
    script = write(here, "chat.jsonl", rows)
    said = selfinstruct("evolve", alpaca(here), "--script", script, "--dialect", "chat", "--strict", strict, "--quiet")
    assert said == (0, exports("alpaca-evolved", 2 * rounds), "")
    config = stored(here, "alpaca-evolved")
    assert (config["recipe"]["strict"], config["recipe"]["rounds"], list(config["filters"])) == (
        strict,
        rounds,
        filters,
    )
    assert not any(config["recipe"]["switches"].values())
    assert selfinstruct("verify", "alpaca-evolved").code == 0


def test_another_model_judges_where_one_is_named(here: Path, selfinstruct: Say) -> None:
    judge = write(here, "judge.jsonl", ["Equal", "It depends."])
    flags = ("--judge-model", "critic", "--set", f"judge.script={judge}")
    said = selfinstruct(
        "evolve", alpaca(here), "--script", evolving(here, judge=" No one asks me."), *ONCE, *flags, "--quiet"
    )
    assert said == (0, exports("alpaca-evolved", 1), "")
    assert (
        selfinstruct("drops", "alpaca-evolved").out
        == f"2.1  no_information_gain (elimination)  {TIDE_2}\n      judgement: equal\n"
    )
    told = selfinstruct("show", "alpaca-evolved", "4.1", "--prompts").out
    assert "    answered (stop): It depends.\n" in told
    assert selfinstruct("verify", "alpaca-evolved").code == 0
    assert selfinstruct("evolve", "alpaca-evolved").err.endswith("is complete: 1 tasks kept; nothing is left to do.\n")
    assert "No one asks me" not in told


def test_a_judge_that_is_only_named_is_asked_where_the_writer_is(here: Path, selfinstruct: Say) -> None:
    script = evolving(here, judge=" Equal")
    said = selfinstruct("evolve", alpaca(here), "--script", script, *ONCE, "--judge-model", "critic", "--quiet")
    assert said == (0, "", "")
    [judge] = stored(here, "alpaca-evolved")["roles"]["judge"]
    assert judge | {"extra": {}} == {
        "kind": "scripted", "model": "critic", "script": script, "dialect": "completion", "api_key_env": "OPENAI_API_KEY",
        "structured": False, "batch": False, "concurrency": 1, "timeout": 600.0, "attempts": 5, "server_args": [], "context": 4096, "extra": {}, "weight": 1.0,
    }  # fmt: skip


def test_an_evolution_goes_on_with_the_judge_that_it_was_begun_with(here: Path, selfinstruct: Say) -> None:
    judge = write(here, "judge.jsonl", ["Not equal"])
    flags = ("--judge-model", "critic", "--set", f"judge.script={judge}")
    command = ("evolve", alpaca(here), "--script", evolving(here, TIDE_2), *ONCE, "--quiet")
    assert selfinstruct(*command, *flags).code == 2
    evolving(here, BUS_2, judge=" No one asks me.")
    assert selfinstruct(*command) == (0, exports("alpaca-evolved", 2), "")
    said = selfinstruct(*command, "--judge-model", "another")
    assert (
        said.err
        == "selfinstruct: outputs/alpaca-evolved: begun with roles.judge.model = 'critic', not 'another'; leave it out, or begin another run with --run\n"
    )


# -- what people get wrong
# ----------------------------------------------------------------------------------------------------------------------

SCRIPT = "--script evolve.jsonl"
MISTAKES = {
    "evolve": "Missing argument 'SOURCE'; see selfinstruct evolve --help",
    "evolve nowhere": "nowhere: neither a file nor a run; runs under outputs: none yet; `selfinstruct generate` begins one",
    "evolve nowhere.json": "nowhere.json: neither a file nor a run; runs under outputs: none yet; `selfinstruct generate` begins one",
    f"evolve empty.json {SCRIPT}": "empty.json: no rows in it that can be read; bring a file with a row for each task",
    f"evolve empty.jsonl {SCRIPT}": None,
    f"evolve other.json {SCRIPT}": "other.json: its rows are text alone, which does not say where an instruction ends; the columns are: text; rename the one that does",
    f"evolve blank.json {SCRIPT}": "blank.json item 1: no instruction; write what is to be done, or take the row out",
    f"evolve broken.json {SCRIPT}": None,
    f"evolve folder {SCRIPT}": "folder: no data files in this folder; name a file or folder with JSONL, JSON, CSV, TSV or Parquet",
    "evolve alpaca.json blank.json": "Got unexpected extra argument (blank.json); see selfinstruct evolve --help",
    "evolve alpaca.json --seeds blank.json": "No such option '--seeds'. (Did you mean one of: '--ordered', '--seed', '--set'?); see selfinstruct evolve --help",
    "evolve alpaca.json --recipe alpaca": None,
    "evolve alpaca.json -n 0": "Invalid value for '-n' / '--num-tasks': 0 is not in the range x>=1; see selfinstruct evolve --help",
    "evolve alpaca.json --rounds 0": "Invalid value for '--rounds': 0 is not in the range x>=1; see selfinstruct evolve --help",
    "evolve alpaca.json --rounds many": "Invalid value for '--rounds': 'many' is not a valid integer range; see selfinstruct evolve --help",
    f"evolve alpaca.json {SCRIPT} --set recipe.rounds=0": "recipe evol-instruct: `rounds` = 0: input should be greater than or equal to 1",
    f"evolve alpaca.json {SCRIPT} --set rounds=2": None,
    f"evolve alpaca.json {SCRIPT} --operators deepn": f"unknown operator 'deepn'; did you mean deepen? known: {KNOWN}",
    f"evolve alpaca.json {SCRIPT} --operators jazz": f"unknown operator 'jazz'; known: {KNOWN}",
    f"evolve alpaca.json {SCRIPT} --operators deepen,jazz=2": f"unknown operator 'jazz'; known: {KNOWN}",
    f"evolve alpaca.json {SCRIPT} --operators general,code": f"unknown operator 'general'; known: {KNOWN}",
    f"evolve alpaca.json {SCRIPT} --operators deepen=0": "recipe evol-instruct: `operators`: the weights of the operators sum to nothing: give one of them a weight above 0",
    f"evolve alpaca.json {SCRIPT} --operators deepen=0,in_breadth=0": "recipe evol-instruct: `operators`: the weights of the operators sum to nothing: give one of them a weight above 0",
    f"evolve alpaca.json {SCRIPT} --operators deepen=-1": "recipe evol-instruct: `operators.deepen` = -1.0: input should be greater than or equal to 0",
    f"evolve alpaca.json {SCRIPT} --operators deepen=inf": "recipe evol-instruct: `operators.deepen` = inf: input should be a finite number",
    f"evolve alpaca.json {SCRIPT} --operators deepen=nan": "recipe evol-instruct: `operators.deepen` = nan: input should be a finite number",
    "evolve alpaca.json --operators deepen=much": "Invalid value for '--operators': 'deepen=much': write general, code, or names with weights such as deepen=2,in_breadth; see selfinstruct evolve --help",
    "evolve alpaca.json --strict": "Option '--strict' requires an argument",
    "evolve alpaca.json --strict published": "Invalid value for '--strict': 'published' is not one of 'released', 'paper'; see selfinstruct evolve --help",
    f"evolve alpaca.json {SCRIPT} --strict paper": "recipe.strict: the published code asks in chat, but this model takes completions; add --dialect chat, or leave strict out",
    f"evolve alpaca.json {SCRIPT} --dialect chat --strict paper --set recipe.switches.tidy=true": "recipe evol-instruct: strict turns every switch off, but switches.tidy is on: drop one of the two",
    f"evolve alpaca.json {SCRIPT} --set recipe.strict=true": 'recipe evol-instruct: strict of evol-instruct is "released" or "paper"',
    f"evolve alpaca.json {SCRIPT} --set filters.elimination.tolerance=-1": "filters.elimination: `tolerance` = -1: input should be greater than or equal to 0",
    f"evolve alpaca.json {SCRIPT} --set filters.elimination.tolerence=1": "filters.elimination: unknown key `tolerence`; did you mean `tolerance`?",
    f"evolve alpaca.json {SCRIPT} --judge-modle x": None,
    f"evolve alpaca.json {SCRIPT} --set judge.kind=opanai": "unknown backend 'opanai'; did you mean openai? known: llamacpp, openai, scripted, vllm",
    f"evolve alpaca.json {SCRIPT} --set judge.kind=vllm": "roles.judge: a second vLLM server is not started; name one that is running with roles.judge.base_url",
    f"evolve alpaca.json {SCRIPT} --set judge.kind=scripted": "configuration: `roles.judge`: a scripted backend needs `script`, a file of answers",
    f"evolve alpaca.json {SCRIPT} --set judge.script=nope.jsonl": None,
    f"generate {SCRIPT} --set judge.model=critic": "roles.judge: self-instruct asks no judge, but writer; leave it out",
    f"evolve alpaca.json {SCRIPT} --prompts folder/haiku --operators limerick": f"unknown operator 'limerick'; known: {KNOWN.replace('in_breadth', 'haiku, in_breadth')}",
    f"evolve alpaca.json {SCRIPT} --prompts folder/haiku --operators haiku": 'prompt operators/haiku: an operator says evolution = "depth" or "breadth" in its front matter',
}  # fmt: skip
"""A command, and its one line; None where another part of the project words it."""


@pytest.fixture
def material(here: Path) -> Path:
    """Files of many kinds to evolve."""
    alpaca(here)
    evolving(here)
    for name, text in {
        "empty.json": "[]", "empty.jsonl": "", "other.json": '[{"text": "x"}]', "blank.json": '[{"instruction": " "}]',
        "broken.json": "[{",
    }.items():  # fmt: skip
        (here / name).write_text(text)
    operators = here / "folder" / "haiku" / "evol-instruct" / "operators"
    operators.mkdir(parents=True)
    (operators / "haiku.completion.md").write_text('+++\npurpose = "p"\nsource = "s"\nvariables = []\n+++\nHaiku:\n')
    return here


@pytest.mark.parametrize(("command", "message"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: str, message: str | None, material: Path, selfinstruct: Say
) -> None:
    said = selfinstruct(*command.split())
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("selfinstruct: ")
    assert said.err.count("\n") == 1
    assert message is None or said.err == f"selfinstruct: {message}\n"
    assert not (material / "outputs").exists() or not list((material / "outputs").iterdir())


def test_a_row_that_is_no_task_is_skipped_and_named(here: Path, selfinstruct: Say) -> None:
    rows = alpaca(here, {"instruction": " ", "output": "…"}, {"instruction": BUS, "output": "…"})
    said = selfinstruct("evolve", rows, "--script", evolving(here, BUS_2), *ONCE, "--quiet")
    skipped = "skipped: alpaca.json item 1: no instruction; write what is to be done, or take the row out\n"
    assert said == (0, exports("alpaca-evolved", 1), skipped)


def test_a_run_that_is_not_there_is_answered_with_those_that_are(first: Said, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "frist")
    assert said == (2, "", "selfinstruct: frist: neither a file nor a run; runs under outputs: first\n")


def test_a_run_that_kept_nothing_has_nothing_to_evolve(here: Path, selfinstruct: Say) -> None:
    selfinstruct("evolve", alpaca(here), "--script", evolving(here, "", ""), *ONCE, "--quiet", "--run", "barren")
    said = selfinstruct("evolve", "barren", "--run", "more", "--script", evolving(here), *ONCE)
    assert said == (2, "", "selfinstruct: outputs/barren: this run has kept no task yet; continue it first\n")
    assert not (here / "outputs/more").exists()


def test_who_evolves_what_another_backend_wrote_is_asked(first: Said, here: Path, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "first")
    assert said == (
        2,
        "",
        "selfinstruct: outputs/first: written by scripted (scripted); say who evolves it: --backend scripted, or --backend llamacpp for the embedded model\n",
    )
    assert not (here / "outputs/first-evolved").exists()


def test_how_many_are_in_flight_does_not_say_who_evolves(first: Said, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "first", "--concurrency", "2", "--dry-run")
    assert said.code == 2
    assert "say who evolves it" in said.err


def test_an_evolution_that_was_begun_knows_who_evolves(first: Said, here: Path, selfinstruct: Say) -> None:
    selfinstruct("evolve", "first", "--script", evolving(here), *ONCE, "--quiet")
    done = "outputs/first-evolved is complete: 2 tasks kept; nothing is left to do.\n"
    assert selfinstruct("evolve", "first", "--quiet") == (0, exports("first-evolved", 2), done)


def test_a_source_that_has_changed_since_is_another_run(first: Said, here: Path, selfinstruct: Say) -> None:
    command = ("evolve", "first", "--script", evolving(here), *ONCE, "--quiet")
    assert selfinstruct(*command).code == 0
    selfinstruct("generate", "--run", "first", "-n", "3", "--script", answers(here), "--quiet")
    said = selfinstruct(*command)
    assert said == (
        2,
        "",
        "selfinstruct: outputs/first-evolved: begun with other seeds than are in outputs/first now; leave it out, or begin another run with --run\n",
    )
    assert selfinstruct("evolve", "first-evolved", "--quiet").code == 0, "by its own name it is what it was"


CHANGED = {
    ("--rounds", "3"): "recipe.rounds = 1, not 3",
    ("--operators", "in_breadth=1"): "recipe.operators.deepen = 1.0, not None",
    ("--operators", "deepen=2"): "recipe.operators.deepen = 1.0, not 2.0",
    ("--seed", "5"): "seed = 42, not 5",
    ("--temperature", "0.5"): "recipe.sampling.temperature = 1.0, not 0.5",
    ("--set", "filters.elimination.tolerance=3"): "filters.elimination.tolerance = 10, not 3",
}  # fmt: skip


@pytest.mark.parametrize(("flags", "difference"), CHANGED.items(), ids=[" ".join(flags) for flags in CHANGED])
def test_another_setting_is_another_run(flags: tuple[str, ...], difference: str, here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), *ONCE, "--quiet")
    assert selfinstruct(*command).code == 0
    said = selfinstruct(*command, *flags)
    assert said == (
        2,
        "",
        f"selfinstruct: outputs/alpaca-evolved: begun with {difference}; leave it out, or begin another run with --run\n",
    )


@pytest.mark.parametrize(
    "fewer",
    ["deepen", "deepen=1"],
)
def test_fewer_operators_are_another_run(fewer: str, here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), "--rounds", "1", "--quiet", "--operators")
    selfinstruct(*command, "deepen=1,in_breadth=1")
    said = selfinstruct(*command, fewer)
    assert said == (
        2,
        "",
        "selfinstruct: outputs/alpaca-evolved: begun with recipe.operators.in_breadth = 1.0, not None; leave it out, or begin another run with --run\n",
    )


def test_a_judge_added_later_is_another_run_and_says_so_briefly(here: Path, selfinstruct: Say) -> None:
    command = ("evolve", alpaca(here), "--script", evolving(here), *ONCE, "--quiet")
    assert selfinstruct(*command).code == 0
    said = selfinstruct(*command, "--judge-model", "critic")
    assert said.code == 2
    assert len(said.err) < 200


def test_an_unknown_key_of_the_judge_is_answered_with_the_nearest(material: Path, selfinstruct: Say) -> None:
    said = selfinstruct("evolve", "alpaca.json", "--script", "evolve.jsonl", "--set", "judge.modle=x")
    assert said.err == "selfinstruct: configuration: unknown key `roles.judge.modle`; did you mean `model`?\n"


def test_a_judge_where_nothing_is_eliminated_is_a_contradiction(material: Path, selfinstruct: Say) -> None:
    flags = ("--dialect", "chat", "--strict", "released", "--judge-model", "critic", "--dry-run")
    assert selfinstruct("evolve", "alpaca.json", "--script", "evolve.jsonl", *flags).code == 2
