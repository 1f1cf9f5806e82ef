"""The kept tasks of a run in each format asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from selfinstruct.exports import open_export
from selfinstruct.exports.base import Lineage
from selfinstruct.records import Sample
from selfinstruct.store.ledger import Ledger
from selfinstruct.writing import write_rows


def samples(ledger: Ledger, stage: str) -> Iterator[Sample]:
    """The kept tasks of a run as people have reviewed them, in the order in which they were settled."""
    return ledger.samples("d.stage = ?", stage)


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
    for exporter in opened:
        rows = (row for sample in samples(ledger, stage) for row in exporter.rows(sample, Lineage(ledger, sample)))
        paths = [folder / name for name in exporter.FILES]
        counts = write_rows(((file, row) for row in rows for file in range(len(paths))), *paths)
        written += zip(paths, counts, strict=True)
    return written
