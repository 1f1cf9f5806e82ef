"""`selfinstruct report`: a run, or two beside each other, as a page to look at."""

from __future__ import annotations

from pathlib import Path

import click

from selfinstruct.cli.flags import command, existing, run_argument
from selfinstruct.dataset.report.page import ROOM, page, tell
from selfinstruct.dataset.writing import write_text
from selfinstruct.store.ledger import Ledger


@command("report first", "report first second --to compared.html")
@run_argument
@click.argument("other", required=False)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: report.html in the run's folder]",
)
def report(run: str, other: str | None, to: Path | None, output_dir: Path) -> int:
    """Write RUN as one HTML page: what is in it, how it was filtered, what it cost.

    It shows how diverse the tasks are, too, and samples of them. With OTHER, two runs side by side. The page asks for
    nothing: it opens offline, from a file, and can be sent on.
    """
    folders = [existing(name, output_dir) for name in (run, other) if name is not None]
    told = []
    for folder, name in zip(folders, _names(folders), strict=True):
        with Ledger.open(folder) as ledger:
            told.append(tell(ledger, name, room=ROOM // len(folders)))
    to = to or folders[0] / "report.html"
    write_text(to, page(told))
    counts = " and ".join(f"{one.packed.shown:,} of {one.packed.of:,}" for one in told)
    print(f"{to}: {to.stat().st_size / 1e6:.1f} MB with {counts} drafts; open it in a browser")
    return 0


def _names(folders: list[Path]) -> list[str]:
    """What a page calls runs: their folders' names, with those of the folders around them where they are the same."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [f"{path.parent.name}/{path.name}" for path in paths]
