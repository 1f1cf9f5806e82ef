"""`report`, `review`: a run as a page to look at, or to decide on."""

from __future__ import annotations

import sys
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
    from selfinstruct.dataset.report.page import ROOM, page, tell
    from selfinstruct.dataset.writing import replacing
    from selfinstruct.store.ledger import Ledger

    folders = [existing(name, output_dir) for name in (run, other) if name is not None]
    told = []
    for folder, name in zip(folders, _names(folders), strict=True):
        with Ledger.open(folder) as ledger:
            told.append(tell(ledger, name, room=ROOM // len(folders)))
    to = to or folders[0] / "report.html"
    with replacing(to) as [part]:
        part.write_text(page(told), encoding="utf-8")
    counts = " and ".join(f"{one.packed.shown:,} of {one.packed.of:,}" for one in told)
    print(f"{to}: {to.stat().st_size / 1e6:.1f} MB with {counts} drafts; open it in a browser")
    return 0


def _names(folders: list[Path]) -> list[str]:
    """What a page calls runs: their folders' names, with those of the folders around them where they are the same."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [f"{path.parent.name}/{path.name}" for path in paths]


@click.command(epilog=examples("review first", "review first --port 8765 --no-browser"))
@run_argument
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine.  [default: any free one]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def review(run: str, port: int, no_browser: bool, output_dir: Path) -> int:
    """Keep, drop and edit the tasks of RUN by hand, in a browser, with the keyboard; Ctrl-C ends it.

    Decisions are in the ledger at once, as the filter `human`, and exports honour them; nothing else of the run
    changes, and it may go on meanwhile. The page is served on this machine alone, at an address with a random token.
    """
    import webbrowser
    from contextlib import suppress

    from selfinstruct.dataset.report.page import page, tell
    from selfinstruct.dataset.review import Reviewing
    from selfinstruct.store.ledger import Ledger

    folder = existing(run, output_dir)
    with Ledger.open(folder, write=True) as ledger:
        told = tell(ledger, folder.resolve().name, room=None)
    html, stage = page([told], review=True), told.figures["stage"]
    with Reviewing(html, lambda: Ledger.open(folder, write=True), stage, port=port) as reviewing:
        print(reviewing.address, flush=True)
        if not no_browser:
            webbrowser.open(reviewing.address)
        with suppress(KeyboardInterrupt):
            reviewing.serve_forever()
    written = f"; `selfinstruct export {folder}` writes the dataset by them" if reviewing.decisions else ""
    print(f"{reviewing.decisions or 'no'} decision{'s'[: reviewing.decisions != 1]}{written}", file=sys.stderr)
    return 0
