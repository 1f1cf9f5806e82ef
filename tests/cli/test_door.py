"""The one door to the terminal: whatever is shown goes through it, and nothing of it is obeyed."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.tree import Tree

from selfinstruct.cli import main
from selfinstruct.cli.screen import Screen
from selfinstruct.cli.terminal import Door, door, draw, say
from selfinstruct.errors import ConfigError
from selfinstruct.text.secrets import remember
from tests.cli.conftest import LIST, Say
from tests.cli.test_mistakes import on_a_terminal
from tests.support.cli import INSTANCE, SEEDS, Said, write

HOSTILE = {
    "clipboard": "\x1b]52;c;cm0gLXJm\x07", "8-bit OSC": "\x9d52;c;cm0gLXJm\x9c",
    "clear": "\x1b[2J", "8-bit CSI": "\x9b2J",
    "title": "\x1b]0;x\x1b\\", "link": "\x1b]8;;http://x\x1b\\y", "DCS": "\x1bP+q\x1b\\", "bell": "\x07",
    "back": "a\x08b",
    "delete": "\x7f", "return": "a\rb", "override": "\u202e", "isolate": "\u2066", "mark": "\u200f", "NEL": "\x85",
    "line": "\u2028", "tag": "\U000e0041", "charset": "\x0e", "NUL": "\x00", "markup": "[link=http://x]y[/link]",
    "surrogate": "\ud83d", "form": "\x0c\x0b", "soft": "\u00ad", "BOM": "\ufeff",
}  # fmt: skip
EVERY = "".join(HOSTILE.values())
NAMES = EVERY.replace("\ud83d", "").replace("\0", "")
"""All but what cannot stand in an argument, or in a seed."""


def obeyed(shown: str) -> list[str]:
    """Characters of what was shown that a terminal would act on."""
    told = (char for char in shown if not (char.isprintable() or char in "\n\t\u200c\u200d"))
    return [char for char in told if unicodedata.category(char) != "Zs"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_whoever_prints_nothing_is_obeyed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, lines, logs of any library, warnings, click's own words, drawings."""
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    tree = Tree(text)
    tree.add(text)
    with door():
        print(text)
        say(text)
        draw(table)
        draw(tree)
        click.echo(text)
        click.echo(text, err=True)
        sys.stderr.writelines([text, text])
        logging.lastResort.handle(logging.LogRecord("asyncio", logging.ERROR, "", 1, text, (), None))  # type: ignore[union-attr]
        sys.__dict__["stderr"].write(warnings.formatwarning(text, UserWarning, text, 1))
    out, err = capsys.readouterr()
    assert obeyed(out) == obeyed(err) == []


@given(st.text())
def test_a_door_passes_what_is_harmless(text: str) -> None:
    """And of all else as much as can be seen."""
    stream = io.StringIO()
    assert Door(stream).write(text) == len(text)
    assert obeyed(stream.getvalue()) == []
    if text.isprintable():
        assert stream.getvalue() == text


@given(st.text())
def test_a_screen_obeys_only_what_is_ours(text: str) -> None:
    """On a terminal with colours too."""
    stream = io.StringIO()
    screen = Screen(stream)
    screen.print(text, style="bold")
    assert obeyed(stream.getvalue()) == []


def test_markup_in_a_name_is_only_text() -> None:
    """No link, no colour, no emoji."""
    stream = io.StringIO()
    Screen(stream).print("[red]a[/] [link=http://x]b[/] :smile:")
    assert stream.getvalue() == "[red]a[/] [link=http://x]b[/] :smile:\n"


def test_a_key_does_not_pass_the_door(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever prints it, a traceback for one."""
    remember("sk-door-0123456789")
    with door():
        print("a sk-door-0123456789 b")
        Screen(sys.stdout).print("a sk-door-0123456789 b")
    assert capsys.readouterr().out == "a [key] b\na [key] b\n"


ERRORS = [ConfigError(EVERY), RuntimeError(EVERY), UnicodeError(EVERY), OSError(5000, EVERY, EVERY),
          click.UsageError(EVERY), click.BadParameter(EVERY)]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_error_is_obeyed(error: Exception, selfinstruct: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is told in a line nor a bug with its traceback."""

    def raising(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(main, "cli", raising)
    said = selfinstruct("status")
    assert said.code in (1, 2)
    assert said.err
    assert obeyed(said.out + said.err) == []


def hostile_run(here: Path, instance: str = INSTANCE) -> list[str]:
    """The flags of a run in which every name is hostile."""
    name = "".join(text for kind, text in HOSTILE.items() if kind not in ("surrogate", "NUL", "link", "markup"))
    name = name.replace("/", "")[:60]
    write(here, "seeds.jsonl", [{**seed, "id": f"{NAMES}{seed['id']}"} for seed in SEEDS])
    rows: list[Any] = [
        {"when": "Is it classification", "text": "No", "finish_reason": EVERY},
        {"when": "Give worked examples", "text": instance, "reasoning": EVERY, "finish_reason": EVERY},
        {"text": LIST + EVERY, "finish_reason": EVERY},
    ]
    (here / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--script", "answers.jsonl", "--seeds", "seeds.jsonl", "-n", "2", "--concurrency", "1", "--run", f"r{name}"]


def test_no_name_is_obeyed_by_any_command(here: Path, selfinstruct: Say) -> None:
    """A model's finish reason, the ids of seeds, the folder of the run, in all that looks at them."""
    flags = hostile_run(here)
    told: list[Said] = [selfinstruct("-v", "generate", *flags)]
    run = flags[-1]
    for command in ("status", "show", "drops", "verify", "export", "card", "report", "retry", "filter"):
        told.append(selfinstruct(command, run))
        told.append(selfinstruct(command, f"{run}x"))
    told += [selfinstruct("status"), selfinstruct("show", run, "1.1", "--tree"), selfinstruct("show", run, NAMES),
             selfinstruct("seeds", "check", "seeds.jsonl"), selfinstruct("seeds", "check", NAMES),
             selfinstruct("drops", run, "--reason", NAMES), selfinstruct("generate", "--dialect", NAMES),
             selfinstruct("generate", *flags[:-1], "other", "--dry-run"), selfinstruct(NAMES)]  # fmt: skip
    assert all(said.code in (0, 1, 2) for said in told)
    assert [said.err for said in told if "Traceback" in said.err] == []
    assert [char for said in told for char in obeyed(said.out + said.err)] == []


def test_no_name_is_obeyed_by_the_panel(here: Path) -> None:
    """On a real terminal, where only rich moves the cursor and colours."""
    code, shown = on_a_terminal(["generate", *hostile_run(here)], here)
    assert code == 0, shown
    assert "]52;c;" in shown
    for text in ("\x1b]", "\x07", "\x9b", "\x9d", "\u202e", "\x1bP", "\x0e", "\x08"):
        assert text not in shown
