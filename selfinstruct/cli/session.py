"""A run in the terminal: driven, watched, exported."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path

from selfinstruct.cli.estimate import describe
from selfinstruct.cli.flags import Given, folder_of
from selfinstruct.cli.panel import Watcher, open_watcher
from selfinstruct.cli.terminal import say
from selfinstruct.inputs.config import RunConfig, Tree, accept
from selfinstruct.run import loop
from selfinstruct.run.engine import Engine
from selfinstruct.run.events import Ended, Ending
from selfinstruct.run.folder import exported
from selfinstruct.run.session import NOTHING_FAILED, Run, check
from selfinstruct.run.told import read
from selfinstruct.store.ledger import Ledger

log = logging.getLogger(__name__)

SKIPPED = 3
"""Rows of a source that could not be read which are named; more are counted."""
EXIT_CODES: dict[Ending, int] = {
    "complete": 0, "budget": 0, "interrupted": 130, "exhausted": 1, "barren": 1, "failing": 1,
}  # fmt: skip


def enter(tree: Tree, given: Given, name: str) -> int:
    """Begin the run, continue it, or only tell what it would do; the exit code.

    Args:
        name: of the run where none was given.
    """
    folder = folder_of(given.run_name or name, given.output_dir)
    if given.dry_run:
        return dry_run(tree)
    run = Run.of(folder, tree)
    _say_skipped(run.skipped)
    return Session(run, as_json=given.as_json, quiet=given.quiet).drive()


def dry_run(tree: Tree) -> int:
    """Print the first prompt and an estimate."""
    told = read(accept(RunConfig, tree, where="configuration"))
    check(told)
    print(describe(told))
    return 0


class Session:
    """One use of a run, in a terminal.

    Args:
        as_json: events as JSON lines on standard output, and nothing else there.
        quiet: nothing but the result.
    """

    def __init__(self, run: Run, *, as_json: bool = False, quiet: bool = False) -> None:
        self._run = run
        self._as_json = as_json
        self._quiet = quiet
        self._engine: Engine | None = None

    def drive(self, *, retry: bool = False) -> int:
        """Begin the run or continue it, then export; the exit code.

        Args:
            retry: ask again for what failed, and for nothing else.
        """
        ended = loop.run(self._drive, retry)
        if retry and ended.message == NOTHING_FAILED:
            say(f"{self._run.folder}: {ended.message}")
            return 0
        with Ledger.open(self._run.folder) as ledger:
            return self._finish(ended, ledger, retry_only=retry)

    async def _drive(self, retry: bool) -> Ended:
        ended: Ended | None = None
        with ExitStack() as stack:
            watcher = open_watcher(self._run.folder, self._run.config, as_json=self._as_json, quiet=self._quiet)

            def opening() -> None:
                stack.enter_context(watcher)

            def started(engine: Engine, ledger: Ledger) -> None:
                self._engine = engine
                stack.enter_context(seldom_collected())
                if retry:
                    _say_retry(self._run.folder, engine)
                watcher.start(engine, ledger)
                stack.enter_context(_signals(engine, watcher))

            going = self._run.events(notice=watcher.note, opening=opening, started=started, retry=retry)
            async with aclosing(going) as events:
                async for event in events:
                    if self._engine is not None or self._as_json:
                        watcher.see(event)
                    ended = event if isinstance(event, Ended) else ended
            watcher.stop()
        assert ended is not None
        return ended

    def _finish(self, ended: Ended, ledger: Ledger, *, retry_only: bool) -> int:
        """Say what is left to do, export, and name what was written."""
        folder = self._run.folder
        failed = ledger.count_jobs("failed")
        if self._engine is None and ended.ending == "complete":
            say(f"{folder} is complete: {ended.tasks} tasks kept; {self._more(ended)}.")
        if ended.message:
            say(f"{folder}: stopped: {ended.message}")
        if ended.ending == "interrupted":
            say(f"{folder}: interrupted with {_count(ended, ledger)}; the same command continues it")
        if ended.ending == "exhausted" and not retry_only:
            say(f"{folder}: nothing more can be planned; {_count(ended, ledger)}")
        if failed:
            jobs = "1 job" if failed == 1 else f"{failed} jobs"
            say(f"{folder}: {jobs} failed; `selfinstruct retry {folder}` asks again")
        self._export(ledger)
        code = 0 if ended.ending == "exhausted" and retry_only else EXIT_CODES[ended.ending]
        return code or (1 if failed else 0)

    def _more(self, ended: Ended) -> str:
        samples = self._run.chain.first.recipe.samples()
        return f"-n {2 * ended.tasks} would extend it" if samples else "nothing is left to do"

    def _export(self, ledger: Ledger) -> None:
        for written in exported(ledger, self._run.folder / "export", notice=say):
            log.info("%s: %d rows as %s", written.path, written.rows, written.format)
            if not self._as_json:
                print(f"{written.path}: {written.rows} rows")


def _count(ended: Ended, ledger: Ledger) -> str:
    target = ledger.target()
    return f"{ended.tasks} tasks kept" if target is None else f"{ended.tasks} of {target} tasks kept"


def _say_retry(folder: Path, engine: Engine) -> None:
    jobs = engine.again
    say(f"{folder}: asking again for {jobs} failed {'job' if jobs == 1 else 'jobs'}")


def _say_skipped(rows: list[str]) -> None:
    for row in rows[:SKIPPED]:
        say(f"skipped: {row}")
    if len(rows) > SKIPPED:
        say(f"skipped: {len(rows) - SKIPPED} more rows; `selfinstruct seeds check` lists them")


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While it lasts, garbage is looked for seldom, and not among what is there by now: a run leaves few cycles behind,
    and looking for them took a twelfth of its time. Of the whole process, so only a program of our own may do it."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _signals(engine: Engine, watcher: Watcher) -> Iterator[None]:
    """While it lasts, Ctrl-C, SIGTERM and the loss of the terminal stop the engine, which settles what was answered; a
    second one ends its patience."""

    def stop() -> None:
        engine.stop()
        watcher.note("stopping once in-flight answers are settled; press Ctrl-C again to stop now")

    def hang_up() -> None:
        # Nobody reads what is written from here on, and a terminal that is gone would refuse it.
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path
            for descriptor in terminals:
                os.dup2(nowhere.fileno(), descriptor)
        engine.stop()

    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        handlers[signal.SIGHUP] = hang_up
    running = asyncio.get_running_loop()
    for name, handler in handlers.items():
        running.add_signal_handler(name, handler)
    try:
        yield
    finally:
        for name in handlers:
            running.remove_signal_handler(name)
