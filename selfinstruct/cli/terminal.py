"""What the commands share to speak to a person: a line, a drawing, a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from selfinstruct.text.display import one_line

WHOLE = 100_000
"""Columns of what is drawn for no terminal: nothing is cut or folded."""


def say(line: str) -> None:
    """One line on standard error."""
    print(one_line(line), file=sys.stderr, flush=True)


def draw(drawing: RenderableType) -> None:
    """Draw on standard output: for a terminal within its width, for a pipe or a file plainly and whole."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WHOLE
    with console.capture() as drawn:
        console.print(drawing)
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()))


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; the function handed out takes how much is done, and of how much."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
