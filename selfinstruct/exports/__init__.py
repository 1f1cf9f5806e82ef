"""Exports by name: `alpaca`, `jsonl`, and those of others by entry point.

A package adds a format by an entry point in the group `selfinstruct.exports`: its name, and a module or object with
`FILES` (names of the files it writes, `.json` or `.jsonl`) and `rows(sample, lineage)`. A new format of ours is one
such module and its name here.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from selfinstruct.config import unknown_name
from selfinstruct.exports.base import Export

BUILT_IN = {"alpaca": "alpaca", "jsonl": "jsonl"}


def names() -> list[str]:
    """Every format that can be written."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group="selfinstruct.exports"))})


def open_export(name: str) -> Export:
    """The export of that name.

    Raises:
        ConfigError: no such format; the message lists the known ones.
    """
    if name in BUILT_IN:
        return cast("Export", import_module(f"selfinstruct.exports.{BUILT_IN[name]}"))
    for point in entry_points(group="selfinstruct.exports", name=name):
        return cast("Export", point.load())
    raise unknown_name("format", name, names())
