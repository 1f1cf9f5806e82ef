"""A folder to work in, a run that is done, and what commands say of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import INSTRUCTIONS, Said, answers, say, seeds

Say = Callable[..., Said]
LIST = (
    " Explain why the tide rises twice a day.\n10. Draw a map of the town.\n11. Name three rivers of Europe!\n"
    "12. Compare travelling by train with travelling by bus."
)

AGAIN = "`selfinstruct export` writes it again"
EXPORTS = "".join(f"outputs/first/export/{name}: 2 rows\n" for name in ("alpaca.json", "alpaca.jsonl", "samples.jsonl"))
TIDE, BUS = INSTRUCTIONS[0], INSTRUCTIONS[3]


def timeless(text: str) -> str:
    """Without what differs from time to time."""
    text = re.sub(r"\d+ tokens/s", "… tokens/s", text)
    text = re.sub(r" · about .* left", "", text)
    return re.sub(r'"seconds": [\d.]+', '"seconds": 0', text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def selfinstruct(here: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command: `selfinstruct("status", "--json")`."""
    return lambda *arguments: say(capsys, *arguments)


@pytest.fixture
def first(here: Path, selfinstruct: Say) -> Said:
    """A run named `first`, in which two tasks are kept and two drafts dropped; and what was said as it was made."""
    script = answers(here, LIST)
    flags = ("-n", "2", "--concurrency", "1", "--seed", "7")
    return selfinstruct("generate", "--script", script, "--seeds", seeds(here), "--run", "first", *flags)
