"""Exports by name: ours, and those of others by entry point.

A package adds a format by an entry point in the group `selfinstruct.exports`: its name, and a module or object with
`FILES` (names of the files it writes, `.json` or `.jsonl`) and `rows(sample, context)`. A new format of ours is one
such module and its name here.
"""

from __future__ import annotations

from typing import cast

from selfinstruct.dataset.exports.base import Export
from selfinstruct.inputs.plugins import Registry

EXPORTS = Registry(
    "format",
    "selfinstruct.exports",
    {
        "alpaca": "selfinstruct.dataset.exports.alpaca",
        "dolly": "selfinstruct.dataset.exports.dolly",
        "evol": "selfinstruct.dataset.exports.evol",
        "jsonl": "selfinstruct.dataset.exports.jsonl",
        "messages": "selfinstruct.dataset.exports.messages",
        "prompt-completion": "selfinstruct.dataset.exports.prompt_completion",
        "self-instruct": "selfinstruct.dataset.exports.self_instruct",
        "sharegpt": "selfinstruct.dataset.exports.sharegpt",
        "text": "selfinstruct.dataset.exports.text",
    },
)


def names() -> list[str]:
    """Every format that can be written."""
    return EXPORTS.names()


def open_export(name: str) -> Export:
    """The export of that name.

    Raises:
        ConfigError: no such format; the message lists the known ones.
    """
    return cast("Export", EXPORTS.load(name))
