"""Roles: several models in one run, each drawn, asked, counted and verified under its own name."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RunConfig, build, door_of, doors_of
from selfinstruct.records import Completion, Request
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.session import Run as Session
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.store.ledger import Ledger
from tests.support.runs import WORDS, Model, Run, answering, evolving, written_seeds

SCRIPTED: dict[str, Any] = {"kind": "scripted", "script": "unused"}
WRITERS = [{**SCRIPTED, "model": "a", "weight": 3.0}, {**SCRIPTED, "model": "b"}]


def several(folder: Path, **changes: Any) -> Run:
    """A run of Self-Instruct with two writers, one asked three times as often."""
    return Run(folder, **{"n": 12, "roles": {"writer": WRITERS}, **changes})


def models(**timing: int) -> dict[str, Model]:
    return {f"writer:{name}": Model(answering(0.9), model=name, timing=timing.get(name, 0)) for name in ("a", "b")}


async def drive(run: Run, world: World, cut_after: int = 10**9) -> RunState:
    with Ledger.open(run.folder, write=True) as ledger:
        state = RunState.load(ledger, Told.stored(ledger))
        engine, seen = Engine(state, ledger, world), 0
        async for _ in (events := engine.run()):
            seen += 1
            if seen == cut_after:
                await events.aclose()
                break
        return state


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    run = several(tmp_path)
    run.change("""UPDATE run SET value = '{"writer:a": "a", "writer:b": "b"}' WHERE key = 'models'""")
    return run


def test_a_job_draws_its_model_and_notes_it(begun: Run) -> None:
    """The draw follows from the run's seed and the job's number, lies in the job, and decides who is asked."""
    asyncio.run(drive(begun, World(models())))
    drawn = {number: json.loads(told)["writer"] for number, told in begun.query("SELECT number, models FROM jobs")}
    for number, name in drawn.items():
        assert name == Random(f"42:{number}:writer").choices(["a", "b"], [3.0, 1.0])[0]
    asked = begun.query("SELECT job, model, role FROM answers")
    assert {(drawn[job], f"writer:{drawn[job]}") for job, _, _ in asked} == {(m, role) for _, m, role in asked}
    counts = Counter(drawn.values())
    assert counts["a"] > counts["b"] > 0
    assert begun.differences() == []


def test_each_model_has_its_meter(begun: Run) -> None:
    """What a model took is counted under its own name, and the run's budget is held against all."""
    world = models()
    asyncio.run(drive(begun, World(world)))
    with Ledger.open(begun.folder) as ledger:
        meters = ledger.meter()
    assert {door: meter.usage.requests for door, meter in meters.items()} == {
        door: len(model.asked) for door, model in world.items()
    }


def test_draws_survive_a_cut(begun: Run) -> None:
    """A job that was planned before the run was cut asks the same model when it is performed again."""
    asyncio.run(drive(begun, World(models()), cut_after=20))
    before = dict(begun.query("SELECT number, models FROM jobs"))
    asyncio.run(drive(begun, World(models(a=3, b=4))))
    after = dict(begun.query("SELECT number, models FROM jobs"))
    assert {number: after[number] for number in before} == before
    assert begun.differences() == []


def test_a_role_that_is_not_configured_is_the_writer() -> None:
    """Whoever asks for a judge, where there is none, asks the writer; of several writers the one that was drawn."""
    one = build(RunConfig, {"backend": SCRIPTED}, where="test")
    assert (door_of(one, "judge", {}), list(doors_of(one))) == ("writer", ["writer"])
    two = build(RunConfig, {"backend": SCRIPTED, "roles": {"writer": WRITERS, "judge": SCRIPTED}}, where="test")
    assert list(doors_of(two)) == ["writer:a", "writer:b", "judge"]
    assert (door_of(two, "user", {"writer": "b"}), door_of(two, "judge", {"writer": "b"})) == ("writer:b", "judge")


def test_a_judge_alone_may_be_a_table() -> None:
    """`[judge]`, `[roles.judge]` and `[[roles.judge]]` say the same."""
    told = {"kind": "scripted", "script": "x", "model": "j"}
    trees: list[dict[str, Any]] = [{"judge": told}, {"roles": {"judge": told}}, {"roles": {"judge": [told]}}]
    assert len({build(RunConfig, tree, where="test").model_dump_json() for tree in trees}) == 1


class Slow(Model):
    """A judge that answers only when it is let."""

    def __init__(self, **how: Any) -> None:
        super().__init__(evolving(), model="j", **how)
        self.let = asyncio.Event()
        self.waiting = 0

    async def complete(self, request: Request) -> Completion:
        self.waiting += 1
        await self.let.wait()
        return await super().complete(request)


def test_a_slow_judge_does_not_hold_the_writers_places(tmp_path: Path) -> None:
    """While no judgement comes back, the writer goes on with other jobs up to its own width, again and again."""
    evolve = {"name": "evol-instruct", "rounds": 1, "operators": "deepen"}
    run = Run(tmp_path, recipe=evolve, n=None, concurrency=4, judge={**SCRIPTED, "concurrency": 2})

    async def watched() -> int:
        judge, writer = Slow(), Model(evolving(1.0))
        with Ledger.open(run.folder, write=True) as ledger:
            state = RunState.load(ledger, Told.stored(ledger))
            engine = Engine(state, ledger, World({"writer": writer, "judge": judge}))
            events = engine.run()
            task = asyncio.create_task(anext(events))
            for _ in range(2000):
                if task.done():
                    task = asyncio.create_task(anext(events))
                await asyncio.sleep(0)
            before = sum("Harder task:" in prompt_of(Request.model_validate_json(text)) for text in writer.asked)
            judge.let.set()
            await task
            async for _ in events:
                pass
        assert judge.most_in_flight <= 2
        return before

    # All ten tasks are evolved, although only two at once are with the judge and none has come back.
    assert asyncio.run(watched()) == 10
    assert run.differences() == []


def test_a_run_with_two_writers_goes_through_the_api(tmp_path: Path) -> None:
    """Opened by its settings, driven to the end, and verified."""
    rng, script = Random(1), tmp_path / "answers.json"
    lists = [f" Describe the {' '.join(rng.sample(WORDS, 6))} now." for _ in range(20)]
    special = [{"when": "Is this", "text": "No"}, {"when": "Task: Describe", "text": "Output: It is old."}]
    script.write_text(json.dumps({"choose": "cycle", "answers": [*special, *lists]}))
    told = {"kind": "scripted", "script": str(script)}
    run = Session.open(
        tmp_path / "run", seeds=str(written_seeds(tmp_path)), n=3, backend=told,
        roles={"writer": [{**told, "model": "a"}, {**told, "model": "b"}]},
    )  # fmt: skip
    ended = run.finish()
    assert (ended.ending, ended.tasks) == ("complete", 3), ended
    assert run.verify().differences == []
    with Ledger.open(run.folder) as ledger:
        assert ledger.models() == {"writer:a": "a", "writer:b": "b"}


def test_the_models_of_a_role_are_asked_in_one_dialect(tmp_path: Path) -> None:
    """A prompt is read once, so base and instruct models do not share a role."""
    tree = {
        "seeds": str(written_seeds(tmp_path)), "backend": SCRIPTED,
        "roles": {"writer": [{**SCRIPTED, "model": "a", "dialect": "chat"}, {**SCRIPTED, "model": "b"}]},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"roles\.writer: its models are asked in one way"):
        Session.open(tmp_path / "run", **tree)
    assert prompt_of(Request(prompt="x", model="m")) == "x"
