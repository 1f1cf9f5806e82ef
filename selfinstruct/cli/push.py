"""`selfinstruct push`: the way of a dataset to the Hugging Face Hub."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from selfinstruct.cli.flags import command, existing, published, run_argument
from selfinstruct.cli.terminal import bars, say
from selfinstruct.dataset.card import MARK, Licence, begun
from selfinstruct.dataset.card import card as write
from selfinstruct.dataset.files import export
from selfinstruct.dataset.hub import CARD, Hub
from selfinstruct.recipes.configured import stored
from selfinstruct.store.ledger import Ledger

ROWS_PER_FILE = 100_000
"""Rows in one Parquet file: some tens of megabytes."""


@command("push first ada/tides --dry-run", "push first ada/tides --private --license cc-by-4.0")
@run_argument
@click.argument("repo", metavar="USER/NAME")
@published
@click.option("--private", is_flag=True, help="Make a new dataset that only you and your organisation see.")
@click.option("--message", metavar="TEXT", help="What the commit says.  [default: Push RUN]")
@click.option("--force", is_flag=True, help="Replace a dataset that was not pushed from this run.")
@click.option("--dry-run", is_flag=True, help="List the files and their sizes; ask nothing of the network.")
def push(
    run: str,
    repo: str,
    formats: tuple[str, ...],
    licence: str,
    licence_name: str,
    licence_link: str,
    private: bool,
    message: str | None,
    force: bool,
    dry_run: bool,
    output_dir: Path,
) -> int:
    """Publish the kept tasks of RUN as a dataset on the Hugging Face Hub, in one commit.

    USER/NAME is the dataset. The token is that of HF_TOKEN, or the one that `hf auth login` stored. Run it again to
    update the dataset, or to go on with what was interrupted: what has been uploaded is not sent again.
    """
    chosen = Licence.chosen(licence, licence_name, licence_link)
    folder = existing(run, output_dir)
    with Ledger.open(folder) as ledger, TemporaryDirectory(prefix="selfinstruct-") as scratch:
        if dry_run:
            return _list(_files(ledger, repo.rpartition("/")[2], formats, chosen, Path(scratch)))
        hub = Hub(repo, mark=MARK, bars=sys.stderr.isatty())
        found = hub.look()
        hub.permit(found, begun(ledger), private=private, force=force)
        files = _files(ledger, repo.rpartition("/")[2], formats, chosen, Path(scratch))
        hub.check(files[CARD].read_text(encoding="utf-8"))
        with bars():
            pushed = hub.push(found, files, private=private, message=message or f"Push {folder.resolve().name}")
    done = "created" if pushed.created else "updated" if pushed.changed else "is up to date"
    say(f"{repo} {done}")
    print(pushed.url)
    return 0


def _files(ledger: Ledger, title: str, formats: Sequence[str], licence: Licence, folder: Path) -> dict[str, Path]:
    """Every file of the dataset by its name on the Hub, written into a folder; all of one moment of the run.

    Raises:
        RunError: no task was kept yet.
    """
    with ledger.snapshot():
        files = _data(ledger, formats, folder)
        readme = folder / CARD
        readme.write_text(write(ledger, title=title, configs=_configs(files), licence=licence), encoding="utf-8")
    return {CARD: readme, **files}


def _data(ledger: Ledger, formats: Sequence[str], folder: Path) -> dict[str, Path]:
    """Each format by the names of its files on the Hub, exported as the run's table `[export]` says, as Parquet."""
    config, chain = stored(ledger)
    options = config.export.model_copy(update={"file_type": "parquet", "shard_rows": ROWS_PER_FILE})
    written = export(ledger, chain.task_stage, formats, folder / "data", options)
    shards = ((one, shard) for one in written for shard in sorted(one.path.iterdir()))
    return {f"{one.format}/{one.split}-{shard.name}": shard for one, shard in shards}


def _configs(files: Iterable[str]) -> dict[str, list[str]]:
    """The splits of each configuration, by the names of their files."""
    configs: dict[str, list[str]] = {}
    for config, split in dict.fromkeys((name.split("/")[0], name.split("/")[1].split("-")[0]) for name in files):
        configs.setdefault(config, []).append(split)
    return configs


def _list(files: Mapping[str, Path]) -> int:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    for name, size in (sizes | {"in all": sum(sizes.values())}).items():
        print(f"{size:>15,} bytes  {name}")
    return 0
