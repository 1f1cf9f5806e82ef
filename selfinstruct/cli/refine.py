"""`filter`, `retry`, `verify`: judge again without a model, ask again for what failed, derive everything again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from selfinstruct.cli.options import examples, existing, folder_of, run_argument
from selfinstruct.cli.settings import BUDGET, setting_flags, tree_of_flags


@click.command(
    epilog=examples(
        "filter first --threshold 0.6", "filter first --set filters.validity.min_words=6 --into first-longer"
    )
)
@run_argument
@click.option("--threshold", type=float, help="ROUGE-L above which an instruction is a near-duplicate.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A filter's setting, such as filters.validity.max_words=60.",
)
@click.option("--into", metavar="NAME", help="Name or path of the copy.  [default: RUN-filtered]")
def filter(run: str, threshold: float | None, assignments: tuple[str, ...], into: str | None, output_dir: Path) -> int:
    """Judge the stored drafts of RUN again under other settings, into a copy; no model is asked.

    The run itself stays as it is. A draft whose parent is dropped now is dropped with it; one that is kept now and
    was dropped before stays without what would have followed from it.
    """
    from selfinstruct.cli.rejudging import rejudge
    from selfinstruct.errors import ConfigError
    from selfinstruct.inputs.config import assignment, merge

    tree = {} if threshold is None else {"filters": {"rouge": {"threshold": threshold}}}
    for text in assignments:
        tree = merge(tree, assignment(text))
    if set(tree) - {"filters"}:
        others = ", ".join(sorted(set(tree) - {"filters"}))
        raise ConfigError(f"filter changes settings of filters only, not {others}; write filters.NAME.KEY=VALUE")
    folder = existing(run, output_dir)
    copy = folder_of(into, output_dir) if into else folder.with_name(f"{folder.name}-filtered")
    return rejudge(folder, copy, tree.get("filters", {}))


@click.command(epilog=examples("retry first", "retry first --max-cost 8"))
@run_argument
@setting_flags(BUDGET)
def retry(run: str, output_dir: Path, **given: Any) -> int:
    """Ask again for every job of RUN that failed; the run's budget holds."""
    from selfinstruct.cli.session import Session

    return Session(existing(run, output_dir)).retry(tree_of_flags(BUDGET, given))


@click.command(epilog=examples("verify first"))
@run_argument
def verify(run: str, output_dir: Path) -> int:
    """Derive every plan, draft, verdict and export of RUN again from its answers, and compare byte for byte."""
    from selfinstruct.cli.rejudging import verified

    return verified(existing(run, output_dir))
