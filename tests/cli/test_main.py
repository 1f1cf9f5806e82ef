"""What holds for every command: help, version, completion, when it is imported, and the log."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from selfinstruct.cli.main import COMMANDS, Lazy, cli
from tests.cli.conftest import EXPORTS, Say
from tests.support.cli import ENVIRONMENT, Said, answers, seeds


def test_version_is_one_line(selfinstruct: Say) -> None:
    said = selfinstruct("--version")
    assert said.code == 0
    assert re.fullmatch(r"selfinstruct, version \d+\.\d+\.\d+\n", said.out)


@pytest.mark.parametrize(
    "command", [[], ["seeds", "check"], *([name] for name in COMMANDS if name != "seeds")], ids=" ".join
)
def test_help_ends_with_an_example_to_paste(command: list[str], selfinstruct: Say) -> None:
    said = selfinstruct(*command, "--help")
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"\n +selfinstruct {' '.join(command)}", said.out)


# -- imported when called ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_line_of_help_is_the_commands_own(name: str) -> None:
    """The table in `main` and the command's docstring say the same."""
    lazy = cli.commands[name]
    assert isinstance(lazy, Lazy)
    assert lazy.get_short_help_str(500) == lazy.load().get_short_help_str(500)


def test_no_line_of_help_is_cut(selfinstruct: Say) -> None:
    """Each command's first sentence has room beside its name."""
    assert "..." not in selfinstruct("--help").out.partition("Commands:")[2].partition("Examples:")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_its_own_file(name: str) -> None:
    """A command is the function of its name in the module of its name."""
    command = Lazy(name).load()
    inner = command.commands["check"] if isinstance(command, click.Group) else command
    assert command.name == name
    assert inner.callback is not None
    assert inner.callback.__module__ == f"selfinstruct.cli.{name}"


def test_other_commands_are_not_imported() -> None:
    """One command's help imports no other command."""
    code = (
        "import sys; from selfinstruct.cli.main import cli, COMMANDS\n"
        "cli(['verify', '--help'], standalone_mode=False)\n"
        "print([name for name in COMMANDS if f'selfinstruct.cli.{name}' in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stderr == "['verify']\n"


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("selfinstruct re", ["plain,recipes", "plain,report", "plain,retry", "plain,review"]),
        ("selfinstruct seeds ch", ["plain,check"]),
        ("selfinstruct generate --ordered --max-c", ["plain,--max-cost"]),
        ("selfinstruct generate my", ["file,my"]),
    ],
    ids=str,
)
def test_the_shell_completes(
    words: str, completions: list[str], selfinstruct: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of commands and options are completed, and the source of `generate` as a file."""
    monkeypatch.setenv("_SELFINSTRUCT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert selfinstruct().out.split() == completions


# -- the log ----------------------------------------------------------------------------------------------------------


def command(here: Path) -> list[str]:
    return ["--script", answers(here), "--seeds", seeds(here), "--run", "first", "-n", "2", "--quiet"]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("flag", ["-v", "--verbose", "--debug"])
def test_the_log_is_shown_when_asked(flag: str, place: int, here: Path, selfinstruct: Say) -> None:
    """`-v` stands before the command or after it; results stay alone on standard output."""
    arguments = ["generate", *command(here)]
    arguments.insert(place, flag)
    said = selfinstruct(*arguments)
    assert (said.code, said.out) == (0, EXPORTS)
    assert re.search(
        r"^\d\d:\d\d:\d\d INFO selfinstruct\.run\.session: outputs/first: begins with 8 seeds, recipe self-instruct$",
        said.err,
        re.MULTILINE,
    )


def test_the_log_is_silent_by_default(here: Path, selfinstruct: Say) -> None:
    """Without `-v` nothing of the log is shown."""
    assert selfinstruct("generate", *command(here)).err == ""


def test_debug_shows_where_an_error_arose(selfinstruct: Say) -> None:
    """The one line stays the last, below the traceback; `-v` alone shows none."""
    line = selfinstruct("show", "none").err
    *traceback, last = selfinstruct("show", "none", "--debug").err.splitlines(keepends=True)
    assert last == line
    assert "Traceback (most recent call last):\n" in traceback
    assert "Traceback" not in selfinstruct("-v", "show", "none").err


def test_the_log_shows_control_characters(first: Said, selfinstruct: Say) -> None:
    """What a terminal would obey is shown in the log, too."""
    assert "\x1b" not in selfinstruct("--debug", "show", "\x1b[31m").err
