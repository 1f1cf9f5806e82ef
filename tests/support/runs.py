"""Runs for tests: begun in a folder, driven by the real engine, cut short where a test likes, looked at afterwards.

The model answers with a function of the request, so that whatever differs between two runs comes from their timing.
How long an answer takes is counted in turns of the event loop: the order of arrival is as wild as the `timing` seed
makes it, and the same again with the same seed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Self

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.dataset.files import export
from selfinstruct.inputs.config import RunConfig, Tree, build, dump, merge
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Completion, Request
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.events import Ended, Event
from selfinstruct.run.folder import begin
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read
from selfinstruct.run.verify import Verifier
from selfinstruct.store.keys import canonical
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.schema import TALLIES
from selfinstruct.tools.base import Sandbox, Toolbox
from tests.support.sql import count

WORDS = [
    "river", "stone", "cloud", "apple", "train", "piano", "garden", "winter", "coffee", "letter", "bridge", "doctor",
    "market", "forest", "engine", "mirror", "candle", "pocket", "shadow", "island", "hammer", "silver", "pepper",
]  # fmt: skip

Answer = Callable[[Request], str | Exception]


def says(prompt: str, max_tokens: int, keeps: float = 0.6, *, listed: int = 5) -> str:
    """What the model says: known by the length asked for, it is a list, a yes or no, or instances.

    Args:
        keeps: share of tasks with a usable instance.
        listed: new instructions in a list.
    """
    rng = Random(f"{max_tokens} {prompt}")
    if max_tokens in (3, 16):
        return rng.choice([" Yes", " No"])
    if max_tokens in (300, 350):
        if rng.random() >= keeps:
            return rng.choice(["", "Output:\n", "neither this nor that"])
        word, other = rng.sample(WORDS, 2)
        return f"Class label: {word}\nText: {other}" if max_tokens == 300 else f"Input: {word}\nOutput: {other}"
    return "\n9. ".join(f" Describe the {' '.join(rng.sample(WORDS, 6))} now." for _ in range(listed))


def answering(keeps: float = 0.6, *, listed: int = 5) -> Answer:
    """`says` as a function of a request."""
    return lambda request: says(prompt_of(request), request.sampling.max_tokens or 0, keeps, listed=listed)


def evolves(prompt: str, keeps: float = 0.8) -> str:
    """What a model says that evolves, judges and answers, in the completion dialect.

    Args:
        keeps: share of evolved tasks, of judgements and of answers that nothing is wrong with.
    """
    rng, task = Random(prompt), prompt.rpartition("\nTask: ")[2].rpartition("\n")[0].partition("\nData given as")[0]
    fine = rng.random() < keeps
    if prompt.endswith("Verdict:"):
        return " Not equal" if fine else rng.choice([" Equal", " Hm."])
    if prompt.endswith("Answer:"):
        return f" The {rng.choice(WORDS)}." if fine else rng.choice([" Sorry.", " ...", ""])
    more = " ".join(rng.sample(WORDS, 12))
    if not fine:
        return rng.choice(["", task, f"{task} Rewritten prompt: {more}", f"{task} {' '.join(WORDS * 4)}", "Task:"])
    return f" Describe the {more} now." if prompt.endswith("Sister task:") else f" {task} Speak of {more}."


def evolving(keeps: float = 0.8) -> Answer:
    """`evolves` as a function of a request."""
    return lambda request: evolves(prompt_of(request), keeps)


class Model:
    """A backend that answers with a function of the request, after some turns of the event loop."""

    def __init__(self, answer: Answer | None = None, *, timing: int = 0, slowest: int = 12, model: str = "m") -> None:
        self.model = model
        self._answer = answer or answering()
        self._rng = Random(timing)
        self._slowest = slowest
        self.asked: list[str] = []
        """Every request, in canonical text."""
        self.in_flight = 0
        self.most_in_flight = 0

    async def complete(self, request: Request) -> Completion:
        self.asked.append(canonical(request.model_dump(mode="json", exclude_defaults=True)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(self._rng.randrange(self._slowest)):
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        reply = self._answer(request)
        if isinstance(reply, Exception):
            raise reply
        return Completion(text=reply, model=self.model, completion_tokens=len(reply.split()))

    async def aclose(self) -> None:
        pass


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Mortal(Ledger):
    """A ledger whose process dies as soon as it has committed `life` times more."""

    life: int | None = None
    dies: Callable[[], object]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self.life == 0:
            raise Killed
        with super()._transaction():
            yield
        if self.life is not None:
            self.life -= 1
            if self.life == 0:
                self.dies()
                raise Killed


class Run:
    """A run in a folder.

        run = Run(tmp_path, n=10, ordered=True).drive(Model())
        assert run.exports == …

    Args:
        settings: of the configuration; those of the backend by `concurrency` and `attempts`. With `judge`, the run
            has a judge of its own, which goes by `j`.
    """

    def __init__(self, folder: Path, *, concurrency: int = 4, attempts: int = 2, **settings: Any) -> None:
        self.folder = folder / "run"
        self.folder.mkdir(parents=True)
        backend = {"kind": "scripted", "script": "unused", "concurrency": concurrency, "attempts": attempts}
        tree = merge({"n": 6, "seeds": str(written_seeds(folder)), "backend": backend}, settings)
        models = {"writer": "m"} | ({"judge": "j"} if "judge" in settings else {})
        begin(self.folder, read(build(RunConfig, tree, where="test")), models).close()

    def drive(
        self,
        model: Model | None = None,
        *,
        judge: Model | None = None,
        sandbox: Sandbox | None = None,
        toolbox: Toolbox | None = None,
        cut_after: int | None = None,
        stop_after: int | None = None,
        killed_after: int | None = None,
        grace: float = 60.0,
        again: bool = False,
        seen: Callable[[Event], object] = lambda event: None,
        **changes: Any,
    ) -> Self:
        """Run the engine until it ends, as one process would.

        Args:
            judge: the backend of a judge of its own.
            sandbox, toolbox: who answers programs and calls.
            cut_after: leave its event loop after so many events.
            stop_after: tell it to stop then.
            killed_after: die after so many commits to the ledger.
            again: only what has failed (`retry`).
            seen: is told every event, as it happens.
            changes: of the configuration, such as a larger `n`.
        """
        self.events: list[Event] = []
        with Mortal.open(self.folder, write=True) as ledger:
            told = Told.stored(ledger)
            config = build(RunConfig, merge(dump(told.config), changes), where="test")
            ledger.reconfigure(json.dumps(dump(config)), config.n)
            jobs = ledger.retry() if again else None
            ledger.life = killed_after
            self.state = RunState.load(ledger, told._replace(config=config))
            models = {"writer": model or Model()} | ({"judge": judge} if judge else {})
            world = World(models, sandbox, toolbox)
            engine = Engine(self.state, ledger, world, grace=grace, again=jobs)
            try:
                asyncio.run(self._drive(engine, ledger, seen, cut_after, stop_after))
            except (Killed, asyncio.CancelledError):
                assert killed_after is not None
        return self

    async def _drive(
        self,
        engine: Engine,
        ledger: Mortal,
        seen: Callable[[Event], object],
        cut_after: int | None,
        stop_after: int | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        ledger.dies = task.cancel
        async with aclosing(engine.run()) as events:
            async for event in events:
                self.events.append(event)
                seen(event)
                if len(self.events) == stop_after:
                    engine.stop()
                if len(self.events) == cut_after:
                    return

    @property
    def complete(self) -> bool:
        """Whether the target is reached, by the state of the engine."""
        return self.state.complete

    @property
    def ending(self) -> str | None:
        """How the last drive ended."""
        last = self.events[-1] if self.events else None
        return last.ending if isinstance(last, Ended) else None

    def exports(self) -> dict[str, bytes]:
        """Every exported file; none where nothing is kept."""
        if self.kept:
            with Ledger.open(self.folder) as ledger:
                export(ledger, self._task_stage(ledger), ("alpaca", "jsonl"), self.folder / "export")
        return {path.name: path.read_bytes() for path in sorted((self.folder / "export").glob("*"))}

    def differences(self) -> list[str]:
        """What `verify` finds."""
        return differences(self.folder)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with Ledger.open(self.folder) as ledger:
            return ledger.query(sql, *values)

    def count(self, table: str, where: str = "1") -> int:
        with Ledger.open(self.folder) as ledger:
            return count(ledger, table, where)

    @property
    def kept(self) -> int:
        """Tasks."""
        with Ledger.open(self.folder) as ledger:
            return count(ledger, "drafts", f"kept AND stage = '{self._task_stage(ledger)}'")

    def _task_stage(self, ledger: Ledger) -> str:
        return stored(ledger).task_stage

    def change(self, sql: str, *values: Any) -> None:
        """Meddle with the ledger."""
        with Ledger.open(self.folder, write=True) as ledger:
            assert ledger._db.execute(sql, values).rowcount > 0, "nothing was changed"

    def recount(self) -> None:
        """Let the tallies follow what was meddled with: a run stores and forgets, but never changes what they
        count."""
        with Ledger.open(self.folder, write=True) as ledger:
            for tally in TALLIES:
                ledger._db.execute(f"DELETE FROM tally_{tally}")
                ledger._db.execute(f"INSERT INTO tally_{tally} SELECT * FROM counted_{tally}")

    def counts_add_up(self) -> None:
        """Law 3: nothing lost, nothing silent."""
        with Ledger.open(self.folder) as ledger:
            counts_add_up(ledger)


def counts_add_up(ledger: Ledger) -> None:
    """Drafts are samples and drops with a reason; every job that ended has a draft, or the fault that ended it."""
    assert list(ledger.miscounted()) == []
    drafts, samples = ledger.count("drafts"), count(ledger, "kept")
    reasons = Counter(dict(ledger.query("SELECT reason, count(*) FROM drops GROUP BY reason")))
    assert drafts == samples + reasons.total()
    assert not ledger.query(
        "SELECT d.id FROM drafts d WHERE d.kept IS NOT"
        " (SELECT keep FROM verdicts v WHERE v.draft = d.id ORDER BY place DESC LIMIT 1)"
    ), "the last verdict decides, and there is one"
    assert not ledger.query(
        "SELECT number FROM jobs WHERE (state = 'settled') <> EXISTS (SELECT 1 FROM drafts WHERE job = number)"
    ), "every settled job has a draft, and no other has"
    assert not ledger.query("SELECT number FROM jobs WHERE state = 'failed' AND (error_kind IS NULL OR error = '')")
    assert not ledger.query("SELECT id FROM answers WHERE job NOT IN (SELECT number FROM jobs)")


def differences(folder: Path) -> list[str]:
    """What `Verifier` finds in a run."""

    async def found(verifier: Verifier) -> list[str]:
        return [line async for line in verifier.run()]

    with Ledger.open(folder) as ledger, ledger.snapshot():
        return asyncio.run(found(Verifier(ledger)))


def written_seeds(folder: Path) -> Path:
    """A file of ten seeds that are like nothing the model says."""
    path = folder / "seeds.jsonl"
    rows: list[Tree] = [
        {"id": f"s{i}", "instruction": f"Write {i} lines on topic {i}{i} for me.", "instances": [{"output": "Done."}]}
        for i in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
