"""This tool, in the environment that measures: a whole run of Self-Instruct, which asks about as many requests.

A request is more work here than for the others: it is rendered, parsed, filtered, compared with the whole pool, stored.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from peer import MODEL, Work, run

import selfinstruct.backends.openai
import selfinstruct.filters.rouge
import selfinstruct.recipes.self_instruct  # noqa: F401 - else they would be loaded, as is their way, amid the work
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

    def do() -> int:
        with redirect_stdout(StringIO()), suppress(SystemExit):
            cli(arguments)
        return _count(work.folder, "SELECT count(*) FROM drafts WHERE kept AND stage = 'instances'")

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
