"""`report`: a run, or two side by side, as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from selfinstruct.cli.options import examples, existing, run_argument


@click.command(epilog=examples("report first", "report first second --to compared.html"))
@run_argument
@click.argument("other", required=False)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write.  [default: report.html in the run's folder]",
)
def report(run: str, other: str | None, to: Path | None, output_dir: Path) -> int:
    """Write RUN as one HTML page: what is in it, how diverse it is, how it was filtered, what it cost, its samples.

    With OTHER, two runs side by side. The page asks for nothing: it opens offline, from a file, and can be sent on.
    """
    from selfinstruct.report.page import ROOM, page, tell
    from selfinstruct.store.ledger import Ledger
    from selfinstruct.writing import replacing

    folders = [existing(name, output_dir) for name in (run, other) if name is not None]
    told = []
    for folder in folders:
        with Ledger.open(folder) as ledger:
            told.append(tell(ledger, folder.resolve().name, room=ROOM // len(folders)))
    to = to or folders[0] / "report.html"
    with replacing(to) as [part]:
        part.write_text(page(told), encoding="utf-8")
    counts = " and ".join(f"{one.packed.shown:,} of {one.packed.of:,}" for one in told)
    print(f"{to}: {to.stat().st_size / 1e6:.1f} MB with {counts} drafts; open it in a browser")
    return 0
