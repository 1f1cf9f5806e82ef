"""One run, as a program uses it: opened, driven, looked at, exported. The command line is built on it.

    run = Run.open("outputs/first", seeds="my.jsonl", n=500, backend={"base_url": "http://localhost:8000/v1"})
    for event in run:                  # begins the run, or continues it; leaving the loop is a clean stop
        ...
    run.export("messages", to="data/")

In a coroutine: `async for event in run`, or `await run.finish_async()`. The plain loop works there too, and in a
notebook, since it drives the run in a thread of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from selfinstruct.backends import Backend, Notice, check_kind, open_backend
from selfinstruct.dataset.exports import open_export
from selfinstruct.dataset.exports.base import ExportContext
from selfinstruct.dataset.files import Written
from selfinstruct.dataset.files import export as write
from selfinstruct.dataset.selection import Selection
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import ExportConfig, RunConfig, Tree, build, doors_of, dump, load, merge
from selfinstruct.inputs.prices import known, prices_of
from selfinstruct.inputs.rows import OnBad
from selfinstruct.recipes.chain import Chain
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Sample
from selfinstruct.run import loop, wording
from selfinstruct.run.budget import exceeded, standings
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.events import Ended, Ending, Event, Faulted
from selfinstruct.run.folder import begin, continued, exported, write_config
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read
from selfinstruct.run.verify import Verified, verify
from selfinstruct.store.ledger import FILTERED_FROM, NAME, Ledger, StoredDraft
from selfinstruct.store.lock import locked
from selfinstruct.tools import open_sandbox, open_toolbox

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that requests to a server which is not ours, and may charge for them, are still given when a run ends."""

Started = Callable[[Engine, Ledger], object]
"""Is called once the run is about to ask."""


class Watching(NamedTuple):
    """Who is told what, while a run is driven (`Run.events`)."""

    notice: Notice
    opening: Callable[[], object]
    started: Started | None


def log_line(line: str) -> None:
    """A `Notice` that goes to the log."""
    log.info("%s", line)


