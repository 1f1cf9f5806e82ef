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
import json
import logging
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, Unpack

from selfinstruct.backends import Notice, check_kind, open_backend
from selfinstruct.dataset.exports import open_export
from selfinstruct.dataset.files import Written
from selfinstruct.dataset.files import export as write
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import (
    BackendConfig,
    ExportConfig,
    RunConfig,
    Tree,
    accept,
    doors_of,
    dump,
    load,
    merge,
    written_out,
)
from selfinstruct.inputs.prices import known, prices_of
from selfinstruct.inputs.rows import OnBad
from selfinstruct.recipes.chain import Chain
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Sample
from selfinstruct.run import loop, wording
from selfinstruct.run.budget import exceeded, standings
from selfinstruct.run.driven import Driven, Followed, Going, Stopped
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

T = TypeVar("T")

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that requests to a server which is not ours, and may charge for them, are still given when a run ends."""

Started = Callable[[Engine, Ledger], object]
"""Is called once the run is about to ask."""


def log_line(line: str) -> None:
    """A `Notice` that goes to the log."""
    log.info("%s", line)


class Watching(NamedTuple):
    """Who is told what, while a run is driven (`Run.events`)."""

    notice: Notice = log_line
    opening: Callable[[], object] = lambda: None
    started: Started | None = None


Table = Mapping[str, Any]
"""A table of settings."""


class Settings(TypedDict, total=False):
    """What `Run.open` takes: the fields of the configuration (docs/config.md), as they are most easily written."""

    n: int | None
    seeds: str | Path | None
    prompts: str | Path | None
    seed: int
    ordered: bool
    window: int | None
    formats: Sequence[str]
    patience: int
    recipe: str | Table
    then: str | Table | Sequence[str | Table]
    backend: Table
    roles: Mapping[str, str | Table | Sequence[str | Table]]
    judge: str | Table
    sandbox: Table
    tools: Table
    filters: Mapping[str, Table]
    budget: Table
    export: Table


class Run:
    """A run in a folder. Make one with `Run.open`.

    Attributes:
        folder: where it lies: `config.toml`, `ledger.sqlite`, `export/`.
    """

    def __init__(self, folder: Path, tree: Tree, told: Told, *, skipped: Collection[str] = ()) -> None:
        self.folder = folder
        self.skipped = list(skipped)
        """Rows of the source that were passed over, with their places and why."""
        self._tree = tree
        self._told = told
        self._held = threading.Lock()
        self._going: Going | None = None

    @classmethod
    def open(cls, folder: str | Path, config: str | Path | None = None, **settings: Unpack[Settings]) -> Run:
        """A run that is to begin in a folder, or the one that is there. Asks nobody, and writes nothing.

            Run.open("outputs/first", seeds="my.jsonl", n=500, recipe="alpaca", backend={"model": "Qwen/Qwen3-8B"})

        Of a run that is there, nothing need be said again; what is said must not make it another run.

        Args:
            folder: of the run.
            config: a TOML file of settings.
            settings: fields of the configuration (docs/config.md) that win over the file: tables as dicts, `recipe`,
                `then` and the models of roles also by their names alone.

        Raises:
            ConfigError: settings that cannot be, or that make it another run than the one in the folder.
            SourceError: seeds that cannot be read.
            PromptError: a prompt that cannot be read.
            RunError: the place is a file, or its ledger cannot be read: damaged, or of another version.
        """
        return cls.of(Path(folder), merge(written_out(load(Path(config))) if config else {}, _tree(settings)))

    @classmethod
    def of(cls, folder: Path, tree: Tree) -> Run:
        """As `open`, from a tree of settings."""
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: is a file; name a folder for the run")
        if (folder / NAME).is_file():
            with Ledger.open(folder) as ledger:
                told = continued(ledger, tree)
            check(told)
            return cls(folder, tree, told)
        skipped: list[str] = []
        told = read(accept(RunConfig, tree, where="configuration"), on_bad=_noting(skipped))
        check(told)
        return cls(folder, tree, told, skipped=skipped)

    @property
    def config(self) -> RunConfig:
        """The configuration, with everything filled in; before the run has begun that may still change with the model
        that turns out to answer."""
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
        going = Going()
        with self._hold(going):
            driving = self._driving(going, Watching())
            yield from Driven(going, driving, name=f"run {self.folder}").events()

    def __aiter__(self) -> Followed:
        """The same in a coroutine; `aclose()` of the iterator stops the run, and waits for it."""
        return self.events()

    def finish(self) -> Ended:
        """Begin or continue the run until it ends, and write its exports.

        Raises:
            EndpointError: nobody answers; what was answered is stored, and the run can be continued.
            RunError: the run is going already, here or in another process, cannot go on, or its folder cannot be
                written.
        """
        return self._finished([event for event in self if isinstance(event, Ended)])

    async def finish_async(self) -> Ended:
        """As `finish`, in a coroutine."""
        async with aclosing(self.events()) as events:
            return self._finished([event async for event in events if isinstance(event, Ended)])

    def _finished(self, ended: list[Ended]) -> Ended:
        if self.exists:  # not where it was stopped before it had begun
            with Ledger.open(self.folder) as ledger:
                exported(ledger, self.folder / "export", notice=log_line)
        return ended[-1]

    def stop(self) -> None:
        """Start nothing more, from any thread; what is in flight is given its grace. A second call gives it none.

        The loop that drives the run goes on until `Ended`.

        Raises:
            RunError: the run is not going.
        """
        if (going := self._going) is None:
            raise RunError(f"{self.folder}: is not going; iterate over the run, or call finish(), to drive it")
        going.stop()

    def events(
        self,
        *,
        notice: Notice = log_line,
        opening: Callable[[], object] = lambda: None,
        started: Started | None = None,
        retry: bool = False,
    ) -> Followed:
        """Begin or continue the run, and yield what happens.

        Args:
            notice: is told what a person should know while backends start and are asked.
            opening: is called when backends are about to be opened: not where nothing is left to do.
            started: is called once the run is about to ask.
            retry: ask again for what failed, and for nothing else.

        Raises:
            EndpointError: nobody answers; what was answered is stored, and the run can be continued.
            RunError: the run is going already, here or in another process, cannot go on, or its folder cannot be
                written.
        """
        going = Going()
        return Followed(going, self._followed(going, Watching(notice, opening, started), retry=retry))

    async def _followed(self, going: Going, seen: Watching, *, retry: bool) -> AsyncGenerator[Event, None]:
        while (before := self._going) is not None and before.left:
            await before.over.wait()
        with self._hold(going):
            async with aclosing(self._driving(going, seen, retry=retry)) as events:
                async for event in events:
                    yield event

    @contextmanager
    def _hold(self, going: Going) -> Iterator[None]:
        """One going at a time."""
        if not self._held.acquire(blocking=False):
            raise RunError(f"{self.folder}: is going already; stop() it, or leave its loop first")
        self._going = going
        try:
            yield
        finally:
            self._going = None
            self._held.release()
            going.over.set()

    async def _driving(self, going: Going, seen: Watching, *, retry: bool = False) -> AsyncGenerator[Event, None]:
        going.enter()
        stopped: Ended | None = None
        try:
            opened = self._continued(going, seen, retry=retry) if self.exists else self._begun(going, seen)
            async with opened as engine, aclosing(self._run(engine)) as events:
                async for event in events:
                    self._log(event)
                    yield event
        except Stopped:
            stopped = Ended("interrupted", going.tasks)
        if stopped is not None:
            self._log(stopped)
            yield stopped

    @asynccontextmanager
    async def _begun(self, going: Going, seen: Watching) -> AsyncIterator[Engine]:
        """The folder holds a ledger only once those whom the run asks have answered."""
        told = self._told
        log.info(
            "%s: begins with %d seeds, recipe %s", self.folder, len(told.seeds), ", then ".join(told.config.recipes)
        )
        with new_folder(self.folder):
            async with AsyncExitStack() as stack:
                world = await self._world(stack, going, seen)
                writer = next(iter(world.models.values())).model
                asked = accept(RunConfig, self._tree, where="configuration")
                if writer != asked.backend.model and asked.backend.dialect is None:
                    # Only now is it known who answers, and so which prompts suit.
                    told = self._told = read(asked, writer)
                models = {door: backend.model for door, backend in world.models.items()}
                ledger = stack.enter_context(begin(self.folder, told, models))
                yield self._made(going, seen, RunState.load(ledger, told), ledger, world)

    @asynccontextmanager
    async def _continued(self, going: Going, seen: Watching, *, retry: bool) -> AsyncIterator[Engine | Ended]:
        """Its end, where nothing is left to do."""
        with locked(self.folder), Ledger.open(self.folder, write=True) as ledger:
            told = self._told = continued(ledger, self._tree)
            _refuse_filtered(ledger)
            check(told, ledger.models())
            ledger.reconfigure(json.dumps(dump(told.config)), told.config.n)
            write_config(self.folder, told.config)
            again = ledger.retry() if retry else None
            state = RunState.load(ledger, told)
            going.tasks = state.tasks
            log.info("%s: goes on from %s", self.folder, state.count)
            if (ended := _already(state, ledger, again)) is not None:
                yield ended
                return
            async with AsyncExitStack() as stack:
                world = await self._world(stack, going, seen)
                self._check_same(world, ledger)
                yield self._made(going, seen, state, ledger, world, again)

    async def _run(self, engine: Engine | Ended) -> AsyncGenerator[Event, None]:
        if isinstance(engine, Ended):
            yield engine
            return
        # A Ctrl-C of a moment ago cancels us where we next wait: here, before anything is asked.
        await asyncio.sleep(0)
        async with aclosing(engine.run()) as events:
            async for event in events:
                yield event

    async def _world(self, stack: AsyncExitStack, going: Going, seen: Watching) -> World:
        """All whom the run asks, opened; each has a place of its own for what it leaves there: a log, batches."""
        seen.opening()
        async with going.opening():
            models = {
                door: await stack.enter_async_context(open_backend(told, folder=place, notice=seen.notice))
                for door, told, place in self._places()
            }
            names = (f"{door}: {backend.model} ({type(backend).__name__})" for door, backend in models.items())
            log.info("%s: asks %s", self.folder, ", ".join(names))
            config, sandbox, toolbox = self.config, None, None
            if config.sandbox is not None:
                sandboxes = open_sandbox(config.sandbox, folder=self.folder, notice=seen.notice)
                sandbox = await stack.enter_async_context(sandboxes)
            if config.tools is not None:
                toolboxes = open_toolbox(config.tools, folder=self.folder, notice=seen.notice)
                toolbox = await stack.enter_async_context(toolboxes)
        return World(models, sandbox, toolbox, seen.notice)

    def _places(self) -> Iterator[tuple[str, BackendConfig, Path]]:
        """Each model by its name in the run, with its configuration and its folder."""
        for number, (door, told) in enumerate(doors_of(self.config).items()):
            yield door, told, self.folder / (door.replace(":", "-").replace("/", "-") if number else "")

    def _log(self, event: Event) -> None:
        if isinstance(event, Faulted):
            log.info("job %d, attempt %d: %s: %s", event.job.number, event.attempt, event.fault.kind, event.fault)
        elif isinstance(event, Ended):
            why = f": {event.message}" if event.message else ""
            log.info("%s: ended, %s, with %d tasks kept%s", self.folder, event.ending, event.tasks, why)

    def _made(
        self,
        going: Going,
        seen: Watching,
        state: RunState,
        ledger: Ledger,
        world: World,
        again: Collection[int] | None = None,
    ) -> Engine:
        # A batch is not waited for: whoever continues the run finds it where it was.
        waited = any(not told.batch and not _is_ours(told.kind, told.urls) for told in doors_of(self.config).values())
        going.engine = engine = Engine(state, ledger, world, grace=GRACE if waited else 0.0, again=again)
        if seen.started is not None:
            seen.started(engine, ledger)
        return engine

    def _check_same(self, world: World, ledger: Ledger) -> None:
        begun = ledger.models()
        for door, backend in world.models.items():
            if backend.model != begun.get(door, ""):
                served = f"{backend.model!r} is served; begin another run with --run"
                word = "model" if door == "writer" else door
                raise ConfigError(f"{self.folder}: begun with {word} {begun.get(door, '')!r}, but {served}")

    # -- looking ------------------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        """The tasks that were kept, as people have reviewed them, in order of settlement; also while the run is going.

        Raises:
            RunError: the run has not begun.
        """
        self._check_begun()
        return self._read(lambda ledger: ledger.samples(stage=stored(ledger).task_stage))

    def drops(self) -> Iterator[StoredDraft]:
        """The drafts that were dropped, each with the verdict that decided.

        Raises:
            RunError: the run has not begun.
        """
        self._check_begun()
        return self._read(lambda ledger: ledger.drafts(kept=False))

    def _read(self, rows: Callable[[Ledger], Iterator[T]]) -> Iterator[T]:
        with Ledger.open(self.folder) as ledger:
            yield from rows(ledger)

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
        self._check_begun()
        with Ledger.open(self.folder) as ledger:
            config, chain = stored(ledger)
            asked = accept(ExportConfig, merge(dump(config.export), options), where="export")
            folder = Path(to) if to else self.folder / "export"
            return write(
                ledger,
                chain.task_stage,
                formats or config.formats,
                folder,
                asked,
                replace=force or to is None,
                notice=log_line,
            )

    def to_dataset(self, format: str = "alpaca") -> Dataset:
        """The kept tasks as a `datasets.Dataset` with the columns of a format; a validation split is not parted off.

        Raises:
            ConfigError: an unknown format, or one whose rows have no columns.
            RunError: nothing is kept yet, or the format holds nothing of it.
        """
        import datasets
        from pyarrow import parquet

        if getattr(open_export(format), "JSON_ONLY", False):
            raise ConfigError(
                f"format {format}: its rows have no columns, as a dataset must; take another, or export()"
            )
        with tempfile.TemporaryDirectory() as scratch:
            whole: dict[str, Any] = {"file_type": "parquet", "validation": None, "shard_rows": None}
            [written] = self.export(format, to=scratch, **whole)
            if not written.rows:
                raise RunError(f"{self.folder}: nothing that is kept fits into {format}; take messages")
            return datasets.Dataset(parquet.read_table(written.path))

    def verify(self) -> Verified:
        """Derive every plan, draft, verdict and export again from the stored answers; nobody is asked.

        Raises:
            RunError: the run has not begun.
        """
        self._check_begun()
        return loop.anywhere(verify, self.folder)

    def _check_begun(self) -> None:
        if not self.exists:
            raise RunError(f"{self.folder}: the run has not begun; iterate over it, or call finish(), first")


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


def _tree(settings: Mapping[str, Any]) -> Tree:
    """Settings as a tree; recipes may be given by their names."""
    tree: Tree = {name: _plain(value) for name, value in settings.items()}
    if isinstance(tree.get("recipe"), str):
        tree["recipe"] = {"name": tree["recipe"]}
    if isinstance(then := tree.get("then"), Mapping) and "name" in then:
        tree["then"] = [then]
    if isinstance(backend := tree.get("backend"), Mapping):
        tree["backend"] = implied(backend)
    return written_out(tree)


def _plain(value: Any) -> Any:
    """A setting as TOML has it: paths as texts, at any depth."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


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
