"""What the commands share to speak to a person, and the one door to the terminal: whatever is shown goes through it.

with door():                  # everything that is printed in here, by whom ever, is seen and not obeyed
    print(model)
    draw(table)               # colours and cursor are ours alone
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO, cast

from selfinstruct.text.display import one_line, visible
from selfinstruct.text.secrets import scrubbed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WHOLE = 100_000
"""Columns of what is drawn for no terminal: nothing is cut or folded."""


class Door:
    """A stream through which control characters come as pictures, and keys not at all; in all else it is the stream.

    Args:
        stream: what it leads to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write what may be shown of the text."""
        self.stream.write(harmless(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def harmless(text: str) -> str:
    """What of a text may reach a terminal."""
    return visible(scrubbed(text), indent="")


@contextmanager
def door() -> Iterator[None]:
    """While it lasts, standard output and standard error are `Door`s: for warnings, logs and tracebacks too, whoever
    prints them."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, TextIOWrapper):
            # A terminal that knows only some characters is shown the others by their numbers.
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast("TextIO", Door(out)), cast("TextIO", Door(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


@contextmanager
def bars() -> Iterator[None]:
    """While it lasts, standard error is what it was, for the progress bars of a library."""
    err = sys.stderr
    sys.stderr = err.stream if isinstance(err, Door) else err
    try:
        yield
    finally:
        sys.stderr = err


def screen(*, stderr: bool = False) -> Console:
    """Where we draw ourselves, with colours and a cursor: text in it is shown as it is, not as markup."""
    from selfinstruct.cli.screen import Screen

    stream = sys.stderr if stderr else sys.stdout
    return Screen(stream.stream if isinstance(stream, Door) else stream)


def say(line: str) -> None:
    """One line on standard error."""
    print(one_line(line), file=sys.stderr, flush=True)


def draw(drawing: RenderableType) -> None:
    """Draw on standard output: for a terminal within its width, for a pipe or a file plainly and whole."""
    console = screen()
    if not console.is_terminal:
        console.width = WHOLE
    with console.capture() as drawn:
        console.print(drawing)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()), file=console.file)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; the function handed out takes how much is done, and of how much."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = screen(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
