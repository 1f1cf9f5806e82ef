"""The verb and the noun of an instruction, beside what a person reads in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.dataset.report.words import Phrase, first_words, is_english, verb_and_noun
from selfinstruct.inputs.resources import shipped

LABELS = Path(__file__).with_name("verbs.txt")


def read() -> list[tuple[str, Phrase]]:
    """Each shipped instruction with what a person reads in it."""
    lines = [line.split() for line in LABELS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    told = {id: Phrase(*(None if word == "-" else word for word in words)) for id, *words in lines}
    path = shipped("seeds/tasks.jsonl")
    assert path is not None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["instruction"], told[row["id"]]) for row in rows]


def test_it_agrees_with_a_person_as_often_as_the_docs_say() -> None:
    pairs = [(verb_and_noun(text), phrase) for text, phrase in read()]
    assert len(pairs) == 200
    verbs = sum(found.verb == phrase.verb for found, phrase in pairs)
    both = sum(found == phrase for found, phrase in pairs)
    assert (verbs, both) == (200, 186)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Write a short story about a dragon.", ("write", "story")),
        ("Please could you carefully list the steps?", ("list", "step")),
        ("I'd like you to generate a random password.", ("generate", "password")),
        ("Your task is to classify the text.", ("classify", "text")),
        ("3. Summarize this article:\n\nThe cat sat.", ("summarize", "article")),
        ("Given two numbers, find their sum.", ("find", "sum")),
        ("Give me three tips for sleeping well.", ("give", "tip")),
        ("You are given a poem. Translate it into French.", ("translate", None)),
        ("Explain why the tide rises twice a day.", ("explain", None)),
        ("What is the capital of France?", (None, None)),
        ("Physical or chemical change?", (None, None)),
        ("", (None, None)),
    ],
)
def test_an_order_is_read_whatever_stands_around_it(text: str, phrase: tuple[str | None, str | None]) -> None:
    assert verb_and_noun(text) == phrase


@given(st.text())
def test_any_text_whatever_can_be_read(text: str) -> None:
    for phrase in (verb_and_noun(text), first_words(text)):
        assert all(word is None or word for word in phrase)


def test_of_other_languages_the_first_word_and_the_next_longer_one_stand_in() -> None:
    texts = ["Schreibe ein kurzes Gedicht über das Meer.", "Nenne drei Flüsse in Europa und ihre Länge.", "写一首诗。"]
    assert not is_english(texts)
    assert [first_words(text) for text in texts] == [("schreibe", "kurzes"), ("nenne", "drei"), ("写", "一")]
    assert is_english(["Write a poem about the sea.", "List three rivers and explain what is special about them."])
