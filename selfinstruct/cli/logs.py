"""`-v` and `--debug`: the log of the library, `selfinstruct.*`, which is silent until it is asked for.

Imported for `--help`, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogLines(logging.Handler):
    """The log on standard error, above a panel where one stands; control characters in it are shown, not obeyed."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class Logging(click.Option):
    """A flag that shows the log from a level on, as soon as it is read; of two levels the more talkative one holds."""

    def __init__(self, *names: str, level: int, help: str, hidden: bool = False) -> None:
        super().__init__(names, is_flag=True, is_eager=True, expose_value=False, help=help, hidden=hidden)
        self.level = level
        self.callback = self._show

    def _show(self, context: click.Context, option: click.Parameter, given: bool) -> None:
        log = logging.getLogger("selfinstruct")
        if given and not log.isEnabledFor(self.level):
            lines = LogLines()
            lines.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
            log.handlers = [lines]
            log.setLevel(self.level)


def log_options(*, hidden: bool = False) -> list[click.Parameter]:
    """`-v` and `--debug`."""
    return [
        Logging("-v", "--verbose", level=logging.INFO, help="Log what is done, on stderr.", hidden=hidden),
        Logging("--debug", level=logging.DEBUG, help="Log in detail, with tracebacks of errors.", hidden=hidden),
    ]


class Command(click.Command):
    """A command that takes `-v` and `--debug` as the group does: `generate -v` is `-v generate`."""

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **how: Any) -> None:
        super().__init__(name, params=[*(params or []), *log_options(hidden=True)], **how)
