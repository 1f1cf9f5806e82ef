"""Rows to files: written beside their places and renamed, so that none is ever seen half written.

The suffix says how: `.jsonl` a row to a line, `.json` one array, `.csv`, `.parquet`. JSON is written as rows come;
the other two need their columns first, and hold what they write.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from selfinstruct.errors import ConfigError, RunError
from selfinstruct.text import encodable

Fields = dict[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class Writer(Protocol):
    """Writes one file."""

    def write(self, row: Fields) -> None:
        """Take a row."""

    def close(self) -> None:
        """Finish the file."""


def write_rows(rows: Iterable[tuple[int, Fields]], *paths: Path) -> list[int]:
    """Each row into the file that its number names; all files appear, or none.

    Returns:
        how many rows each file has.

    Raises:
        ConfigError: a suffix that says nothing.
        RunError: a place cannot be written.
    """
    counts = [0] * len(paths)
    with replacing(*paths) as parts, ExitStack() as stack:
        writers = [stack.enter_context(_writing(part, path.suffix)) for part, path in zip(parts, paths, strict=True)]
        for number, row in rows:
            writers[number].write(row)
            counts[number] += 1
    return counts


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Paths beside the given ones to write to; they take their places when all went well, and vanish if not.

    Raises:
        RunError: a place cannot be written.
    """
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    except OSError as error:
        place = error.filename or paths[0].parent
        raise RunError(
            f"{place}: cannot be written: {error.strerror or error}; choose another place with --to"
        ) from None
    finally:
        for part in parts:
            with suppress(FileNotFoundError, NotADirectoryError):
                part.unlink()


def to_json(row: Fields) -> str:
    """A row as JSON text that UTF-8 can hold: a lone surrogate stays an escape."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text if encodable(text) else json.dumps(row, default=str)


@contextmanager
def _writing(path: Path, suffix: str) -> Iterator[Writer]:
    kinds: dict[str, Callable[[Path], Writer]] = {".jsonl": _Lines, ".json": _Array, ".csv": _Csv, ".parquet": _Parquet}
    if suffix not in kinds:
        raise ConfigError(
            f"{path.name.removesuffix('.part').lstrip('.')}: unknown kind of file; known: {', '.join(SUFFIXES)}"
        )
    writer = kinds[suffix](path)
    try:
        yield writer
    finally:
        writer.close()


class _Lines:
    """A row to a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, row: Fields) -> None:
        self._file.write(to_json(row) + "\n")

    def close(self) -> None:
        self._file.close()


class _Array:
    """One JSON array."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._opening = "[\n"

    def write(self, row: Fields) -> None:
        self._file.write(self._opening + to_json(row))
        self._opening = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._opening == "[\n" else "\n]\n")
        self._file.close()


class _Held:
    """Rows held until all columns are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Fields] = []

    def write(self, row: Fields) -> None:
        self._rows.append(row)

    def columns(self) -> list[str]:
        """Every column, in the order of first appearance."""
        return list(dict.fromkeys(name for row in self._rows for name in row))


class _Csv(_Held):
    """A header and a line to a row; what is no text is written as JSON."""

    def close(self) -> None:
        with self._path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            table = csv.DictWriter(file, self.columns())
            table.writeheader()
            table.writerows({name: _cell(value) for name, value in row.items()} for row in self._rows)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value


class _Parquet(_Held):
    """A Parquet table."""

    def close(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        columns = self.columns()
        table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in self._rows])
        parquet.write_table(table, self._path)
