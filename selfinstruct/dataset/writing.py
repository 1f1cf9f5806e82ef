"""Rows to files that appear when they are whole (`text.files`).

The suffix says how: `.jsonl` a row to a line, `.json` one array, `.csv`, `.parquet`. Rows are written as they come;
only CSV, which needs its columns first, holds what it writes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

from selfinstruct.errors import ConfigError, RunError
from selfinstruct.text.files import replacing
from selfinstruct.text.words import storable

Fields = dict[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
ROW_GROUP = 10_000
"""Rows that a Parquet file holds in memory at once, and in one of its row groups."""


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
        RunError: a place cannot be written, or rows that a kind of file cannot hold.
    """
    counts = [0] * len(paths)
    with writable(paths[0].parent), replacing(*paths) as parts, ExitStack() as stack:
        opened = [open_writer(part, path.suffix) for part, path in zip(parts, paths, strict=True)]
        writers = [stack.enter_context(closing(writer)) for writer in opened]
        for number, row in rows:
            writers[number].write(row)
            counts[number] += 1
    return counts


def write_text(path: Path, text: str) -> None:
    """A text into a file.

    Raises:
        RunError: the place cannot be written.
    """
    with writable(path.parent), replacing(path) as [part]:
        part.write_text(text, encoding="utf-8")


@contextmanager
def writable(place: Path) -> Iterator[None]:
    """Say in one line what could not be written inside of it, and what to do.

    Raises:
        RunError: the file system refused something; it is named, or else `place`.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or place
        raise RunError(
            f"{where}: cannot be written: {error.strerror or error}; choose another place with --to"
        ) from None


def open_writer(path: Path, suffix: str) -> Writer:
    """A writer of the kind that the suffix says.

    Raises:
        ConfigError: a suffix that says nothing.
    """
    kinds: dict[str, Callable[[Path], Writer]] = {".jsonl": _Lines, ".json": _Array, ".csv": _Csv, ".parquet": _Parquet}
    if suffix not in kinds:
        raise ConfigError(
            f"{path.name.removesuffix('.part').lstrip('.')}: unknown kind of file; known: {', '.join(SUFFIXES)}"
        )
    return kinds[suffix](path)


def to_json(row: Fields) -> bytes:
    """A row as JSON in UTF-8; a lone surrogate, which UTF-8 has not, stays an escape."""
    try:
        return orjson.dumps(row, default=str)
    except TypeError:  # what orjson refuses: such a surrogate, a number of more than 64 bits, a key that is no text
        return json.dumps(row, default=str, separators=(",", ":")).encode()


class _Lines:
    """A row to a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, row: Fields) -> None:
        self._file.write(to_json(row) + b"\n")

    def close(self) -> None:
        self._file.close()


class _Array:
    """One JSON array."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._opening = b"[\n"

    def write(self, row: Fields) -> None:
        self._file.write(self._opening + to_json(row))
        self._opening = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._opening == b"[\n" else b"\n]\n")
        self._file.close()


class _Csv:
    """A header and a line to a row; what is no text is written as JSON. Rows are held until all columns are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Fields] = []

    def write(self, row: Fields) -> None:
        self._rows.append(row)

    def close(self) -> None:
        with self._path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            table = csv.DictWriter(file, _columns(self._rows))
            table.writeheader()
            table.writerows({name: _cell(value) for name, value in row.items()} for row in self._rows)


def _columns(rows: Iterable[Fields]) -> list[str]:
    """Every column, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value


class _Parquet:
    """A Parquet table, a row group at a time.

    The first rows show the columns and their types. Where later ones have more, or another type that holds both, what
    is written already is copied under the wider schema.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        self._arrow = pa
        self._rows: list[Fields] = []
        self._schema = pa.schema([])
        self._writer: Any = None

    def write(self, row: Fields) -> None:
        self._rows.append(row)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows or self._writer is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        try:
            table = self._table(self._rows)
            schema = self._arrow.unify_schemas([self._schema, table.schema], promote_options="permissive")
            if self._writer is None or schema != self._schema:
                self._widen(schema)
            self._writer.write_table(self._under(table, schema))
        except self._arrow.ArrowException as error:
            name = self._path.name.removesuffix(".part").lstrip(".")
            problem = " ".join(str(error).split())
            raise RunError(f"{name}: a column that Parquet cannot hold: {problem:.200}; write .jsonl instead") from None
        finally:
            self._rows = []

    def _table(self, rows: list[Fields]) -> Any:
        names = dict.fromkeys((*self._schema.names, *_columns(rows)))
        columns = {name: [row.get(name) for row in rows] for name in names}
        try:
            return self._arrow.table(columns)
        except UnicodeEncodeError:
            return self._arrow.table({name: _storable(values) for name, values in columns.items()})

    def _widen(self, schema: Any) -> None:
        """Go on under another schema, with a copy of what is there."""
        from pyarrow import parquet

        before = self._path.with_name(f"{self._path.name}.narrow")
        if self._writer is not None:
            self._writer.close()
            self._path.replace(before)
        self._schema, self._writer = schema, parquet.ParquetWriter(self._path, schema)
        if before.exists():
            with parquet.ParquetFile(before) as file:
                for number in range(file.num_row_groups):
                    self._writer.write_table(self._under(file.read_row_group(number), schema))
            before.unlink()

    def _under(self, table: Any, schema: Any) -> Any:
        """A table under a schema that is at least as wide; columns that it lacks are empty.

        Built anew, since Arrow's own casts fail on columns of nothing inside lists.
        """
        return table if table.schema == schema else self._arrow.Table.from_pylist(table.to_pylist(), schema=schema)


def _storable(value: Any) -> Any:
    """The same with each lone surrogate replaced: Arrow's text is UTF-8, which has none."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(one) for name, one in value.items()}
    return value
