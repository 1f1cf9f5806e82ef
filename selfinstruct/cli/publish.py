"""`export`: the kept tasks as files that trainers read."""

from __future__ import annotations

from pathlib import Path

import click

from selfinstruct.cli.options import examples, existing, run_argument


@click.command(
    epilog=examples("export first --format alpaca", "export first --format alpaca --format jsonl --to data/")
)
@run_argument
@click.option(
    "--format", "formats", multiple=True, metavar="NAME", help="alpaca, jsonl; may be repeated.  [default: the run's]"
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to write.  [default: the run's export folder]",
)
def export(run: str, formats: tuple[str, ...], to: Path | None, output_dir: Path) -> int:
    """Write the kept tasks of RUN as files; each is written beside its place and renamed."""
    from selfinstruct.exports.files import export as write
    from selfinstruct.recipes import task_stage
    from selfinstruct.runs import stored_config
    from selfinstruct.store.ledger import Ledger

    folder = existing(run, output_dir)
    with Ledger.open(folder) as ledger:
        config = stored_config(ledger)
        last = task_stage(config.recipe.name)
        for path, rows in write(ledger, last, formats or config.formats, to or folder / "export"):
            print(f"{path}: {rows} rows")
    return 0
