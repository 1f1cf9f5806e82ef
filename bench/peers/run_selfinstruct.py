"""This tool, in the environment that measures: a whole run of Self-Instruct, which asks about as many requests.

A request is more work here than for the others: it is rendered, parsed, filtered, compared with the whole pool, stored.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import httpcore2  # noqa: F401 - else it would be loaded, as is its client's way, amid the work
from peer import MODEL, Work, run

from selfinstruct.cli.main import cli
from selfinstruct.store.ledger import Ledger

TASKS = 0.45
"""Kept for each request, about."""


def work_of(work: Work) -> Callable[[], int]:
    arguments = [
        *("generate", "-n", str(round(TASKS * len(work.prompts)))),
        *("--backend", "openai", "--base-url", work.url, "--model", MODEL, "--dialect", "completion"),
        *("--concurrency", str(work.in_flight), "--output-dir", str(work.folder), "--run", "run"),
    ]

    def say(*more: str) -> None:
        with redirect_stdout(StringIO()), suppress(SystemExit):
            cli([*arguments, *more])

    def do() -> int:
        say()
        return _count(work.folder, "SELECT count(*) FROM drafts WHERE kept AND stage = 'instances'")

    say("--dry-run")  # loads what a command loads when it is needed; the others' imports are not counted either
    return do


def answers(folder: Path) -> int:
    """Requests that were answered, in all sessions."""
    return _count(folder, "SELECT count(*) FROM answers")


def _count(folder: Path, query: str) -> int:
    with Ledger.open(folder / "run") as ledger:
        [(count,)] = ledger.query(query)
    return int(count)


if __name__ == "__main__":
    run("selfinstruct", work_of, answers)
