"""`selfinstruct filter`: the stored drafts judged again under other settings, into a copy; no model is asked."""

from __future__ import annotations

from pathlib import Path

import click

from selfinstruct.cli.flags import command, existing, folder_of, run_argument
from selfinstruct.cli.terminal import say
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import Tree, assignment, merge
from selfinstruct.run.rejudge import Rejudged, rejudge


@command("filter first --threshold 0.6", "filter first --set filters.validity.min_words=6 --into first-longer")
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
    """Judge the stored drafts of RUN again under other settings, into a copy.

    No model is asked, and the run itself stays as it is. A draft whose parent is dropped now is dropped with it; one
    that is kept now and was dropped before stays without what would have followed from it.
    """
    filters = _filters(threshold, assignments)
    folder = existing(run, output_dir)
    copy = (
        folder_of(into, output_dir)
        if into
        else (folder if folder.name else folder.resolve()).with_name(f"{folder.name}-filtered")
    )
    done = rejudge(folder, copy, filters)
    for line in _changes(done):
        say(line)
    for one in done.written:
        print(f"{one.path}: {one.rows} rows")
    return 0


def _filters(threshold: float | None, assignments: tuple[str, ...]) -> Tree:
    """The settings of filters that were given."""
    tree: Tree = {} if threshold is None else {"filters": {"rouge": {"threshold": threshold}}}
    for text in assignments:
        tree = merge(tree, assignment(text))
    if others := ", ".join(sorted(set(tree) - {"filters"})):
        raise ConfigError(f"filter changes settings of filters only, not {others}; write filters.NAME.KEY=VALUE")
    filters: Tree = tree.get("filters", {})
    return filters


def _changes(done: Rejudged) -> list[str]:
    """What became of the drafts of each stage, before and now; what is kept comes first."""
    keys = sorted({*done.before, *done.after}, key=lambda key: (key[0], key[1] != "kept", key[1]))
    return [f"{key[0]}: {key[1]} {done.before.get(key, 0)} -> {done.after.get(key, 0)}" for key in keys]
