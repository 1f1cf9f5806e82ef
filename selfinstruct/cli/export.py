"""`selfinstruct export`: the kept tasks as files that trainers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from selfinstruct.cli.flags import command, existing, run_argument
from selfinstruct.cli.terminal import say
from selfinstruct.dataset.files import export as write
from selfinstruct.inputs.config import ExportConfig, accept, dump, merge
from selfinstruct.recipes.configured import stored
from selfinstruct.store.ledger import Ledger


def _share(context: click.Context, option: click.Parameter, text: str | None) -> float | int | None:
    """A share such as 0.1, or a count such as 500."""
    try:
        return None if text is None else int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a share such as 0.1 nor a count such as 500") from None


def _facets(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, list[str]] | None:
    """The values of each facet that are named; None where none is."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{pair!r} names no value; write it as NAME=VALUE, such as topic=tides")
        found.setdefault(name, []).append(value)
    return found or None


@command(
    "export first --format messages --format alpaca --to data/",
    "export first --format sharegpt --validation 0.05 --file-type parquet",
    "export my-evolution --format evol --facet round=3 --facet round=4 --parents --provenance",
)
@run_argument
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="NAME",
    help="alpaca, dolly, evol, jsonl, messages, prompt-completion, self-instruct, sharegpt, text; may be repeated."
    "  [default: the run's]",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to write.  [default: the run's export folder]",
)
@click.option("--force", is_flag=True, help="Replace what an earlier export left in DIR.")
@click.option(
    "--file-type",
    type=click.Choice(["jsonl", "json", "parquet"]),
    help="Kind of file.  [default: jsonl; alpaca also json]",
)
@click.option(
    "--validation",
    callback=_share,
    metavar="SHARE|ROWS",
    help="Set rows aside: a share such as 0.1, or a count; the rows of a task, or a family, stay together.",
)
@click.option("--split-seed", type=int, metavar="N", help="Number that the choice derives from.  [default: 42]")
@click.option("--shard-rows", type=click.IntRange(1), metavar="N", help="Rows to a file.  [default: one file]")
@click.option("--system-prompt", metavar="TEXT", help="What every conversation or prompt begins with.")
@click.option(
    "--provenance", is_flag=True, default=None, help="Add columns: id, family, parent, facets, recipe, model."
)
@click.option(
    "--facet",
    "facets",
    multiple=True,
    callback=_facets,
    metavar="NAME=VALUE",
    help="Only rows with this value, such as topic=tides; may be repeated.  [default: all]",
)
@click.option("--parents", is_flag=True, default=None, help="Add what those rows were made from.")
@click.option("--sources", is_flag=True, default=None, help="Add all rows that the run started from.")
def export(
    run: str,
    formats: tuple[str, ...],
    to: Path | None,
    force: bool,
    output_dir: Path,
    **flags: Any,
) -> int:
    """Write the kept tasks of RUN as files that trainers read.

    The entries of LLaMA-Factory and Axolotl for them are written too. All files appear at once, or none does. In the
    run's own export folder an earlier export of the same formats makes way; in another folder only with --force.
    The options are also settings of the run, in its table [export].
    """
    folder = existing(run, output_dir)
    given = {name: value for name, value in flags.items() if value is not None}
    with Ledger.open(folder) as ledger:
        config, chain = stored(ledger)
        options = accept(ExportConfig, merge(dump(config.export), given), where="export")
        last, target = chain.task_stage, to or folder / "export"
        for written in write(
            ledger, last, formats or config.formats, target, options, replace=force or to is None, notice=say
        ):
            print(f"{written.path}: {written.rows} rows")
    return 0
