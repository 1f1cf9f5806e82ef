"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)


async def executed(sources: Iterable[str], name: str) -> dict[str, Any]:
    """The names that blocks of code leave behind, run in order in the event loop that is there; each may await."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(sources, 1):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        waited = eval(compile(source, f"{name}, block {number}", "exec", flags, dont_inherit=True), names)
        if inspect.isawaitable(waited):
            await waited
    return names
