"""Text that may be shown, on a terminal or a page: models wrote it, so control characters are made visible, never
obeyed."""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def visible(text: str, indent: str = "  ") -> str:
    """Text that nothing obeys: control characters become their Unicode pictures, lines are indented."""
    safe = text if text.isprintable() else "".join(char if _harmless(char) else _picture(char) for char in text)
    return safe.replace("\n", f"\n{indent}")


def one_line(text: str) -> str:
    """The same on one line."""
    return visible(" ".join(text.split()))


def json_line(value: Any) -> str:
    """A value as one line of JSON, readable in any script, with everything unprintable escaped."""
    line = json.dumps(value, ensure_ascii=False)
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _harmless(char: str) -> bool:
    """Printable, a space of any script, a line break or tab, or what joins letters in Persian and Hindi."""
    return char.isprintable() or char in "\n\t\u200c\u200d" or unicodedata.category(char) == "Zs"


def _picture(char: str) -> str:
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}"


def duration(seconds: float) -> str:
    """Seconds for a person: `48 s`, `3 min 20 s`, `5 h 02 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def money(dollars: float) -> str:
    """US dollars for a person: `$12.50`, `$0.0031`."""
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}"


def bill(dollars: float | None) -> str:
    """A cost for a person, also where there is none or it is not known: `$12.50`, `no cost`, `price unknown`."""
    if dollars is None:
        return "price unknown"
    return "no cost" if dollars == 0 else money(dollars)
