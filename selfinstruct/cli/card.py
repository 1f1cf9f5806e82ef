"""`selfinstruct card`: what a dataset is, read from the ledger of its run."""

from __future__ import annotations

from pathlib import Path

import click

from selfinstruct.cli.flags import command, existing, published, run_argument
from selfinstruct.dataset.card import Licence
from selfinstruct.dataset.card import card as write
from selfinstruct.dataset.exports import open_export
from selfinstruct.dataset.files import SPLITS
from selfinstruct.dataset.writing import write_text
from selfinstruct.recipes.configured import stored
from selfinstruct.store.ledger import Ledger


@command("card first", "card first --license cc-by-4.0 --to README.md")
@run_argument
@published
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there instead.")
def card(
    run: str,
    formats: tuple[str, ...],
    licence: str,
    licence_name: str,
    licence_link: str,
    to: Path | None,
    output_dir: Path,
) -> int:
    """Print the dataset card that `push` would publish, made from the ledger of RUN."""
    chosen = Licence.chosen(licence, licence_name, licence_link)
    for name in formats:
        open_export(name)
    folder = existing(run, output_dir)
    with Ledger.open(folder) as ledger:
        splits = SPLITS if stored(ledger).config.export.validation is not None else SPLITS[:1]
        text = write(ledger, title=folder.resolve().name, configs=dict.fromkeys(formats, splits), licence=chosen)
    if to is None:
        print(text, end="")
        return 0
    write_text(to, text)
    print(to)
    return 0