class Run:
    """A run in a folder. Make one with `Run.open`.

    Attributes:
        folder: where it lies: `config.toml`, `ledger.sqlite`, `export/`.
        config: its configuration; resolved once the run has begun.
    """

    def __init__(self, folder: Path, tree: Tree, told: Told, *, skipped: Collection[str] = ()) -> None:
        self.folder = folder
        self.skipped = list(skipped)
        """Rows of the source that were passed over, with their places and why."""
        self._tree = tree
        self._told = told
        self._engine: Engine | None = None
        self._going = False

    @classmethod
    def open(cls, folder: str | Path, config: str | Path | None = None, **settings: Any) -> Run:
        """A run that is to begin in a folder, or the one that is there. Asks nobody, and writes nothing.

            Run.open("outputs/first", seeds="my.jsonl", n=500, recipe="alpaca", backend={"model": "Qwen/Qwen3-8B"})

        Args:
            folder: of the run.
            config: a TOML file of settings.
            settings: fields of the configuration (docs/config.md) that win over the file: tables as dicts, `recipe`
                and `then` also by their names alone.

        Raises:
            ConfigError: settings that cannot be, or that make it another run than the one in the folder.
            SourceError: seeds that cannot be read.
            PromptError: a prompt that cannot be read.
            RunError: the folder's ledger cannot be read, or was judged again and cannot go on.
        """
        return cls.of(Path(folder), merge(load(Path(config)) if config else {}, _tree(settings)))

    @classmethod
    def of(cls, folder: Path, tree: Tree) -> Run:
        """As `open`, from a tree of settings."""
        if (folder / NAME).is_file():
            with Ledger.open(folder) as ledger:
                told = continued(ledger, tree)
            check(told)
            return cls(folder, tree, told)
        skipped: list[str] = []
        told = read(build(RunConfig, tree, where="configuration"), on_bad=_noting(skipped))
        check(told)
        return cls(folder, tree, told, skipped=skipped)

    @property
    def config(self) -> RunConfig:
        """The configuration; resolved once the run has begun."""
        return self._told.config

    @property
    def chain(self) -> Chain:
        """Its recipes, in order."""
        return self._told.chain

    @property
    def exists(self) -> bool:
        """Whether the run has begun: its folder has a ledger."""
        return (self.folder / NAME).is_file()

    # -- driving ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Event]:
        """Begin or continue the run: everything that happens, as it happens, the last being `Ended`."""
        return Driven(self).events()

    def __aiter__(self) -> AsyncIterator[Event]:
        """The same in a coroutine."""
        return self.events()

    def finish(self) -> Ended:
        """Begin or continue the run until it ends, and write its exports.

        Raises:
            EndpointError: nobody answers; what was answered is stored, and the run can be continued.
            RunError: another process holds the run, or its folder cannot be written.
        """
        return self._finished([event for event in self if isinstance(event, Ended)])

    async def finish_async(self) -> Ended:
        """As `finish`, in a coroutine."""
        async with aclosing(self.events()) as events:
            return self._finished([event async for event in events if isinstance(event, Ended)])

    def _finished(self, ended: list[Ended]) -> Ended:
        with Ledger.open(self.folder) as ledger:
            exported(ledger, self.folder / "export", notice=log_line)
        return ended[-1]

    def stop(self) -> None:
        """Start nothing more; what is in flight is given its grace. A second call gives it none.

        Raises:
            RunError: the run is not going.
        """
        if self._engine is None:
            raise RunError(f"{self.folder}: is not going; iterate over the run, or call finish(), to drive it")
        self._engine.stop()

    async def events(
        self,
        *,
        notice: Notice = log_line,
        opening: Callable[[], object] = lambda: None,
        started: Started | None = None,
        retry: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """Begin or continue the run, and yield what happens.

        Args:
            notice: is told what a person should know while backends start and are asked.
            opening: is called when backends are about to be opened: not where nothing is left to do.
            started: is called once the run is about to ask.
            retry: ask again for what failed, and for nothing else.

        Raises:
            EndpointError: nobody answers; what was answered is stored, and the run can be continued.
            RunError: the run is going already, here or in another process, or its folder cannot be written.
        """
        if self._going:
            raise RunError(f"{self.folder}: is going already; stop() it, or leave its loop first")
        self._going = True
        try:
            seen = Watching(notice, opening, started)
            going = self._continued(seen, retry=retry) if self.exists else self._begun(seen)
            async with aclosing(going) as events:
                async for event in events:
                    if isinstance(event, Faulted):
                        _log_fault(event)
                    yield event
        finally:
            self._going, self._engine = False, None

    async def _begun(self, seen: Watching) -> AsyncGenerator[Event, None]:
        """The folder holds a ledger only once those whom the run asks have answered."""
        told = self._told
        log.info("%s: begins with %d seeds, recipe %s", self.folder, len(told.seeds), told.config.recipe.name)
        with new_folder(self.folder):
            async with AsyncExitStack() as stack:
                world = await self._world(stack, seen)
                writer = next(iter(world.models.values())).model
                asked = build(RunConfig, self._tree, where="configuration")
                if writer != asked.backend.model and asked.backend.dialect is None:
                    # Only now is it known who answers, and so which prompts suit.
                    told = self._told = read(asked, writer)
                models = {door: backend.model for door, backend in world.models.items()}
                ledger = stack.enter_context(begin(self.folder, told, models))
                engine = self._made(RunState.load(ledger, told), ledger, world)
                async for event in self._driven(engine, ledger, seen):
                    yield event

    async def _continued(self, seen: Watching, *, retry: bool) -> AsyncGenerator[Event, None]:
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            told = self._told = continued(ledger, self._tree)
            _refuse_filtered(ledger)
            check(told, ledger.models())
            ledger.reconfigure(json.dumps(dump(told.config)), told.config.n)
            write_config(self.folder, told.config)
            again = ledger.retry() if retry else None
            state = RunState.load(ledger, told)
            log.info("%s: goes on from %s", self.folder, state.count)
            if (ended := _already(state, ledger, again)) is not None:
                yield ended
                return
            async with AsyncExitStack() as stack:
                world = await self._world(stack, seen)
                self._check_same(world, ledger)
                async for event in self._driven(self._made(state, ledger, world, again), ledger, seen):
                    yield event

    async def _driven(self, engine: Engine, ledger: Ledger, seen: Watching) -> AsyncGenerator[Event, None]:
        self._engine = engine
        with seldom_collected():
            if seen.started is not None:
                seen.started(engine, ledger)
            # A Ctrl-C of a moment ago cancels us where we next wait: here, before anything is asked.
            await asyncio.sleep(0)
            async with aclosing(engine.run()) as events:
                async for event in events:
                    yield event
        log.info("%s: left with %s", self.folder, engine.state.count)

    async def _world(self, stack: AsyncExitStack, seen: Watching) -> World:
        """All whom the run asks, opened; each has a place of its own for what it leaves there: a log, batches."""
        seen.opening()
        models: dict[str, Backend] = {}
        for door, told in doors_of(self.config).items():
            place = self.folder if not models else self.folder / door.replace(":", "-").replace("/", "-")
            models[door] = await stack.enter_async_context(open_backend(told, folder=place, notice=seen.notice))
        names = (f"{door}: {backend.model} ({type(backend).__name__})" for door, backend in models.items())
        log.info("%s: asks %s", self.folder, ", ".join(names))
        config, sandbox, toolbox = self.config, None, None
        if config.sandbox is not None:
            opening = open_sandbox(config.sandbox, folder=self.folder, notice=seen.notice)
            sandbox = await stack.enter_async_context(opening)
        if config.tools is not None:
            toolbox = await stack.enter_async_context(
                open_toolbox(config.tools, folder=self.folder, notice=seen.notice)
            )
        return World(models, sandbox, toolbox)

    def _made(self, state: RunState, ledger: Ledger, world: World, again: Collection[int] | None = None) -> Engine:
        # A batch is not waited for: whoever continues the run finds it where it was.
        waited = any(not told.batch and not _is_ours(told.kind, told.urls) for told in doors_of(self.config).values())
        return Engine(state, ledger, world, grace=GRACE if waited else 0.0, again=again)

    def _check_same(self, world: World, ledger: Ledger) -> None:
        begun = ledger.models()
        for door, backend in world.models.items():
            if backend.model != begun.get(door, ""):
                served = f"{backend.model!r} is served; begin another run with --run"
                word = "model" if door == "writer" else door
                raise ConfigError(f"{self.folder}: begun with {word} {begun.get(door, '')!r}, but {served}")

    # -- looking ------------------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        """The tasks that were kept, as people have reviewed them, in order of settlement.

        Raises:
            RunError: the run has not begun.
        """
        with self._ledger() as ledger:
            yield from ledger.samples(stage=stored(ledger).task_stage)

    def drops(self) -> Iterator[StoredDraft]:
        """The drafts that were dropped, each with the verdict that decided.

        Raises:
            RunError: the run has not begun.
        """
        with self._ledger() as ledger:
            yield from ledger.drafts(kept=False)

    def export(self, *formats: str, to: str | Path | None = None, force: bool = False, **options: Any) -> list[Written]:
        """Write the kept tasks as files that trainers read; all appear at once, or none does.

        Args:
            formats: none for those of the run's configuration.
            to: a folder; None for the run's own `export/`, where an earlier export makes way.
            force: replace what an earlier export left in a folder of yours.
            options: fields of the table `[export]` that win over the run's.

        Raises:
            ConfigError: an unknown format or option.
            RunError: nothing is kept yet, or the folder cannot be written.
        """
        with self._ledger() as ledger:
            config, chain = stored(ledger)
            asked = build(ExportConfig, merge(dump(config.export), options), where="export")
            folder = Path(to) if to else self.folder / "export"
            return write(
                ledger, chain.task_stage, formats or config.formats, folder, asked, replace=force or to is None
            )

    def to_dataset(self, format: str = "alpaca") -> Dataset:
        """The kept tasks as a `datasets.Dataset` with the columns of a format.

        Raises:
            ConfigError: an unknown format.
            RunError: nothing is kept yet.
        """
        import datasets

        export = open_export(format)
        with self._ledger() as ledger:
            config, chain = stored(ledger)
            context = ExportContext(ledger, config.export.system_prompt, config.export.split_seed)
            selection = Selection(ledger, chain.task_stage, config.export)
            return datasets.Dataset.from_list([row for sample in selection for row in export.rows(sample, context)])

    def verify(self) -> Verified:
        """Derive every plan, draft, verdict and export again from the stored answers; nobody is asked.

        Raises:
            RunError: the run has not begun.
        """
        self._ledger().close()
        return loop.anywhere(verify, self.folder)

    def _ledger(self) -> Ledger:
        if not self.exists:
            raise RunError(f"{self.folder}: the run has not begun; iterate over it, or call finish(), first")
        return Ledger.open(self.folder)


class Driven:
    """A run driven in a thread of its own, so that a plain loop can follow it, also where an event loop is running."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._queue: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._drive, name=f"run {run.folder}", daemon=True)

    def events(self) -> Iterator[Event]:
        """Everything that happens; whoever leaves off stops the run."""
        self._thread.start()
        try:
            while (event := self._queue.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._stop()

    def _drive(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
            self._queue.put(error)
        self._queue.put(None)

    async def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with aclosing(self._run.events()) as events:
            async for event in events:
                self._queue.put(event)

    def _stop(self) -> None:
        """Stop the run if it is going, and wait for it; a Ctrl-C meanwhile ends the waiting for what is in flight."""
        while self._thread.is_alive():
            if self._loop is not None and self._run._engine is not None:
                self._loop.call_soon_threadsafe(_stopped, self._run)
            try:
                self._thread.join()
            except KeyboardInterrupt:
                continue


def _stopped(run: Run) -> None:
    if run._engine is not None:
        run.stop()


def check(told: Told, models: Mapping[str, str] | None = None) -> None:
    """Refuse formats and backends that there are not, and a budget of cost where a price is not known.

    Args:
        models: by their names in the run, as their backends called them, where that is known.

    Raises:
        ConfigError: names what is wrong.
    """
    config = told.config
    for name in config.formats:
        open_export(name)
    for backend in doors_of(config).values():
        check_kind(backend)
    if config.budget.cost is not None:
        known(config, models or {})


def spent_up(ledger: Ledger, config: RunConfig) -> str | None:
    """That all of a budget is spent, for a person; what was in flight when a process died is not counted."""
    meters = ledger.meter()
    spent = {door: meter.usage for door, meter in meters.items()}
    prices = prices_of(config, ledger.models()) if config.budget.cost else {}
    end = exceeded(standings(config.budget, spent, prices, sum(meter.seconds for meter in meters.values())))
    return None if end is None else wording.reached(end)


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


def _tree(settings: Mapping[str, Any]) -> Tree:
    """Settings as a tree; recipes may be given by their names."""
    tree = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    if isinstance(tree.get("recipe"), str):
        tree["recipe"] = {"name": tree["recipe"]}
    if isinstance(tree.get("then"), str | Mapping):
        tree["then"] = [tree["then"]]
    if isinstance(backend := tree.get("backend"), Mapping):
        tree["backend"] = implied(backend)
    return tree


def implied(backend: Mapping[str, Any]) -> Tree:
    """A table of a backend with the kind that an address or a script means."""
    for key, kind in (("base_url", "openai"), ("script", "scripted")):
        if backend.get(key):
            return {"kind": kind, **backend}
    return dict(backend)


def _noting(lines: list[str]) -> OnBad:
    return lambda place, problem: lines.append(f"{place}: {problem}")


def _is_ours(kind: str, urls: Collection[str]) -> bool:
    """Whether a model runs here and costs nothing, so that nobody need wait for what it still says."""
    return kind in ("llamacpp", "scripted") or (kind == "vllm" and not urls)


def _already(state: RunState, ledger: Ledger, again: Collection[int] | None) -> Ended | None:
    """How a run ends of which nothing is left to do, or whose budget is spent; no backend is started for that."""
    if again is not None:
        return None if again else Ended("complete", state.tasks, NOTHING_FAILED)
    if state.complete or (state.spent and not ledger.count_jobs("planned")):
        ending: Ending = "complete" if state.complete or state.target is None else "exhausted"
        return Ended(ending, state.tasks)
    if (over := spent_up(ledger, state.config)) is not None:
        ledger.end("budget", over)
        return Ended("budget", state.tasks, over)
    return None


NOTHING_FAILED = "no job has failed"
"""The message of a run that ends at once, since nothing is to be asked again."""


def _refuse_filtered(ledger: Ledger) -> None:
    if source := ledger.fact(FILTERED_FROM):
        raise RunError(f"{ledger.path.parent}: judged again from {source}; continue that run, then filter it anew")


def _log_fault(event: Faulted) -> None:
    log.info("job %d, attempt %d: %s: %s", event.job.number, event.attempt, event.fault.kind, event.fault)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """The run's folder, made and held, and taken away again if the run never began."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {error.strerror}; choose another place with --output-dir") from None
    with locked(folder):
        try:
            yield
        finally:
            # Only whoever holds the run may take its folder away.
            if [path.name for path in folder.iterdir()] == ["lock"]:
                (folder / "lock").unlink()
                folder.rmdir()
