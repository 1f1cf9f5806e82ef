"""`selfinstruct review`: a run as a page on which a person decides."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path

import click

from selfinstruct.cli.flags import command, existing, run_argument
from selfinstruct.cli.terminal import say
from selfinstruct.dataset.report.page import page, tell
from selfinstruct.dataset.review import Reviewing
from selfinstruct.store.ledger import Ledger


@command("review first", "review first --port 8765 --no-browser")
@run_argument
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine.  [default: any free one]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def review(run: str, port: int, no_browser: bool, output_dir: Path) -> int:
    """Keep, drop and edit the tasks of RUN by hand, in a browser, with the keyboard.

    Ctrl-C ends it. Decisions are in the ledger at once, as the filter `human`, and exports honour them; nothing else of
    the run changes, and it may go on meanwhile. The page is served on this machine alone, at an address with a random
    token.
    """
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
    say(f"{reviewing.decisions or 'no'} decision{'s'[: reviewing.decisions != 1]}{written}")
    return 0
