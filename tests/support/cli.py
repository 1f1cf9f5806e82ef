"""The command line as people use it: real commands, a scripted model, whole outputs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selfinstruct.cli import main

INSTRUCTIONS = [
    "Explain why the tide rises twice a day.",
    "Suggest a name for a bakery that opens only at night.",
    "Turn a recipe for four people into one for ten.",
    "Compare travelling by train with travelling by bus.",
    "Decide whether the remark is praise or blame.",
    "Translate the proverb into French and explain it.",
]
SEEDS = [
    {"id": f"s{i}", "instruction": text, "instances": [{"input": "", "output": f"answer {i}"}]}
    for i, text in enumerate(
        [
            "Name three rivers of Europe.", "Spell the word backwards, letter by letter.",
            "Plan a dinner without rice.", "What does a lighthouse keeper do all night?",
            "Count the vowels in this line.", "Rank the colours by warmth.", "Who invented the zip, and when?",
            "Correct the grammar of a short letter.",
        ]
    )
]  # fmt: skip
INSTANCE = "Example 1\nInput: the sea\nOutput: It is wide."


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
"""What a process of its own needs so that its `selfinstruct` is this one."""


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def write(folder: Path, name: str, rows: list[Any]) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def seeds(folder: Path) -> str:
    """A file of eight seeds."""
    return write(folder, "seeds.jsonl", SEEDS)


def answers(folder: Path, *lists: str, instance: str = INSTANCE) -> str:
    """A script: these answers to the list prompt in order, No to every classification, one case for each task."""
    rows: list[Any] = [
        {"when": "Is it classification", "text": "No"},
        {"when": "Give worked examples", "text": instance},
        *(lists or (" " + "\n10. ".join(INSTRUCTIONS),)),
    ]
    return write(folder, "answers.jsonl", rows)


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """Run the console script in this process."""
    capsys.readouterr()
    log = logging.getLogger("selfinstruct")
    handlers, level = log.handlers, log.level
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["selfinstruct", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
    log.handlers = handlers
    log.setLevel(level)
    out, err = capsys.readouterr()
    return Said(int(ended.value.code or 0), out, err)


def shell(command: str, folder: Path, **environment: str) -> Said:
    """Run a line of shell, in which `selfinstruct` is this package."""
    executable = f'selfinstruct() {{ "{sys.executable}" -m selfinstruct "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", executable], cwd=folder, capture_output=True, text=True, env={
        **ENVIRONMENT, "HOME": str(folder), "COLUMNS": "100", **environment}, check=False)  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)
