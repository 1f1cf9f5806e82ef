"""A chain from the command line: begun by what was said, and continued by any part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Say
from tests.support.runs import Run

SCRIPTED: dict[str, Any] = {"kind": "scripted", "script": "unused"}
EVOLVE: dict[str, Any] = {"name": "evol-instruct", "rounds": 2}


@pytest.fixture
def chain(here: Path) -> Run:
    """`outputs/run`, a chain with a judge, of which nothing has been asked."""
    return Run(here / "outputs", n=2, then=[EVOLVE], judge={**SCRIPTED, "model": "critic"})


PARTS = {
    "--set then.0.rounds=2": "the option by its place",
    "--set then.rounds=2": "the option of the only one",
    "--then evol-instruct": "the name alone",
    "--set then=evol-instruct": "the name as a word",
    "--then evol-instruct --set then.0.rounds=2": "both",
    "--config table.toml": "a table",
    "--set roles.judge=critic": "the judge by name",
    "--set roles.judge.0.rpm=9": "the judge by place",
    "--role judge=critic": "the judge by flag",
}


@pytest.mark.parametrize("flags", PARTS, ids=PARTS.values())
def test_a_part_of_what_was_told_continues(flags: str, chain: Run, here: Path, selfinstruct: Say) -> None:
    """What is not said again keeps the value that the run has: only the server is missed."""
    (here / "table.toml").write_text('[[then]]\nname = "evol-instruct"\n')
    said = selfinstruct("generate", "--run", "run", "-n", "3", *flags.split())
    assert said.err.startswith("selfinstruct: script unused: "), said.err


LEAVE = "leave it out, or begin another run with --run"
OTHER = {
    "--set then.0.rounds=3": f"begun with then.rounds = 2, not 3; {LEAVE}",
    "--then alpaca": f"begun with then = 'evol-instruct', not 'alpaca'; {LEAVE}",
    "--then evol-instruct --then alpaca": (
        f"begun with then = 'evol-instruct', not 'evol-instruct, alpaca'; {LEAVE}"
    ),
    "--role judge=critic,other": f"begun with roles.judge = 'critic', not 'critic, other'; {LEAVE}",
    "--role judge=critic,llama3": f"begun with roles.judge = 'critic', not 'critic, llama3'; {LEAVE}",
    "--config two.toml": f"begun with roles.judge = 'critic', not 'critic, other'; {LEAVE}",
    "--role judge=other": f"begun with roles.judge.model = 'critic', not 'other'; {LEAVE}",
    "--role writer=m": f"begun without roles.writer, not with 'm' for it; {LEAVE}",
}  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), OTHER.items(), ids=OTHER)
def test_another_chain_is_one_line(flags: str, message: str, chain: Run, selfinstruct: Say) -> None:
    """It names the recipe, the model or the setting that differs."""
    Path("two.toml").write_text('roles.judge = ["critic", "other"]')
    said = selfinstruct("generate", "--run", "run", *flags.split())
    assert said == (2, "", f"selfinstruct: outputs/run: {message}\n")


PLAIN = {
    "--then alpaca": f"outputs/run: begun without --then, not with 'alpaca'; {LEAVE}",
    "--then evol-instruct": f"outputs/run: begun without --then, not with 'evol-instruct'; {LEAVE}",
    "--then evol-instrct": (
        "unknown recipe 'evol-instrct'; did you mean evol-instruct? known: alpaca, evol-instruct, self-instruct"
    ),
    "--set then.0.rounds=2": (
        "configuration: `then.0` names no recipe; name it with --then, or with `name` in its table"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), PLAIN.items(), ids=PLAIN)
def test_a_plain_run_is_no_chain(flags: str, message: str, here: Path, selfinstruct: Say) -> None:
    """It was begun without --then; a recipe that there is not is told first."""
    Run(here / "outputs", n=2)
    assert selfinstruct("generate", "--run", "run", *flags.split()) == (2, "", f"selfinstruct: {message}\n")
