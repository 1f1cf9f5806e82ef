"""A run in the terminal: opened, driven by the engine, watched, exported. The one entry into the event loop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from selfinstruct.backends import Backend, open_backend
from selfinstruct.cli.view import Watcher, open_watcher
from selfinstruct.config import RunConfig, Tree, build
from selfinstruct.engine import Ended, Ending, Engine
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.exports import open_export
from selfinstruct.exports.files import export
from selfinstruct.replay import FILTERED_FROM
from selfinstruct.runs import RunState, Told, begin, continued, read, write_config
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lock import locked

GRACE = 10.0
"""Seconds that requests to a server which is not ours, and may charge for them, are still given when a run ends."""

EXIT_CODES: dict[Ending, int] = {"complete": 0, "interrupted": 130, "exhausted": 1, "barren": 1, "failing": 1}


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

    # -- ways to enter
    # -----------------------------------------------------------------------------------------------------

    def dry_run(self, tree: Tree) -> int:
        """Print the first prompt and an estimate."""
        from selfinstruct.cli.estimate import describe

        told = read(build(RunConfig, tree, where="configuration"))
        print(describe(told))
        return 0

    def begin(self, tree: Tree) -> int:
        """Begin a run; its folder holds a ledger only once the backend has answered."""
        config = build(RunConfig, tree, where="configuration")
        told = read(config)
        _check_formats(told.config)
        with self._folder(), locked(self.folder):
            return asyncio.run(self._begin(config, told))

    def resume(self, tree: Tree) -> int:
        """Continue a run, or say that it is complete."""
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            config = continued(ledger, tree)
            _check_formats(config)
            if source := ledger.fact(FILTERED_FROM):
                raise RunError(f"{self.folder}: judged again from {source}; continue that run, then filter it anew")
            if config.n != ledger.target():
                ledger.aim(config.n)
            write_config(self.folder, config)
            state = RunState.load(ledger, config)
            if state.complete:
                self._say(f"{self.folder} is complete: {state.tasks} tasks kept. -n {2 * state.tasks} would extend it.")
                return self._finish("complete", state, ledger)
            return asyncio.run(self._continue(state, ledger))

    def retry(self) -> int:
        """Ask again for every job that failed."""
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            if not (count := ledger.retry()):
                self._say(f"{self.folder}: no job has failed")
                return 0
            self._say(f"{self.folder}: asking again for {count} failed {'job' if count == 1 else 'jobs'}")
            return asyncio.run(self._continue(RunState.load(ledger, continued(ledger, {})), ledger, retry_only=True))

    # -- driving
    # -----------------------------------------------------------------------------------------------------------

    async def _begin(self, config: RunConfig, told: Told) -> int:
        with self._watch(told.config) as watcher:
            async with open_backend(told.config.backend, folder=self.folder, notice=watcher.note) as backend:
                if backend.model != told.config.backend.model and config.backend.dialect is None:
                    # Only now is it known who answers, and so which prompts suit.
                    told = read(config, backend.model)
                with begin(self.folder, told, backend.model) as ledger:
                    state = RunState.load(ledger, told.config)
                    engine = self._engine(state, ledger, backend, backend.model)
                    return await self._drive(engine, ledger, watcher)

    async def _continue(self, state: RunState, ledger: Ledger, *, retry_only: bool = False) -> int:
        with self._watch(state.config) as watcher:
            async with open_backend(state.config.backend, folder=self.folder, notice=watcher.note) as backend:
                model = ledger.fact("model") or ""
                if backend.model != model:
                    served = f"{backend.model!r} is served; begin another run with --run"
                    raise ConfigError(f"{self.folder}: begun with model {model!r}, but {served}")
                engine = self._engine(state, ledger, backend, model, retry_only=retry_only)
                return await self._drive(engine, ledger, watcher)

    def _engine(
        self, state: RunState, ledger: Ledger, backend: Backend, model: str, *, retry_only: bool = False
    ) -> Engine:
        config = state.config.backend
        ours = config.kind in ("llamacpp", "scripted") or (config.kind == "vllm" and not config.base_url)
        return Engine(state, ledger, backend, model=model, grace=0.0 if ours else GRACE, retry_only=retry_only)

    async def _drive(self, engine: Engine, ledger: Ledger, watcher: Watcher) -> int:
        ended: Ended | None = None
        watcher.start(engine, ledger)
        with _signals(engine, watcher):
            async with aclosing(engine.run()) as events:
                async for event in events:
                    watcher.see(event)
                    ended = event if isinstance(event, Ended) else ended
        assert ended is not None
        watcher.stop()
        if ended.message:
            self._say(f"{self.folder}: stopped: {ended.message}")
        return self._finish(ended.ending, engine.state, ledger, retry_only=engine.retry_only)

    def _finish(self, ending: Ending, state: RunState, ledger: Ledger, *, retry_only: bool = False) -> int:
        """Export, name what was written, and say what is left to do."""
        written = export(ledger, state.recipe.stages[-1], state.config.formats, self.folder / "export")
        failed = ledger.count("jobs", "state = 'failed'")
        if ending == "interrupted":
            self._say(
                f"{self.folder}: interrupted with {state.tasks} of {state.target} kept; the same command continues it"
            )
        if ending == "exhausted" and not retry_only:
            self._say(f"{self.folder}: nothing more can be planned; {state.tasks} of {state.target} kept")
        if failed:
            jobs = "1 job" if failed == 1 else f"{failed} jobs"
            self._say(f"{self.folder}: {jobs} failed; `selfinstruct retry {self.folder}` asks again")
        if not self._as_json:
            for path, rows in written:
                print(f"{path}: {rows} rows")
        code = 0 if ending == "exhausted" and retry_only else EXIT_CODES[ending]
        return code or (1 if failed else 0)

    # -- helpers
    # -----------------------------------------------------------------------------------------------------------

    def _watch(self, config: RunConfig) -> Watcher:
        return open_watcher(self.folder, config, as_json=self._as_json, quiet=self._quiet)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr)

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """The run's folder, made, and taken away again if the run never began."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: cannot be made: {error.strerror}; choose another place with --output-dir"
            ) from None
        try:
            yield
        finally:
            if [path.name for path in self.folder.iterdir()] == ["lock"]:
                (self.folder / "lock").unlink()
                self.folder.rmdir()


@contextmanager
def _signals(engine: Engine, watcher: Watcher) -> Iterator[None]:
    """While it lasts, Ctrl-C and SIGTERM stop the engine, which settles what was answered; a second one ends its
    patience."""

    def stop() -> None:
        watcher.note("stopping: settling what has been answered (again: at once)")
        engine.stop()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop)
    try:
        yield
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)


def _check_formats(config: RunConfig) -> None:
    for name in config.formats:
        open_export(name)
