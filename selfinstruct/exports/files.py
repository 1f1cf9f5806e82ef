"""Writing: every file is written beside its place and renamed, so that none is ever seen half written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from selfinstruct.errors import RunError
from selfinstruct.exports import open_export
from selfinstruct.exports.base import Lineage
from selfinstruct.records import Sample
from selfinstruct.store.ledger import Ledger


def samples(ledger: Ledger, stage: str) -> Iterator[Sample]:
    """The kept tasks of a run, in the order in which they were settled."""
    return (stored.sample for stored in ledger.drafts("d.kept AND d.stage = ?", stage))


def export(ledger: Ledger, stage: str, formats: Iterable[str], folder: Path) -> list[tuple[Path, int]]:
    """Write the kept tasks in each format.

    Args:
        stage: the recipe's last stage.
        folder: made if it is not there; files of the same names are replaced.

    Returns:
        each file with its number of rows.

    Raises:
        ConfigError: an unknown format.
        RunError: the folder cannot be written.
    """
    opened = [open_export(name) for name in dict.fromkeys(formats)]
    written: list[tuple[Path, int]] = []
    with _writing(folder):
        for exporter in opened:
            rows = (row for sample in samples(ledger, stage) for row in exporter.rows(sample, Lineage(ledger, sample)))
            paths = [folder / name for name in exporter.FILES]
            count = _write(rows, paths)
            written += [(path, count) for path in paths]
    return written


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}; choose another place with --to") from None


def _write(rows: Iterable[dict[str, Any]], paths: list[Path]) -> int:
    """The same rows into each of the files; how many there were."""
    count = 0
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    try:
        with ExitStack() as stack:
            files = [
                (path.suffix, stack.enter_context(part.open("w", encoding="utf-8")))
                for path, part in zip(paths, parts, strict=True)
            ]
            for row in rows:
                line = json.dumps(row, ensure_ascii=False)
                for suffix, file in files:
                    _write_row(file, suffix, line, first=count == 0)
                count += 1
            for suffix, file in files:
                if suffix == ".json":
                    file.write("\n]\n" if count else "[]\n")
        for path, part in zip(paths, parts, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return count


def _write_row(file: IO[str], suffix: str, line: str, *, first: bool) -> None:
    if suffix == ".json":
        file.write(("[\n" if first else ",\n") + line)
    else:
        file.write(line + "\n")
