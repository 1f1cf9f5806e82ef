"""Markdown that what is inserted cannot take over.

A template is ours and is Markdown. What it inserts was written by models, servers or people: a `str` is shown as
code on one line, with control characters made visible, and can be neither HTML nor a link nor the end of a table's
cell. Only what this module made (`Markdown`) is inserted as it is.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfinstruct.text.display import one_line, visible

if TYPE_CHECKING:
    from jinja2 import Environment


class Markdown(str):
    """Text that is inserted as it is."""

    __slots__ = ()


def render(template: Path, **values: Any) -> str:
    """The Markdown of a template file with these values."""
    return _environment().from_string(template.read_text(encoding="utf-8")).render(values)


def code(text: str) -> Markdown:
    """Text as code on one line, in which nothing is active; a dash where there is none.

    >>> print(code("a `b` <i>|"))
    `` a `b` <i>¦ ``
    """
    # A bar would end the cell of a table even inside code.
    line = one_line(text).replace("|", "¦")
    fence = "`" * (_longest_run(line) + 1)
    space = " " if "`" in line else ""
    return Markdown(f"{fence}{space}{line}{space}{fence}" if line else "–")


def block(language: str, text: str) -> Markdown:
    """Text as a block of code, which it cannot end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return Markdown(f"{fence}{language}\n{visible(text, indent='').rstrip()}\n{fence}")


def plain(text: str) -> Markdown:
    r"""Text on one line, with everything escaped that Markdown would take for more.

    >>> print(plain("a_b <i>"))
    a\_b \<i\>
    """
    return Markdown(re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", one_line(text)))


def _longest_run(text: str) -> int:
    """Of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def _inserted(value: Any) -> Any:
    if isinstance(value, Markdown):
        return value
    return code(value) if isinstance(value, str) else f"{value:,}" if isinstance(value, int | float) else value


@cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    # Escaping for HTML is not what Markdown needs; `finalize` sees every value that is inserted.
    return Environment(  # noqa: S701
        undefined=StrictUndefined, finalize=_inserted, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
