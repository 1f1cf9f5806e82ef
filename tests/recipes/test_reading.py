"""Reading what models write: tables of what they do, and laws for whatever else they may do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.recipes import reading
from selfinstruct.records import Instance, Reason

laws = settings(deadline=None, max_examples=200)


def listed(text: str, *, opened: bool = False, truncated: bool = False, keep: bool = True) -> list[str]:
    """What is read of a list; an item that was cut is marked."""
    pieces = reading.numbered_instructions(text, truncated=truncated, opened=opened, keep_before_truncation=keep)
    return [f"{piece.text} [cut]" if piece.flaw else piece.text for piece in pieces]


# -- lists
# ----------------------------------------------------------------------------------------------------------------

LISTS = {
    "plain": ("1. Name a river.\n2. Spell it.", ["Name a river.", "Spell it."]),
    "brackets": ("1) Name a river.\n2: Spell it.", ["Name a river.", "Spell it."]),
    "preamble and farewell": ("Sure!\n\n1. Name a river.\n\nAnything else?", ["Name a river. Anything else?"]),
    "bold items": ("**1. Name a river.**\n2. **Spell it.**", ["Name a river.**", "Spell it."]),
    "bold numbers": ("**1.** Name a river.\n**2.** Spell it.", ["Name a river.", "Spell it."]),
    "headings": ("### 1. Name a river.\n### 2. Spell it.", ["Name a river.", "Spell it."]),
    "the word Task": ("Task 1. Name a river.\ntask 2: Spell it.", ["Name a river.", "Spell it."]),
    "items over lines": ("1. Name\n   a river.\n2.\nSpell it.", ["Name a river.", "Spell it."]),
    "numbers inside": (
        "1. In 2016. Name 3.5 rivers.\n2. Add 1. and 2.",
        ["In 2016. Name 3.5 rivers.", "Add 1. and 2."],
    ),
    "no numbers": ("- Name a river.\n- Spell it.", []),
    "empty items": ("1.\n2. \n3. Spell it.", ["Spell it."]),
    "numbers without a blank": ("1.Name a river.", []),
    "other digits": ("١. سمِّ نهراً.", ["سمِّ نهراً."]),
}


@pytest.mark.parametrize(("text", "expected"), LISTS.values(), ids=LISTS)
def test_a_list_is_read(text: str, expected: list[str]) -> None:
    assert listed(text) == expected


def test_a_continuation_begins_with_an_item() -> None:
    assert listed(" Name a river.\n10. Spell it.", opened=True) == ["Name a river.", "Spell it."]


@pytest.mark.parametrize(
    ("keep", "expected"), [(True, ["A river.", "Spell [cut]"]), (False, ["A river. [cut]", "Spell [cut]"])]
)
def test_a_cut_list_loses_its_last_item_or_all(keep: bool, expected: list[str]) -> None:
    assert listed(" A river.\n10. Spell", opened=True, truncated=True, keep=keep) == expected


THOUGHTS = {
    "none": ("1. Go.", "1. Go."),
    "one": ("<think>Hm.\n1. No.</think>\n\n1. Go.", "1. Go."),
    "empty": ("<think>\n\n</think>Go.", "Go."),
    "unfinished": ("<think>Hm. 1. Go.", ""),
    "not at the start": ("1. Go <think>on</think>.", "1. Go <think>on</think>."),
    "a second one": ("<think>a</think>Go <think>on</think>.", "Go <think>on</think>."),
}


@pytest.mark.parametrize(("text", "expected"), THOUGHTS.values(), ids=THOUGHTS)
def test_a_thought_before_the_answer_is_no_part_of_it(text: str, expected: str) -> None:
    assert reading.without_thinking(text) == expected


YES = ["Yes", " yes\n", "YES", "Yes.", "**Yes**", '"yes"', "Yes, since", "yes"]
NO = ["No", "", "yesterday", "I think yes", "Not yes", "1", "Ja", "yes2", "{}"]


@pytest.mark.parametrize("text", [*YES, *NO])
def test_only_an_answer_that_begins_with_yes_is_one(text: str) -> None:
    assert reading.is_yes(text) is (text in YES)
    assert reading.published_yes(text) is (text.strip() in ("Yes", "yes", "YES"))


# -- instances
# ------------------------------------------------------------------------------------------------------------

Cases = list[tuple[str, str]]
WORKED: dict[str, tuple[str, Cases]] = {
    "two examples": (
        "Example 1\nInput: a\nOutput: b\n\nExample 2\nInput: c\nOutput: d", [("a", "b"), ("c", "d")]),
    "on one line": ("Example 1: Input: a\nOutput: b\nExample 2. Input: c\nOutput: d", [("a", "b"), ("c", "d")]),
    "no example": ("Output: b", [("", "b")]),
    "other fields": ("Example 1\nText: a\nWord: x\nOutput: b", [("Text: a\nWord: x", "b")]),
    "over lines": ("Example 1\nInput:\na\na\nOutput:\nb\nb", [("a\na", "b\nb")]),
    "the word inside": ("Output: Some examples:\nExamples are carp.\nFor Example 2 of them", [
        ("", "Some examples:\nExamples are carp.\nFor Example 2 of them")]),
    "bold": ("**Example 1**\n**Input:** a\n**Output:** b", [("a", "b")]),
    "headings": ("### Example 1:\nInput: a\nOutput: b", [("a", "b")]),
    "a second input": ("Input: a\nOutput: b\nInput: c\nOutput: d", [("a", "b")]),
    "only text": ("There is nothing.", []),
    "an example without output": ("Example 1\nJust this.", [("", "Just this.")]),
    "numbered fields": ("Input 1: a\nOutput 1 : b", [("a", "b")]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WORKED.values(), ids=WORKED)
def test_worked_cases_are_read(text: str, expected: Cases) -> None:
    assert [(i.input, i.output) for i in reading.input_first(text, anchored=True)] == expected


@pytest.mark.parametrize(
    "text",
    ["Here are some cases.\n\nExample 1\nInput: a\nOutput: b", "Sure!\nInput: a\nOutput: b"],
)
def test_a_preamble_of_a_chat_is_no_case(text: str) -> None:
    assert reading.input_first(text, anchored=True, opened=False) == [Instance(input="a", output="b")]


LABELLED: dict[str, tuple[str, Cases]] = {
    "two": ("Class label: good\nInput: a\nClass label: bad\nInput: b", [("a", "good"), ("b", "bad")]),
    "labels alone": ("Class label: good\nClass label: bad", [("", "good"), ("", "bad")]),
    "another field": ("Class label: good\nReview: a\nmore", [("Review: a\nmore", "good")]),
    "label on the next line": ("Class label:\ngood\nInput: a", [("a", "good")]),
    "in a sentence": (
        "Class label: good\nWhat is a Class label: a word.",
        [("What is a Class label: a word.", "good")],
    ),
    "bold": ("**Class label:** good\n**Input:** a", [("a", "good")]),
    "preamble": ("Sure!\nClass label: good", [("", "good")]),
    "none": ("good", []),
}


@pytest.mark.parametrize(("text", "expected"), LABELLED.values(), ids=LABELLED)
def test_labelled_cases_are_read(text: str, expected: Cases) -> None:
    assert [(i.input, i.output) for i in reading.output_first(text, anchored=True)] == expected


@pytest.mark.parametrize("text", ["<noinput>", "<NoInput>", "N/A", "none", "No input", "-", " (none) "])
def test_an_input_that_means_none_is_none(text: str) -> None:
    assert reading.without_noinput(text) == ""
    assert reading.without_noinput(text, published=True) == ("" if "<" in text else text)


@pytest.mark.parametrize("text", ["None of them", "no", "0", "", "Input"])
def test_an_input_that_only_looks_like_none_stays(text: str) -> None:
    assert reading.without_noinput(text) == text


# -- whole tasks
# ---------------------------------------------------------------------------------------------------------

TRIPLES: dict[str, tuple[str, list[tuple[str, str, str, bool]]]] = {
    "as asked": (
        "4. Instruction: a\n4. Input:\nb\n4. Output:\nc\n###\n5. Instruction: d\n5. Input: e\n5. Output: f",
        [("a", "b", "c", False), ("d", "e", "f", False)]),
    "slips": (
        "4. Instruction: a\n5. Input: b\n4. Output: c\n###\n9. Instruction: d\n9. Input: e\n9. Output: f",
        [("a", "b", "c", False), ("d", "e", "f", True)]),
    "no numbers": ("Instruction: a\nInput: b\nOutput: c", [("a", "b", "c", True)]),
    "no input": ("4. Instruction: a\n4. Output: c", [("a", "", "c", False)]),
    "heading in an output": ("4. Instruction: a\n4. Output: # x\n### y\nz\n###", [("a", "", "# x\n### y\nz", False)]),
    "fields in an output": (
        "4. Instruction: a\n4. Input: b\n4. Output: Prints:\nInput: 3\nOutput: 5",
        [("a", "b", "Prints:\nInput: 3\nOutput: 5", False)]),
    "output before input": ("4. Instruction: a\n4. Output: c\n4. Input: b", [("a", "b", "c", False)]),
    "bold": ("**4. Instruction:** a\n**4. Input:** b\n**4. Output:** c", [("a", "b", "c", False)]),
    "over lines": ("4. Instruction: a\n  a\n4. Output: c", [("a a", "", "c", False)]),
    "a huge number": (f"{'9' * 5000}. Instruction: a\n4. Output: c", [("a", "", "c", True)]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TRIPLES.values(), ids=TRIPLES)
def test_whole_tasks_are_read(text: str, expected: list[tuple[str, str, str, bool]]) -> None:
    read = reading.triples(text, first=4, truncated=False, opened=False)
    assert [(t.instruction, t.input, t.output, t.recovered) for t in read] == expected
    assert not any(triple.flaw for triple in read)


def test_a_task_that_is_lost_keeps_its_text() -> None:
    text = " a\n4. Input: b\n5. Instruction: d\n5. Input: e"
    whole, cut = reading.triples(text, first=4, truncated=True, opened=True)
    assert (whole.flaw, whole.instruction) == (Reason.UNPARSEABLE, "4. Instruction: a\n4. Input: b")
    assert (cut.flaw, cut.instruction) == (Reason.TRUNCATED, "5. Instruction: d\n5. Input: e")


# -- evolved tasks
# --------------------------------------------------------------------------------------------------------

WRAPPED = {
    "Name a river.": "Name a river.",
    "  Name a river.\n": "Name a river.",
    "#Rewritten Task#\nName a river.": "Name a river.",
    "#Rewritten Prompt#:\nName a river.": "Name a river.",
    "#Inspired Task#\nName a river.": "Name a river.",
    "**Rewritten task:** Name a river.": "Name a river.",
    "## New Task: Name a river.": "Name a river.",
    "Harder task: Name a river.": "Name a river.",
    "Sister task: Name a river.": "Name a river.",
    "Instruction: Name a river.": "Name a river.",
    "```\nName a river.\n```": "Name a river.",
    "```text\nName a river.\n```": "Name a river.",
    '#Rewritten Task#\n```\n"Name a river."\n```': "Name a river.",
    '"Name a river."': "Name a river.",
    "“Name a river.”": "Name a river.",
    "«Name a river.»": "Name a river.",
    # What belongs to the task stays.
    "Task lists are long. Write one.": "Task lists are long. Write one.",
    "Name a task: any will do.": "Name a task: any will do.",
    "```python\nprint(1)\n```": "```python\nprint(1)\n```",
    "```\na\n```\nWhich is first?\n```\nb\n```": "```\na\n```\nWhich is first?\n```\nb\n```",
    '"To be" or "not to be"': '"To be" or "not to be"',
    '"Name" is a noun. Why?': '"Name" is a noun. Why?',
    '""': '""',
    '"': '"',
    "Task:": "",
    "": "",
}


@pytest.mark.parametrize(("text", "expected"), WRAPPED.items(), ids=map(repr, WRAPPED))
def test_a_task_is_read_without_what_stands_around_it(text: str, expected: str) -> None:
    assert reading.without_wrapping(text) == expected


JUDGEMENTS = {
    "not_equal": [
        "Not Equal", "not equal", "NOT EQUAL.", " Not equal\n", "**Not equal**", "**Not** Equal", "Not\nequal",
        "not_equal", "NotEqual", "Not-equal", "“Not” “Equal”", "Verdict: Not equal", "#Verdict#\nNot equal",
        "They are not equal.", "The tasks are not quite equal.", "They are not in any way equal.", "Not: equal",
        "These aren't equal.", "These aren’t really equal.", "They can't be equal.", "They cannot be called equal.",
        "They are never equal.", "Unequal", "The two are unequal.", "Inequal", "non-equal", "Equal: no", "Equal? No.",
        "equal = false", '{"equal": false}', '```json\n{"equal": false}\n```', '{"equal": "no"}', "{'equal': False}",
        "Not equal. Equal would mean the same depth.", "Are they equal or not equal?",
    ],
    "equal": [
        "Equal", "equal", "EQUAL.", " Equal\n", "**Equal**", "Verdict: Equal", "They are equal.", '{"equal": true}',
        'Sure: {"equal": true}', "{'equal': True}", "Equal, nothing is new.", "Equal: yes", "equal = true",
        "Equal. They do not differ.", "The tasks do not differ. They are equal.", "Nothing was added; equal.",
        "Equal: nothing was added.",
    ],
    "unclear": [
        "", " ", "Yes", "No", "Not the same.", "Similar.", "The first is harder.", "Equally good.", "equality",
        "They set equals apart.", "{}", '{"same": true}', "ist nicht gleich", "不相等",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"), [(text, word) for word, texts in JUDGEMENTS.items() for text in texts], ids=repr
)
def test_not_equal_is_looked_for_before_equal(text: str, expected: str) -> None:
    assert reading.equality(text) == expected


@laws
@given(before=st.text(), after=st.text(), said=st.sampled_from(["not equal", "Not Equal", "NOT EQUAL", "unequal"]))
def test_not_equal_is_never_taken_for_equal(before: str, after: str, said: str) -> None:
    assert reading.equality(f"{before} {said} {after}") == "not_equal"


# -- JSON
# -----------------------------------------------------------------------------------------------------------------

OBJECTS: dict[str, tuple[str, Any]] = {
    "plain": ('{"a": 1}', {"a": 1}),
    "fenced": ('Sure!\n```json\n{"a": 1}\n```\nBye.', {"a": 1}),
    "after a brace": ('As {asked}: {"a": {"b": 2}}', {"a": {"b": 2}}),
    "a list": ("[1, 2]", None),
    "cut": ('{"a": [1, 2', None),
    "none": ("No.", None),
    "deep": ("{" + '"a":[' * 100_000, None),
    "a huge number": ('{"a": ' + "9" * 5000 + "}", None),
    "many braces": ("{" * 100_000, None),
}


@pytest.mark.parametrize(("text", "expected"), OBJECTS.values(), ids=OBJECTS)
def test_an_object_is_found(text: str, expected: Any) -> None:
    assert reading.json_object(text) == expected


@given(st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers()), st.dictionaries(st.text(), st.text())))
def test_a_json_field_of_any_type_is_text(value: Any) -> None:
    text = reading.json_text(value)
    assert text == (
        value.strip() if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    )


# -- laws
# -----------------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from([
    "\n", " ", "\t", "1. ", "\n2. ", "\n3) ", "Example 1", "\nExample", "\nInput:", "Input 2 :", "\nOutput:", "Output",
    "\nClass label:", "###", "\n### ", "4. Instruction:", "\n4. Input:", "\n4. Output:", "\n5. Instruction: ", "Yes",
    "<think>", "</think>", "{", "}", '"a":', "[", "]", "**", "word", "two words", "2016.", "东京",
    "\u2028", "\x00", "١٢",
])  # fmt: skip
ANSWERS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))

READERS: dict[str, Callable[[str], Any]] = {
    "published list": lambda text: reading.published_instructions(text, truncated=False),
    "list": listed,
    "continued list": lambda text: listed(text, opened=True, truncated=True),
    "worked": lambda text: reading.input_first(text, anchored=True),
    "worked in a chat": lambda text: reading.input_first(text, anchored=True, opened=False),
    "published worked": lambda text: reading.input_first(text, anchored=False),
    "labelled": lambda text: reading.output_first(text, anchored=True),
    "published labelled": lambda text: reading.output_first(text, anchored=False),
    "tasks": lambda text: reading.triples(text, first=4, truncated=False, opened=True),
    "cut tasks": lambda text: reading.triples(text, first=4, truncated=True, opened=False),
    "published tasks": lambda text: reading.published_triples(text, first=4, truncated=True),
    "JSON": reading.json_object,
    "thoughts": reading.without_thinking,
    "yes": reading.is_yes,
    "evolved task": reading.without_wrapping,
    "judgement": reading.equality,
}


@laws
@given(ANSWERS)
def test_no_answer_makes_a_reader_raise(text: str) -> None:
    for read in READERS.values():
        read(text)


def letters(*texts: str) -> str:
    """What must not get lost: all but blanks and the marks that readers take for structure."""
    marks = r"(?im)^[ \t*#]*(?:Task[ \t]+)?\d+[ \t]?[.):]|Instruction|Input|Output|[\s\d*_#.):]"
    return re.sub(marks, "", "".join(texts))


@laws
@given(ANSWERS)
def test_a_continued_list_loses_no_text(text: str) -> None:
    assert letters(*(piece.removesuffix(" [cut]") for piece in listed(text, opened=True, truncated=True))) == letters(
        text
    )


@laws
@given(ANSWERS)
def test_continued_tasks_lose_no_text(text: str) -> None:
    read = reading.triples(text, first=4, truncated=False, opened=True)
    found = sorted(letters(*(part for triple in read for part in triple[:3])))
    assert found == sorted(letters(text))


@laws
@given(ANSWERS)
def test_published_tasks_that_are_lost_keep_their_text(text: str) -> None:
    pieces = f"4. Instruction:{text}".split("###")
    read = reading.published_triples(text, first=4, truncated=True)
    assert len(read) == len(pieces)
    assert all(triple.instruction == piece.strip() for triple, piece in zip(read, pieces, strict=True) if triple.flaw)


RUNS = [
    " ", "\t", "\n", "1", "1 ", "\n1", "\n1. ", "*", "_", "#", "# ", "Output", "Output ", "Output\n", "Input 1 ", "{",
    "x", '{"a":', "Example ", "\nExample 1", "Class label", "\nClass label", "\n4. Instruction", "4. ",
    "\n4. Instruction:", "!", "<think>", "\n ", "\n* ", "###", "\n###", "yes",
    "not ", "n't * ", "not a ", "equal", "equal:", 'equal"*', "# Task", "```", "“",
]  # fmt: skip
"""What a model that is caught in a loop may write on and on."""


@pytest.mark.parametrize("name", READERS)
def test_no_run_takes_more_time_than_its_length(name: str) -> None:
    for run in RUNS:
        body = run * (60_000 // len(run))
        for text in (body, f"4. Output{body}", f"\nInput {body}x", f"4{body}:", f"Example{body}"):
            began = time.process_time()
            READERS[name](text)
            assert time.process_time() - began < 1, f"{name}: {text[:20]!r} …"


@pytest.mark.parametrize("name", READERS)
def test_a_megabyte_on_one_line_is_read_quickly(name: str) -> None:
    began = time.process_time()
    READERS[name]("1. Output: Example 2. Instruction: yes " * 26_000)
    assert time.process_time() - began < 2
