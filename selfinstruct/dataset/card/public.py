"""What of a run's settings others may read: nothing that names a machine, a folder, a person or a key."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Any

from selfinstruct.inputs.config import RunConfig, Tree, dump

# A key of this name has a secret for its value, or says where one is.
_SECRET = re.compile(r"(^|[_-])(api|auth|authorization|credentials?|headers?|keys?|passwords?|secrets?|token)([_-]|$)")
_NEVER = {"base_url", "budget", "price_cached", "price_in", "price_out", "prompts", "server_args"}
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES = (".gguf", ".json", ".jsonl", ".toml", ".txt")


def settings(config: RunConfig) -> Tree:
    """The configuration as others may read it."""
    return {key: _scrubbed(value) for key, value in dump(config).items() if _shown(key)}


def name(text: str) -> str:
    """A name as others may read it: of a path its last part, of an address nothing.

    >>> [name(text) for text in ("/home/ada/qwen.gguf", "Qwen/Qwen3-8B", "http://10.0.0.7:8000/v1")]
    ['qwen.gguf', 'Qwen/Qwen3-8B', '…']
    """
    if "://" in text:
        return "…"
    return text if _HUB_NAME.fullmatch(text) and not text.endswith(_FILES) else PureWindowsPath(text).name


def _shown(key: str) -> bool:
    return key not in _NEVER and not _SECRET.search(key.lower())


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scrubbed(inner) for key, inner in value.items() if _shown(key)}
    if isinstance(value, list):
        return [_scrubbed(inner) for inner in value]
    return name(value) if isinstance(value, str) else value
