"""Conversations are read as the tasks that they begin with, from the forms and with the dirt that public dumps have."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.dataset.dedup import dedup_files
from selfinstruct.dataset.exports import open_export
from selfinstruct.dataset.exports.base import ExportContext
from selfinstruct.errors import SourceError
from selfinstruct.inputs.chats import Odd, first_exchange
from selfinstruct.inputs.seeds import check_seeds, load_seeds
from selfinstruct.records import Instance, Sample, Seed

Fields = dict[str, Any]
ASKED, SAID = "Name a river in Europe.", "The Rhine."


def chat(*turns: tuple[str, Any], names: tuple[str, str] = ("from", "value"), column: str = "conversations") -> Fields:
    return {column: [dict(zip(names, turn, strict=True)) for turn in turns]}


def written(folder: Path, *rows: Fields, name: str = "my.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tasks(path: Path) -> list[tuple[str, list[str]]]:
    return [(seed.instruction, [instance.output for instance in seed.instances]) for seed in load_seeds(path)]


HUMAN, GPT = ("human", ASKED), ("gpt", SAID)
ROLES = {"names": ("role", "content"), "column": "messages"}

CHATS: dict[str, Fields] = {
    "ShareGPT": chat(HUMAN, GPT),
    "messages": chat(("user", ASKED), ("assistant", SAID), **ROLES),
    "roles in capitals": chat((" Human", ASKED), ("ChatGPT", SAID)),
    "other names of roles": chat(("prompter", ASKED), ("bing", SAID)),
    "messages under conversations": chat(("user", ASKED), ("assistant", SAID), names=("role", "content")),
    "one conversation": chat(HUMAN, GPT, column="conversation"),
    "an answer before any question": chat(("gpt", "Hello!"), HUMAN, GPT),
    "a system prompt": chat(("system", "Be brief."), HUMAN, GPT),
    "empty turns": chat(("human", ""), ("gpt", None), HUMAN, ("gpt", "  "), GPT),
    "many turns": chat(HUMAN, GPT, ("human", "And in Asia?"), ("gpt", "The Ob.")),
    "a tool before the answer": chat(HUMAN, ("function_call", "{}"), ("observation", "7"), GPT),
    "parts": chat(("user", [{"type": "text", "text": ASKED}]), ("assistant", SAID), **ROLES),
    "columns of lists": {"conversations": {"from": ["human", "gpt"], "value": [ASKED, SAID]}},
    "TRL, two lists": {"prompt": [{"role": "user", "content": ASKED}],
                       "completion": [{"role": "assistant", "content": SAID}]},
    "TRL, a list and a text": {"prompt": [{"role": "user", "content": ASKED}], "completion": SAID},
    "with a prompt beside it": {"prompt": "something else", **chat(HUMAN, GPT)},
    "a tree": {"message_tree_id": "t", "prompt": {"role": "prompter", "text": ASKED, "replies": [
        {"role": "assistant", "text": "No.", "rank": 1, "replies": []},
        {"role": "assistant", "text": SAID, "rank": 0, "replies": [{"role": "prompter", "text": "Why?"}]},
        {"role": "assistant", "text": "Gone.", "rank": -1, "deleted": True}]}},
    "a tree that nobody ranked": {"prompt": {"role": "prompter", "text": ASKED, "replies": [
        {"role": "assistant", "text": SAID, "rank": None}, {"role": "assistant", "text": "No."}]}},
}  # fmt: skip


@pytest.mark.parametrize("row", CHATS.values(), ids=CHATS)
def test_the_first_exchange_of_a_conversation_is_the_task(tmp_path: Path, row: Fields) -> None:
    path = written(tmp_path, row)
    assert tasks(path) == [(ASKED, [SAID])]
    assert check_seeds(path).errors == ()


def test_all_that_is_said_before_the_first_answer_is_the_question(tmp_path: Path) -> None:
    path = written(tmp_path, chat(("human", "I have a question."), HUMAN, GPT))
    assert tasks(path) == [(f"I have a question.\n{ASKED}", [SAID])]


def test_a_question_that_nobody_answers_is_a_task_without_an_instance(tmp_path: Path) -> None:
    path = written(tmp_path, chat(HUMAN), chat(("human", "Name a lake in Asia."), ("gpt", "")))
    assert tasks(path) == [(ASKED, []), ("Name a lake in Asia.", [])]


def test_what_stands_in_a_turn_is_left_as_it_is(tmp_path: Path) -> None:
    harsh = "<div class='x'>a&nbsp;b</div>\r\n\u202e"
    assert tasks(written(tmp_path, chat(("human", harsh), ("gpt", harsh)))) == [(harsh, [harsh])]


@pytest.mark.parametrize(("row", "problem"), [
    (chat(GPT), "no user says anything in it (turns of: gpt); take the row out, or call the user `user`"),
    (chat(("customer", "Hi"), ("clerk", "Yes?")), "no user says anything in it (turns of: customer, clerk);"),
    ({"conversations": []}, "no user says anything in it (turns of: none);"),
    ({"conversations": ["Hi", "Yes?"]}, "turn 1 must be an object, not text; write who speaks, and the text"),
    (chat(HUMAN, ("gpt", 7)), "turn 2 holds a number, not text; write its text, or take the row out"),
    (chat(("user", [{"type": "image"}]), **ROLES), "turn 1 holds a list, not text;"),
    ({"prompt": {"text": ASKED, "deleted": True}}, "the tree's first message is deleted or empty; take the row out"),
])  # fmt: skip
def test_a_conversation_that_is_no_task_is_named_with_its_place(tmp_path: Path, row: Fields, problem: str) -> None:
    path = written(tmp_path, chat(HUMAN, GPT), row)
    with pytest.raises(SourceError) as caught:
        load_seeds(path)
    assert str(caught.value).startswith(f"{path}:2: {problem}")


def test_what_is_not_taken_is_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path, chat(("system", "Be brief."), HUMAN, GPT), chat(HUMAN, GPT, ("human", "And?")),
        chat(("human", "Name a lake."), GPT),
    )  # fmt: skip
    notes = [str(warning) for warning in check_seeds(path).warnings if warning.place == str(path)]
    assert notes == [
        f"{path}: 1 of 3 conversations have a system prompt, or an answer, before the first question: it is not taken",
        f"{path}: 1 of 3 conversations go on after the first answer: what follows is not taken",
    ]


def test_a_conversation_keeps_its_id_and_category(tmp_path: Path) -> None:
    [seed] = load_seeds(written(tmp_path, {"id": "x7", "category": "rivers", "model": "m", **chat(HUMAN, GPT)}))
    assert (seed.id, seed.category) == ("x7", "rivers")


# -- Open Assistant's table of messages

TABLE: list[Fields] = [
    {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "No.", "rank": 1.0},
    {"message_id": "a", "parent_id": None, "role": "prompter", "text": ASKED, "rank": None},
    {"message_id": "c", "parent_id": "a", "role": "assistant", "text": SAID, "rank": 0.0},
    {"message_id": "d", "parent_id": "c", "role": "prompter", "text": "Why?", "rank": None},
    {"message_id": "e", "parent_id": "d", "role": "assistant", "text": "So.", "rank": 0.0},
    {"message_id": "f", "parent_id": "a", "role": "assistant", "text": "Gone.", "rank": -1.0, "deleted": True},
    {"message_id": "g", "parent_id": None, "role": "prompter", "text": "Name a lake in Asia.", "rank": None},
    {"message_id": "h", "parent_id": None, "role": "prompter", "text": "Gone too.", "deleted": True},
]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_table_of_messages_gives_each_first_question_with_its_best_answer(tmp_path: Path, kind: str) -> None:
    from selfinstruct.dataset.writing import write_rows

    path = tmp_path / f"oasst.{kind}"
    write_rows(((0, {"deleted": False, **row}) for row in TABLE), path)
    assert tasks(path) == [(ASKED, [SAID]), ("Name a lake in Asia.", [])]
    assert [seed.id for seed in load_seeds(path)] == ["a", "g"]
    [note] = [warning.message for warning in check_seeds(path).warnings if warning.place == str(path)]
    assert note == "5 messages are no first question and no best answer to one: they are not taken"


def test_a_tree_as_the_only_row_of_a_json_file_is_one_task(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    path.write_text(json.dumps(CHATS["a tree"]))
    assert tasks(path) == [(ASKED, [SAID])]


# -- laws

texts = st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable())


@given(instruction=texts, given=texts | st.just(""), output=texts, system=texts | st.just(""))
def test_every_format_of_ours_that_says_where_a_question_ends_is_read_again(
    instruction: str, given: str, output: str, system: str
) -> None:
    sample = Sample(id="1.1", stage="s", instruction=instruction, instances=(Instance(input=given, output=output),))
    joined = f"{instruction}\n{given}" if given else instruction
    for name in ("messages", "sharegpt", "prompt-completion"):
        [row] = open_export(name).rows(sample, ExportContext(None, system))  # type: ignore[arg-type]
        exchange = first_exchange(row)
        assert exchange == (joined, output, 1 if system else 0, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["human", "gpt", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "role", "content", "text", "replies", "type"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["messages", "conversations", "prompt", "completion", "text"]), json_values))
def test_whatever_stands_in_a_row_it_is_an_exchange_or_none_or_odd(fields: Fields) -> None:
    exchange = None
    with contextlib.suppress(Odd):
        exchange = first_exchange(fields)
    assert exchange is None or exchange.question.strip()


# -- wherever a source is taken


def test_dedup_compares_the_first_questions_and_writes_the_rows_as_they_were(tmp_path: Path) -> None:
    rows = [
        chat(HUMAN, GPT),
        chat(("user", "Name a river in Europe!"), ("assistant", "Oder."), **ROLES),
        {"prompt": "Sing.", "completion": "La."},
    ]
    source = written(tmp_path, *rows)
    report = dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl")
    assert (report.kept, report.dropped) == (2, 1)
    assert [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()] == [rows[0], rows[2]]


def test_dedup_names_a_row_without_a_question(tmp_path: Path) -> None:
    source = written(tmp_path, chat(HUMAN, GPT), chat(GPT))
    with pytest.raises(SourceError, match=r"my\.jsonl:2: no instruction; there are conversations: name a field with"):
        dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl")


def test_a_text_says_not_where_an_instruction_ends(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "### Instruction:\nSing.\n\n### Response:\nLa."})
    with pytest.raises(SourceError, match="its rows are text alone, which does not say where an instruction ends"):
        load_seeds(path)


# -- files of other people


def test_bad_rows_are_passed_over_and_told_where_one_asks_for_that(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    rows = [chat(HUMAN, GPT), chat(GPT), {"instruction": ""}, {"instruction": "Sing.", "input": 7, "output": "La."}]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + "half a l\n" + json.dumps(chat(("human", "Hum."), GPT))
    )
    bad: list[tuple[str, str]] = []
    seeds = load_seeds(path, on_bad=lambda place, problem: bad.append((place, problem)))
    assert [seed.instruction for seed in seeds] == [ASKED, "Hum."]
    assert [(place.removeprefix(str(path)), problem.partition(";")[0]) for place, problem in sorted(bad)] == [
        (":2", "no user says anything in it (turns of: gpt)"),
        (":3", "no instruction"),
        (":4", "input must be text, not a number"),
        (":5", "not JSON: expecting value at column 1"),
    ]


def test_a_file_of_nothing_but_bad_rows_is_an_error_all_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, chat(GPT), chat(GPT))
    with pytest.raises(SourceError, match=r"my\.jsonl:1: no user says anything .* \(and 1 more: "):
        load_seeds(path, on_bad=lambda place, problem: None)


def test_rows_of_one_instruction_are_one_task_with_each_case_once(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": f"{n % 3}", "output": f"{n % 3} it is"} for n in range(9)]
    [seed] = load_seeds(written(tmp_path, *rows))
    assert seed == Seed(
        id="seed_0001",
        instruction="Add.",
        instances=tuple(Instance(input=f"{n}", output=f"{n} it is") for n in range(3)),
    )


def test_thousands_of_rows_of_one_instruction_take_no_longer_than_as_many_of_their_own(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": f"{n}", "output": f"{n} it is"} for n in range(20_000)]
    [seed] = load_seeds(written(tmp_path, *rows))
    assert len(seed.instances) == 20_000
