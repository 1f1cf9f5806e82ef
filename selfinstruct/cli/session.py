"""A run in the terminal: opened, driven by the engine, watched, exported."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path

from selfinstruct.backends import Backend, check_kind, open_backend
from selfinstruct.cli.budgets import spent_up
from selfinstruct.cli.estimate import describe
from selfinstruct.cli.flags import Given, folder_of, is_run
from selfinstruct.cli.panel import JsonLines, Watcher, open_watcher
from selfinstruct.cli.terminal import say
from selfinstruct.dataset.exports import open_export
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import RunConfig, Tree, build, dump
from selfinstruct.inputs.prices import known
from selfinstruct.run import loop
from selfinstruct.run.engine import Engine
from selfinstruct.run.events import Ended, Ending, Faulted
from selfinstruct.run.folder import begin, continued, exported, write_config
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read
from selfinstruct.store.ledger import FILTERED_FROM, Ledger
from selfinstruct.store.lock import locked

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that requests to a server which is not ours, and may charge for them, are still given when a run ends."""

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
    session = Session(folder, as_json=given.as_json, quiet=given.quiet)
    if given.dry_run:
        return session.dry_run(tree)
    return session.resume(tree) if is_run(folder) else session.begin(tree)


class Session:
    """One use of one run's folder.

    Args:
        folder: of the run; made when it begins.
        as_json: events as JSON lines on standard output, and nothing else there.
        quiet: nothing but the result.
    """

    def __init__(self, folder: Path, *, as_json: bool = False, quiet: bool = False) -> None:
        self.folder = folder
        self._as_json = as_json
        self._quiet = quiet

    # -- ways to enter ------------------------------------------------------------------------------------------------

    def dry_run(self, tree: Tree) -> int:
        """Print the first prompt and an estimate."""
        told = read(build(RunConfig, tree, where="configuration"))
        _check_names(told.config)
        _check_price(told.config, told.config.backend.model, None)
        print(describe(told))
        return 0

    def begin(self, tree: Tree) -> int:
        """Begin a run; its folder holds a ledger only once the backend has answered."""
        config = build(RunConfig, tree, where="configuration")
        skipped: list[str] = []
        told = read(config, on_bad=lambda place, problem: skipped.append(f"{place}: {problem}"))
        self._say_skipped(skipped)
        _check_names(told.config)
        _check_price(told.config, told.config.backend.model, None)
        log.info("%s: begins with %d seeds, recipe %s", self.folder, len(told.seeds), told.config.recipe.name)
        with self._new_folder():
            return loop.run(self._begin, config, told)

    def resume(self, tree: Tree) -> int:
        """Continue a run, or say that it is complete."""
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            config = continued(ledger, tree)
            _check_names(config)
            self._refuse_filtered(ledger)
            self._reconfigure(ledger, config)
            state = RunState.load(ledger, config)
            log.info("%s: goes on from %s", self.folder, state.count)
            if state.complete or (state.spent and not ledger.count("jobs", "state = 'planned'")):
                return self._already(state, ledger)
            if (over := spent_up(ledger, config)) is not None:
                return self._stopped(over, state, ledger)
            return loop.run(self._continue, state, ledger)

    def retry(self, tree: Tree) -> int:
        """Ask again for every job that failed."""
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            config = continued(ledger, tree)
            self._refuse_filtered(ledger)
            self._reconfigure(ledger, config)
            if not (again := ledger.retry()):
                say(f"{self.folder}: no job has failed")
                return 0
            say(f"{self.folder}: asking again for {len(again)} failed {'job' if len(again) == 1 else 'jobs'}")
            return loop.run(self._continue, RunState.load(ledger, config), ledger, again)

    def _reconfigure(self, ledger: Ledger, config: RunConfig) -> None:
        """Continue with these settings from now on."""
        _check_price(config, ledger.fact("model") or "", ledger.fact("judge"))
        ledger.reconfigure(json.dumps(dump(config)), config.n)
        write_config(self.folder, config)

    def _already(self, state: RunState, ledger: Ledger) -> int:
        """Say that nothing is left to do, and export again."""
        more = f"-n {2 * state.tasks} would extend it" if state.extent is None else "nothing is left to evolve"
        ending: Ending = "complete" if state.complete or state.target is None else "exhausted"
        if ending == "complete":
            say(f"{self.folder} is complete: {state.tasks} tasks kept; {more}.")
        if self._as_json:
            JsonLines().see(Ended(ending, state.tasks))
        return self._finish(ending, state, ledger)

    def _stopped(self, message: str, state: RunState, ledger: Ledger) -> int:
        """Say that all of a budget is spent; no backend is started for that."""
        ended = Ended("budget", state.tasks, message)
        ledger.end(ended.ending, message)
        if self._as_json:
            JsonLines().see(ended)
        say(f"{self.folder}: stopped: {message}")
        return self._finish(ended.ending, state, ledger)

    # -- driving ------------------------------------------------------------------------------------------------------

    async def _begin(self, config: RunConfig, told: Told) -> int:
        with self._watch(told.config) as watcher:
            async with self._backends(told.config, watcher) as (backend, judge):
                if backend.model != told.config.backend.model and config.backend.dialect is None:
                    # Only now is it known who answers, and so which prompts suit.
                    told = read(config, backend.model)
                with begin(self.folder, told, backend.model, judge.model if judge else "") as ledger:
                    state = RunState.load(ledger, told.config)
                    engine = self._engine(state, ledger, backend, judge)
                    return await self._drive(engine, ledger, watcher)

    async def _continue(self, state: RunState, ledger: Ledger, again: Collection[int] | None = None) -> int:
        with self._watch(state.config) as watcher:
            async with self._backends(state.config, watcher) as (backend, judge):
                self._check_same("model", backend, ledger)
                if judge is not None:
                    self._check_same("judge", judge, ledger)
                engine = self._engine(state, ledger, backend, judge, again)
                return await self._drive(engine, ledger, watcher)

    @asynccontextmanager
    async def _backends(self, config: RunConfig, watcher: Watcher) -> AsyncIterator[tuple[Backend, Backend | None]]:
        """Who writes, and who judges where that is somebody else."""
        async with AsyncExitStack() as stack:
            # Each has a place of its own for what it leaves there: a log, batches.
            places = ((config.backend, self.folder), (config.judge, self.folder / "judge"))
            opened = [
                await stack.enter_async_context(open_backend(one, folder=folder, notice=watcher.note))
                for one, folder in places
                if one is not None
            ]
            log.info(
                "%s: asks %s",
                self.folder,
                ", ".join(f"{backend.model} ({type(backend).__name__})" for backend in opened),
            )
            yield opened[0], opened[1] if len(opened) > 1 else None

    def _check_same(self, role: str, backend: Backend, ledger: Ledger) -> None:
        model = ledger.fact(role) or ""
        if backend.model != model:
            served = f"{backend.model!r} is served; begin another run with --run"
            raise ConfigError(f"{self.folder}: begun with {role} {model!r}, but {served}")

    def _engine(
        self,
        state: RunState,
        ledger: Ledger,
        backend: Backend,
        judge: Backend | None,
        again: Collection[int] | None = None,
    ) -> Engine:
        config = state.config.backend
        ours = config.kind in ("llamacpp", "scripted") or (config.kind == "vllm" and not config.base_url)
        # A batch is not waited for: whoever continues the run finds it where it was.
        grace = 0.0 if ours or config.batch else GRACE
        return Engine(state, ledger, backend, model=backend.model, judge=judge, grace=grace, again=again)

    async def _drive(self, engine: Engine, ledger: Ledger, watcher: Watcher) -> int:
        ended: Ended | None = None
        watcher.start(engine, ledger)
        with _signals(engine, watcher), seldom_collected():
            # A Ctrl-C of a moment ago cancels us where we next wait: here, before anything is asked.
            await asyncio.sleep(0)
            async with aclosing(engine.run()) as events:
                async for event in events:
                    watcher.see(event)
                    if isinstance(event, Faulted):
                        log.info(
                            "job %d, attempt %d: %s: %s", event.job.number, event.attempt, event.fault.kind, event.fault
                        )
                    ended = event if isinstance(event, Ended) else ended
        assert ended is not None
        watcher.stop()
        log.info("%s: ended as %s with %s", self.folder, ended.ending, engine.state.count)
        if ended.message:
            say(f"{self.folder}: stopped: {ended.message}")
        return self._finish(ended.ending, engine.state, ledger, retry_only=engine.retry_only)

    def _finish(self, ending: Ending, state: RunState, ledger: Ledger, *, retry_only: bool = False) -> int:
        """Say what is left to do, export, and name what was written."""
        failed = ledger.count("jobs", "state = 'failed'")
        if ending == "interrupted":
            say(f"{self.folder}: interrupted with {state.count}; the same command continues it")
        if ending == "exhausted" and not retry_only:
            say(f"{self.folder}: nothing more can be planned; {state.count}")
        if failed:
            jobs = "1 job" if failed == 1 else f"{failed} jobs"
            say(f"{self.folder}: {jobs} failed; `selfinstruct retry {self.folder}` asks again")
        self._export(state, ledger)
        code = 0 if ending == "exhausted" and retry_only else EXIT_CODES[ending]
        return code or (1 if failed else 0)

    def _export(self, state: RunState, ledger: Ledger) -> None:
        for written in exported(ledger, state.config, self.folder / "export", notice=say):
            log.info("%s: %d rows as %s", written.path, written.rows, written.format)
            if not self._as_json:
                print(f"{written.path}: {written.rows} rows")

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _say_skipped(self, rows: list[str]) -> None:
        for row in rows[:SKIPPED]:
            say(f"skipped: {row}")
        if len(rows) > SKIPPED:
            say(f"skipped: {len(rows) - SKIPPED} more rows; `selfinstruct seeds check` lists them")

    def _watch(self, config: RunConfig) -> Watcher:
        return open_watcher(self.folder, config, as_json=self._as_json, quiet=self._quiet)

    def _refuse_filtered(self, ledger: Ledger) -> None:
        if source := ledger.fact(FILTERED_FROM):
            raise RunError(f"{self.folder}: judged again from {source}; continue that run, then filter it anew")

    @contextmanager
    def _new_folder(self) -> Iterator[None]:
        """The run's folder, made and held, and taken away again if the run never began."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: cannot be made: {error.strerror}; choose another place with --output-dir"
            ) from None
        with locked(self.folder):
            try:
                yield
            finally:
                # Only whoever holds the run may take its folder away.
                if [path.name for path in self.folder.iterdir()] == ["lock"]:
                    (self.folder / "lock").unlink()
                    self.folder.rmdir()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While it lasts, garbage is looked for seldom, and not among what is there by now: a run leaves few cycles behind,
    and looking for them took a twelfth of its time."""
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


def _check_names(config: RunConfig) -> None:
    """Raise ConfigError for a format or a backend that there is not, before anything is begun."""
    for name in config.formats:
        open_export(name)
    for backend in (config.backend, config.judge):
        if backend is not None:
            check_kind(backend)


def _check_price(config: RunConfig, model: str, judge: str | None) -> None:
    """Raise ConfigError for a budget of cost where a price is not known, before anything is begun."""
    if config.budget.cost is not None:
        known(config, model, judge)
