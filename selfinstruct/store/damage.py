"""Damage to a ledger: which row holds what none can hold. Looked for only when something cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Query = Callable[..., list[tuple[Any, ...]]]
"""The rows of a query (`Ledger.query`)."""

_JSON = {
    "seeds": {"record": "object"},
    "jobs": {"payload": "object", "shown": "array", "models": "object"},
    "answers": {"question": "object", "body": "object"},
    "drafts": {"instances": "array", "stayed": "array", "meta": "object", "tools": "array", "facets": "object"},
    "verdicts": {"detail": "object", "instance_drops": "array"},
}
"""Columns that hold JSON, and what kind of value that is."""
_KINDS = {"INTEGER": "'integer'", "REAL": "'real', 'integer'", "TEXT": "'text'"}
_NO_JSON = "CASE json_valid({0}) WHEN 1 THEN json_type({0}) ELSE '' END"
"""What kind of JSON a column holds; '' where it is none."""
_BROKEN = (
    ("drafts", "id", "id <> job || '.' || position"),
    ("drafts", "job", "job NOT IN (SELECT number FROM jobs)"),
    ("drafts", "kept", "kept NOT IN (0, 1)"),
    ("drafts", "stage", "stage NOT IN (SELECT stage FROM jobs)"),
    ("verdicts", "keep", "keep NOT IN (0, 1)"),
    ("answers", "job", "job NOT IN (SELECT number FROM jobs)"),
    ("jobs", "parent", "parent IS NOT NULL AND parent NOT IN (SELECT id FROM drafts)"),
    ("events", "kind", "kind NOT IN ('target', 'plan', 'settle', 'fail', 'retry')"),
    ("jobs", "parent", "number <= (SELECT d.job FROM drafts d WHERE d.id = parent)"),
    ("run", "value", f"key IN ('config', 'models') AND {_NO_JSON.format('value')} <> 'object'"),
)
"""What holds of every row, turned round."""


def damaged(query: Query) -> str | None:
    """The first value that cannot stand where it stands, for a person; None where there is none to be seen."""
    return next(_found(query), None)


def _found(query: Query) -> Iterator[str]:
    for table, column, wrong in [*_of_types(query), *_of_json(), *_BROKEN]:
        for (name,) in query(f"SELECT {_first(query, table)} FROM {table} WHERE {wrong} LIMIT 1"):  # noqa: S608 - names of our own
            yield f"{column} of {table} {str(name)[:40]!r}"


def _of_types(query: Query) -> Iterator[tuple[str, str, str]]:
    tables = query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    for (table,) in tables:
        for _, column, kind, required, *_ in query(f"PRAGMA table_info({table})"):
            kinds = _KINDS.get(str(kind).upper(), "") + ("" if required else ", 'null'")
            if kinds.startswith("'"):
                yield table, column, f"typeof({column}) NOT IN ({kinds})"


def _of_json() -> Iterator[tuple[str, str, str]]:
    for table, columns in _JSON.items():
        for column, kind in columns.items():
            yield table, column, f"{column} IS NOT NULL AND {_NO_JSON.format(column)} <> '{kind}'"


def _first(query: Query, table: str) -> str:
    """The column that names a row."""
    columns = [column for _, column, *_ in query(f"PRAGMA table_info({table})")]
    return next(name for name in ("id", "number", "draft", "key", columns[0]) if name in columns)
