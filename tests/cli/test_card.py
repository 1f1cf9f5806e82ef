"""`card` as people use it: whole, with prompts of one's own, and into a file."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from tests.cli.conftest import Say
from tests.support.cli import Said, answers, seeds

GOLDEN = Path(__file__).parent.parent / "golden" / "card.md"


def test_a_card_is_whole(here: Path, first: Said, selfinstruct: Say) -> None:
    said = selfinstruct("card", "first", "--license", "cc-by-4.0", "--format", "alpaca", "--format", "jsonl")
    text = re.sub(r"(run: |from |to )('?)20\d\d-[^ \n]*( \d\d:\d\d UTC)?", r"\1(a moment)", said.out)
    text = re.sub(r"```jinja.*?```", "(the prompt)", text, flags=re.DOTALL).replace(
        version("selfinstruct"), "(version)"
    )
    assert (said.code, said.err) == (0, "")
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_prompts_of_ones_own_are_named_and_not_repeated(here: Path, selfinstruct: Say) -> None:
    own = here / "mine" / "self-instruct" / "instructions.completion.md"
    own.parent.mkdir(parents=True)
    own.write_text(
        '+++\npurpose = "Tides *alone*"\nsource = "mine"\nvariables = ["demonstrations", "next_number"]\n+++\n'
        "A trade secret: {{ demonstrations | join }} {{ next_number }}\n"
    )
    flags = ("--seeds", seeds(here), "--prompts", "mine", "--run", "own", "-n", "2", "--concurrency", "1", "--quiet")
    selfinstruct("generate", "--script", answers(here), *flags)
    text = selfinstruct("card", "own").out
    assert "trade secret" not in text
    assert r"Tides \*alone\* Method: mine. SHA-256 `" in text
    assert "The text is not one that ships with selfinstruct, and is not repeated here.\n" in text
    assert text.count("ships with selfinstruct under Apache-2.0</summary>") == 3


def test_a_card_is_written_where_it_is_asked_for(first: Said, selfinstruct: Say, here: Path) -> None:
    assert selfinstruct("card", "first", "--to", "data/README.md") == (0, "data/README.md\n", "")
    assert (here / "data/README.md").read_text(encoding="utf-8") == selfinstruct("card", "first").out
