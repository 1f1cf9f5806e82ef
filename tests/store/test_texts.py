"""Long texts that questions share are stored once, and no question is told from them what it was not asked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.records import Call, Request, Sampling, Turn
from selfinstruct.store.keys import canonical
from selfinstruct.store.schema import migrate
from selfinstruct.store.texts import LONG, folded, unfolded

RULES, SAID, ASKED = "r" * (LONG + 1), "s" * 5_000, "a" * 5_000


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db)
        yield db


def question(*contents: str, **more: object) -> str:
    turns = [Turn(role="user" if i % 2 else "system", content=content) for i, content in enumerate(contents)]
    request = Request(model="m", messages=tuple(turns), sampling=Sampling())
    return canonical(request.model_dump(mode="json", exclude_defaults=True) | more)


def texts(db: sqlite3.Connection) -> list[str]:
    return [text for (text,) in db.execute("SELECT text FROM texts ORDER BY id")]


def test_what_was_said_before_is_stored_once(db: sqlite3.Connection) -> None:
    """A conversation that grows stores each turn once, and the last in the question, where nothing else needs it."""
    asked = [question(RULES, SAID), question(RULES, SAID, ASKED), question(RULES, SAID, ASKED, "short", ASKED)]
    stored = [folded(db, one) for one in asked]
    assert texts(db) == [RULES, SAID, ASKED]
    assert [len(one) < len(whole) for one, whole in zip(stored, asked, strict=True)] == [True] * 3
    assert [unfolded(db, one) for one in stored] == asked


TEXT = st.text(max_size=8) | st.text(min_size=1, max_size=3).map(lambda text: text * 150)
LEFT = st.sampled_from(['"content":1', '{"content":1}', "\ud83d" * 300, '"role":"role":', "", "1"])


@given(st.lists(TEXT | LEFT, max_size=5), st.one_of(st.none(), TEXT | LEFT))
def test_every_question_comes_back(contents: list[str], content: str | None) -> None:
    """Whatever stands in a question, also what looks like a number in place of a text, it is read as it was put."""
    call = Call(tool="t", arguments={"content": 1, "said": contents[0] if contents else ""})
    turns = [Turn(role="assistant", content=said, calls=(call,)) for said in contents]
    request = Request(model="m", prompt=content, messages=tuple(turns), sampling=Sampling())
    for whole in (
        canonical(request.model_dump(mode="json", exclude_defaults=True)),
        canonical({"tool": "t", "arguments": {"messages": [{"role": "role", "content": 1}, {"content": 2}]}}),
        canonical({"command": contents, "stdin": content}),
    ):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            migrate(db)
            assert unfolded(db, folded(db, whole)) == whole


@pytest.mark.parametrize(
    "stored",
    [
        '{"messages":[{"content":7}]}',
        '{"messages":[{"content":99999999999999999999999}]}',
        '{"messages":{"content":1}}',
        '[{"content":1}]',
        '{"content":1',
        '{"messages":[["content",1],{"content":1}]}',
    ],
)
def test_a_damaged_question_is_left(db: sqlite3.Connection, stored: str) -> None:
    """What is no question, or refers to a text that is gone, comes back as it lies there: `verify` names it."""
    assert unfolded(db, stored) == stored


def test_no_number_is_taken_for_a_text(db: sqlite3.Connection) -> None:
    """Only the content of a message refers to a text; a number in a call is a number."""
    folded(db, question(RULES, ASKED))
    whole = json.dumps(
        {"messages": [{"calls": [{"arguments": {"content": 1}}], "content": "x"}]}, separators=(",", ":")
    )
    assert unfolded(db, whole) == whole
