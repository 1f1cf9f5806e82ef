"""Every format, column for column, as its trainers read it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.dataset.exports import names, open_export
from selfinstruct.dataset.exports.base import ExportContext
from selfinstruct.records import Instance, Sample
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import exported, ledger_of, lines, task

ADD = Sample(
    id="3.1",
    stage="instances",
    instruction="Add the numbers.",
    instances=(Instance(input="1, 2", output="3"),),
    meta={"is_classification": True},
)
RHYME = Sample(
    id="4.1", stage="instances", instruction="Rhyme.", instances=(Instance(output="Lime."),), meta={"category": "verse"}
)
SETTING = ExportContext(Ledger(None, Path()))  # type: ignore[arg-type]
KIND = SETTING._replace(system="Be kind.")

GOLDEN: dict[str, tuple[Any, Any, Any]] = {
    "alpaca": (
        {"instruction": "Add the numbers.", "input": "1, 2", "output": "3"},
        {"instruction": "Rhyme.", "input": "", "output": "Lime."},
        {"system": "Be kind.", "instruction": "Rhyme.", "input": "", "output": "Lime."},
    ),
    "evol": (
        {"instruction": "Add the numbers.\n1, 2", "output": "3"},
        {"instruction": "Rhyme.", "output": "Lime."},
        {"system": "Be kind.", "instruction": "Rhyme.", "output": "Lime."},
    ),
    "dolly": (
        {"instruction": "Add the numbers.", "context": "1, 2", "response": "3", "category": "classification"},
        {"instruction": "Rhyme.", "context": "", "response": "Lime.", "category": "verse"},
        {"system": "Be kind.", "instruction": "Rhyme.", "context": "", "response": "Lime.", "category": "verse"},
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Add the numbers.\n1, 2"}, {"from": "gpt", "value": "3"}]},
        {"conversations": [{"from": "human", "value": "Rhyme."}, {"from": "gpt", "value": "Lime."}]},
        {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Rhyme."},
                           {"from": "gpt", "value": "Lime."}]},
    ),
    "messages": (
        {"messages": [{"role": "user", "content": "Add the numbers.\n1, 2"}, {"role": "assistant", "content": "3"}]},
        {"messages": [{"role": "user", "content": "Rhyme."}, {"role": "assistant", "content": "Lime."}]},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Rhyme."},
                      {"role": "assistant", "content": "Lime."}]},
    ),
    "prompt-completion": (
        {"prompt": [{"role": "user", "content": "Add the numbers.\n1, 2"}],
         "completion": [{"role": "assistant", "content": "3"}]},
        {"prompt": [{"role": "user", "content": "Rhyme."}], "completion": [{"role": "assistant", "content": "Lime."}]},
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Rhyme."}],
         "completion": [{"role": "assistant", "content": "Lime."}]},
    ),
    "text": (
        {"text": "### Instruction:\nAdd the numbers.\n\n### Input:\n1, 2\n\n### Response:\n3"},
        {"text": "### Instruction:\nRhyme.\n\n### Response:\nLime."},
        {"text": "Be kind.\n\n### Instruction:\nRhyme.\n\n### Response:\nLime."},
    ),
    "self-instruct": (
        {"prompt": "Add the numbers.\nInput: 1, 2\nOutput:", "completion": " 3"},
        {"prompt": "Rhyme.\n\nOutput:", "completion": " Lime."},
        {"prompt": "Be kind.\n\nRhyme.\n\nOutput:", "completion": " Lime."},
    ),
}  # fmt: skip
"""Of each format the row of a task with an input, of one without, and of that with a system prompt."""


@pytest.mark.parametrize("name", GOLDEN)
def test_a_row_has_the_columns_of_its_trainers(name: str) -> None:
    rows = open_export(name).rows
    [add], [rhyme], [kind] = rows(ADD, SETTING), rows(RHYME, SETTING), rows(RHYME, KIND)
    assert (add, rhyme, kind) == GOLDEN[name]


def test_every_format_of_ours_is_among_these_or_tells_how_a_sample_was_made() -> None:
    assert {*GOLDEN, "jsonl"} == set(names())


@pytest.mark.parametrize("name", GOLDEN)
def test_each_instance_with_an_output_is_a_row_and_no_other(name: str) -> None:
    cases = (Instance(input="a", output="x"), Instance(input="b", output=" \n"), Instance(output="y"))
    sample = ADD.model_copy(update={"instances": cases})
    assert len(list(open_export(name).rows(sample, SETTING))) == 2
    assert list(open_export(name).rows(ADD.model_copy(update={"instances": ()}), SETTING)) == []


# -- the published mix of layouts


def _layout(row: dict[str, str], instruction: str, given: str) -> str:
    return (
        row["prompt"].replace(instruction, "T", 1).replace(given, "I", 1)
        if given
        else row["prompt"].replace(instruction, "T", 1)
    )


@pytest.mark.parametrize(("given", "expected"), [
    ("rivers", {"T\nInput: I\nOutput:", "T\n\nInput: I\n\nOutput:", "Task: T\nInput: I\nOutput:", "T\n\nI\n\nOutput:",
                "T\n\nI\n\n", "T\nI\n\n", "Task: T\n\nI\n\n"}),
    ("", {"T Output:", "T\nOutput:", "T\n\nOutput:", "T\n", "T\n\n", "Task: T\n\n"}),
])  # fmt: skip
def test_self_instruct_draws_each_published_layout_about_as_often(given: str, expected: set[str]) -> None:
    drawn: Counter[str] = Counter()
    for number in range(2_000):
        sample = Sample(
            id=f"{number}.1", stage="s", instruction="Sort.", instances=(Instance(input=given, output="x"),)
        )
        [row] = open_export("self-instruct").rows(sample, SETTING)
        assert row["completion"] == (" x" if row["prompt"].endswith("Output:") else "x")
        drawn[_layout(row, "Sort.", given)] += 1
    assert set(drawn) == expected
    assert all(abs(count - 2_000 / len(expected)) < 80 for count in drawn.values())


def test_the_layouts_depend_on_the_seed_and_on_nothing_else() -> None:
    samples = [ADD.model_copy(update={"id": f"{number}.1"}) for number in range(50)]

    def prompts(seed: int, order: list[Sample]) -> dict[str, str]:
        rows = open_export("self-instruct").rows
        return {sample.id: next(rows(sample, SETTING._replace(seed=seed)))["prompt"] for sample in order}

    assert prompts(1, samples) == prompts(1, samples[::-1])
    assert prompts(1, samples) != prompts(2, samples)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), st.text(alphabet=st.characters(codec="utf-8")))
def test_self_instruct_takes_braces_and_whatever_else_as_text(instruction: str, given: str) -> None:
    sample = Sample(id="1.1", stage="s", instruction=instruction, instances=(Instance(input=given, output="{input}"),))
    [row] = open_export("self-instruct").rows(sample, SETTING)
    assert instruction.strip() in row["prompt"]
    assert given.strip() in row["prompt"]
    assert row["completion"].strip() == "{input}"


# -- text that nobody checked

HARSH = "<script>alert(1)</script> \x1b[2J \u202e \u2028 ünï \x00 {x} | `a`\r\n"


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", ["alpaca", "messages", "text"])
def test_generated_text_is_read_back_as_it_was(name: str, kind: str, tmp_path: Path) -> None:
    import datasets

    folder = ledger_of(tmp_path / "run", task(HARSH, (HARSH, HARSH)))
    [written] = exported(folder, name, file_type=kind)
    reader = "parquet" if kind == "parquet" else "json"
    [row] = datasets.load_dataset(reader, data_files=str(written.path), split="train", cache_dir=str(tmp_path / "c"))
    sample = Sample(id="1.1", stage="s", instruction=HARSH, instances=(Instance(input=HARSH, output=HARSH),))
    assert [row] == list(open_export(name).rows(sample, SETTING))


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_half_a_surrogate_pair_stops_no_export(kind: str, tmp_path: Path) -> None:
    folder = ledger_of(tmp_path / "run", task("Add.", ("1", "2")))
    [written] = exported(folder, "messages", file_type=kind, system_prompt="odd \ud800")
    assert written.rows == 1
    if kind == "jsonl":
        assert lines(written.path)[0]["messages"][0]["content"] == "odd \ud800"
