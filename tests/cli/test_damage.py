"""A ledger whose rows were damaged: one line that says so, and an end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Say
from tests.support.cli import Said

DAMAGE: list[tuple[str, str, Any]] = [
    ("drafts", "instances", "x"), ("drafts", "instances", '{"a": 1}'), ("drafts", "stayed", "5"),
    ("drafts", "meta", "[]"),
    ("drafts", "tools", '[{"b": 1}]'), ("drafts", "facets", "5"), ("drafts", "kept", "x"), ("drafts", "flaw", b"\xff"),
    ("drafts", "instruction", b"\xff\xfe"), ("drafts", "id", "x"), ("drafts", "stage", "x"), ("drafts", "family", 7.5),
    ("jobs", "payload", "x"), ("jobs", "shown", "5"), ("jobs", "models", "[1]"), ("jobs", "stage", "x"),
    ("jobs", "parent", "99.9"), ("jobs", "parent", "x"), ("answers", "body", "x"),
    ("answers", "body", '{"a": 1}'),
    ("answers", "question", "[]"),
    ("answers", "text", b"\xff"), ("answers", "kind", "x"),
    ("answers", "prompt_tokens", "x"),
    ("seeds", "record", "{}"), ("seeds", "record", "x"), ("verdicts", "detail", "x"),
    ("verdicts", "instance_drops", "5"),
    ("run", "value", "x"), ("run", "value", "-5"), ("events", "kind", "x"), ("events", "value", "x"),
]  # fmt: skip
COMMANDS = [["status"], ["show", "1.1", "--tree"], ["drops"], ["verify"], ["export"], ["card"]]


def change(folder: Path, sql: str, *values: Any) -> None:
    """Change a ledger by hand."""
    with closing(sqlite3.connect(folder / "outputs" / "first" / "ledger.sqlite")) as db, db:
        db.execute(sql, values)


@pytest.mark.parametrize(("table", "column", "value"), DAMAGE)
def test_damage_in_any_row_is_one_line(
    table: str, column: str, value: Any, first: Said, here: Path, selfinstruct: Say
) -> None:
    """Whichever command meets it; none ends in a traceback."""
    change(here, f"UPDATE OR IGNORE {table} SET {column} = ?", value)
    for name, *more in COMMANDS:
        said = selfinstruct(name, "first", *more)
        assert "Traceback" not in said.err
        assert said.code in (0, 1, 2)
        if said.code == 2:
            assert said.err.count("\n") == 1


def test_a_value_that_cannot_be_is_named(first: Said, here: Path, selfinstruct: Say) -> None:
    """Table, column and row, and what to do."""
    change(here, "UPDATE drafts SET meta = 'x' WHERE id = '1.1'")
    assert selfinstruct("show", "first", "1.1").err == (
        "selfinstruct: outputs/first/ledger.sqlite: damaged: meta of drafts '1.1' cannot be read; restore it from a "
        "copy, or begin another run with --run\n"
    )


def parents(here: Path, made_from: str) -> None:
    """Give each job of the run's tasks a parent; `made_from` is SQL for it."""
    change(here, f"UPDATE jobs SET parent = {made_from}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("made_from", [
    "(SELECT id FROM drafts d WHERE d.job = jobs.number)",  # each its own
    "(SELECT id FROM drafts d WHERE d.job <> jobs.number ORDER BY d.rank LIMIT 1)",  # another's
    "(SELECT id FROM drafts d WHERE d.job > jobs.number ORDER BY d.rank LIMIT 1)",
], ids=["itself", "another", "later"])  # fmt: skip
def test_a_circle_of_parents_ends(made_from: str, first: Said, here: Path, selfinstruct: Say) -> None:
    """Whoever goes up or down the line comes to an end, and says so in one line."""
    parents(here, made_from)
    for name, *more in [*COMMANDS, ["show", "2.1"], ["show", "2.1", "--tree"], ["export", "--format", "jsonl"]]:
        said = selfinstruct(name, "first", *more)
        assert "Traceback" not in said.err
        if said.code == 2:
            assert said.err.count("\n") == 1
