"""What of a run's settings others may read: what is listed here, and of the rest nothing.

So a new setting is private until somebody has thought about it. What is listed names no machine, folder, person or key;
of a path only the last part is shown.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import PureWindowsPath
from typing import Any

from selfinstruct.inputs.config import RunConfig, Tree, dump

_MODEL = (
    "kind", "model", "dialect", "structured", "batch", "concurrency", "rpm", "tpm", "timeout", "attempts", "context",
    "script", "weight", *(f"extra.{field}" for field in (
        "top_k", "min_p", "typical_p", "repetition_penalty", "length_penalty", "seed", "stop", "reasoning_effort",
        "chat_template_kwargs.enable_thinking")),
)  # fmt: skip
SHOWN = (
    "n", "seeds", "seed", "ordered", "window", "formats", "patience",
    "recipe.name", "recipe.strict", "then.*.name", "then.*.strict",
    *(f"{of}.{field}" for of in ("backend", "roles.*.*") for field in _MODEL),
    *(f"filters.validity.{name}" for name in ("words", "banned_words", "programs", "start")),
    "filters.rouge.tokenizer",
    *(f"filters.elimination.{name}" for name in ("unclear", "refusal_markers", "stop_words", "leaked_words")),
    *(f"export.{name}" for name in (
        "file_type", "validation", "split_seed", "shard_rows", "system_prompt", "provenance", "facets.*", "parents",
        "sources")),
)  # fmt: skip
"""Settings by dotted name, a star for any name or place."""
NUMBERS = ("recipe.*", "then.*", "filters.*")
"""Of these tables, whose settings are as many as there are recipes and filters, numbers and switches are shown as
well: they can name nothing."""
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES = (".gguf", ".json", ".jsonl", ".toml", ".txt")


def settings(config: RunConfig) -> Tree:
    """The configuration as others may read it."""
    return dict(_shown(dump(config), ""))


def name(text: str) -> str:
    """A name as others may read it: of a path its last part, of an address nothing.

    >>> [name(text) for text in ("/home/ada/qwen.gguf", "Qwen/Qwen3-8B", "http://10.0.0.7:8000/v1")]
    ['qwen.gguf', 'Qwen/Qwen3-8B', '…']
    """
    if "://" in text:
        return "…"
    return text if _HUB_NAME.fullmatch(text) and not text.endswith(_FILES) else PureWindowsPath(text).name


def _shown(value: Any, place: str) -> Any:
    """What may be read of a setting, of tables what may be of each in them; None where it is nothing."""
    if isinstance(value, dict):
        inner = {key: _shown(one, f"{place}.{key}" if place else key) for key, one in value.items()}
        return {key: one for key, one in inner.items() if one is not None} or None
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [_shown(one, f"{place}.{number}") or {} for number, one in enumerate(value)]
    listed = any(fnmatchcase(place, pattern) for pattern in SHOWN)
    number = isinstance(value, int | float) and any(fnmatchcase(place, pattern) for pattern in NUMBERS)
    return _named(value) if listed or number else None


def _named(value: Any) -> Any:
    """A value in which each text is a name."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    return name(value) if isinstance(value, str) else value
