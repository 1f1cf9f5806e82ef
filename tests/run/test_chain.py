"""Recipes in a chain: what one keeps is the next one's source, in one run, counted at the last."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.recipes.chain import Chain
from selfinstruct.records import Request
from selfinstruct.run.rejudge import rejudge
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read, source
from selfinstruct.store.ledger import Ledger
from tests.support.runs import Model, Run, evolves, says, written_seeds

EVOLVE: dict[str, Any] = {"name": "evol-instruct", "rounds": 2, "operators": ["deepen", "in_breadth"]}
TASKS = 4


def answer(request: Request) -> str:
    """Self-Instruct is known by the room that its requests give, all others are of an evolution."""
    room = request.sampling.max_tokens or 0
    prompt = prompt_of(request)
    return says(prompt, room, 0.9) if room in (3, 300, 350, 1024) else evolves(prompt, 0.9)


def chained(folder: Path, **changes: Any) -> Run:
    return Run(folder, **{"then": [EVOLVE], "n": TASKS, **changes})


def test_n_counts_what_the_last_keeps(tmp_path: Path) -> None:
    """The run ends when the last recipe has kept as many, and everything derives again."""
    run = chained(tmp_path).drive(Model(answer))
    assert (run.ending, run.kept) == ("complete", TASKS)
    assert run.differences() == []
    run.counts_add_up()
    stages = [stage for (stage,) in run.query("SELECT DISTINCT stage FROM drafts ORDER BY 1")]
    assert stages == ["evol-instruct/answer", "evol-instruct/evolve", "instances", "instructions"]


def test_what_settles_is_gone_on_with_at_once(tmp_path: Path) -> None:
    """There is no barrier: evolutions are settled before the last task of the first recipe is kept."""
    run = chained(tmp_path, n=30).drive(Model(answer))
    order = [stage for (stage,) in run.query("SELECT stage FROM drafts WHERE kept ORDER BY rank")]
    last = len(order) - 1 - order[::-1].index("instances")
    assert "evol-instruct/answer" in order[:last]


def test_lineage_leads_through_all_recipes(tmp_path: Path) -> None:
    """A row of the last recipe tells every step, from the first prompt of the first one."""
    run = chained(tmp_path).drive(Model(answer))
    rows = [json.loads(line) for line in run.exports()["samples.jsonl"].splitlines()]
    assert len(rows) == TASKS
    for row in rows:
        stages = [step["stage"] for step in row["lineage"]]
        assert stages[:2] == ["instructions", "instances"]
        assert stages[2:] == ["evol-instruct/evolve", "evol-instruct/answer"] * (len(stages[2:]) // 2)
        assert row["root"].count(".") == 1, "the root is a task of this run"


def test_a_family_is_the_task_it_goes_back_to(tmp_path: Path) -> None:
    """What was evolved from one task belongs together, whatever round it is of."""
    run = chained(tmp_path).drive(Model(answer))
    families = run.query("SELECT DISTINCT family FROM kept WHERE stage = 'evol-instruct/answer'")
    tasks = {id for (id,) in run.query("SELECT id FROM kept WHERE stage = 'instances'")}
    assert {family for (family,) in families} <= tasks


@settings(deadline=None, max_examples=10)
@given(timing=st.integers(0, 2**32), life=st.integers(1, 80))
def test_a_chain_survives_kills(tmp_path_factory: pytest.TempPathFactory, timing: int, life: int) -> None:
    """Killed again and again it reaches exactly N, and nothing that was answered is asked again."""
    run, rng, kills = chained(tmp_path_factory.mktemp("chain")), Random(timing), 0
    model = Model(answer, timing=timing)
    while run.drive(model, killed_after=life).ending != "complete":
        life, kills = rng.randrange(1, 80), kills + 1
    assert run.kept == TASKS
    assert run.differences() == []
    assert len(model.asked) - run.count("answers") <= kills * 4


@settings(deadline=None, max_examples=6)
@given(timing=st.integers(0, 2**32), moment=st.integers(1, 80))
def test_an_ordered_chain_does_not_depend_on_timing(
    tmp_path_factory: pytest.TempPathFactory, timing: int, moment: int
) -> None:
    """With `ordered` the exports equal those of a run that was never cut."""
    one, other = (chained(tmp_path_factory.mktemp(name), ordered=True) for name in ("one", "other"))
    one.drive(Model(answer))
    other.drive(Model(answer, timing=timing), cut_after=moment)
    other.drive(Model(answer, timing=timing))
    assert one.exports() == other.exports()


@settings(deadline=None, max_examples=8)
@given(timing=st.integers(0, 2**32), moment=st.integers(1, 120))
def test_the_counts_of_a_resumed_chain(tmp_path_factory: pytest.TempPathFactory, timing: int, moment: int) -> None:
    """Counts, tallies and pool of a run opened again are those of one that was not."""
    run = chained(tmp_path_factory.mktemp("counted")).drive(Model(answer, timing=timing), cut_after=moment)
    with Ledger.open(run.folder) as ledger:
        loaded = RunState.load(ledger, Told.stored(ledger))
    for name in ("tasks", "jobs", "barren", "complete", "first_stage_done"):
        assert getattr(loaded, name) == getattr(run.state, name), name
    assert [sample.id for sample in loaded.pool.kept] == [sample.id for sample in run.state.pool.kept]
    for stage, tally in loaded.taper.tallies.items():
        assert vars(tally) == vars(run.state.taper.tallies[stage])


def test_a_chain_judged_again_verifies(tmp_path: Path) -> None:
    """Under a stricter filter what follows from a dropped task is dropped with it, over all recipes."""
    run = chained(tmp_path, n=8).drive(Model(answer))
    rejudge(run.folder, tmp_path / "stricter", {"rouge": {"threshold": 0.3}})
    copy = Run.__new__(Run)
    copy.folder = tmp_path / "stricter"
    assert copy.differences() == []
    assert copy.count("drops", "reason = 'parent_dropped' AND stage LIKE 'evol-instruct/%'") > 0


def test_a_chain_of_two_evolutions(tmp_path: Path) -> None:
    """The same recipe may stand twice; the second has a name of its own."""
    run = Run(tmp_path, recipe=EVOLVE, then=[EVOLVE, EVOLVE], n=3).drive(Model(answer))
    assert (run.ending, run.kept) == ("complete", 3)
    assert run.differences() == []
    stages = {stage for (stage,) in run.query("SELECT DISTINCT stage FROM jobs")}
    assert {"evolve", "evol-instruct/evolve", "evol-instruct-2/evolve"} <= stages


def test_without_a_target_all_is_gone_on_with(tmp_path: Path) -> None:
    """Where the first recipe goes through its sources and nothing is said, the run ends when nothing is left."""
    run = Run(tmp_path, recipe=EVOLVE, then=[{**EVOLVE, "rounds": 1}], n=None).drive(Model(answer))
    assert run.ending == "complete"
    assert run.count("jobs", "state = 'planned'") == 0
    kept = {id for (id,) in run.query("SELECT id FROM kept WHERE stage = 'answer'")}
    begun = {parent for (parent,) in run.query("SELECT parent FROM jobs WHERE stage = 'evol-instruct/evolve'")}
    assert begun == kept


def test_a_chain_as_source_gives_the_tasks_that_live(tmp_path: Path) -> None:
    """Of a chain whose last recipe replaces its sources, those of the last live of which nothing was kept."""
    run = chained(tmp_path, n=6).drive(Model(answer))
    found = {seed.id for seed in source(Chain.of(build(RunConfig, {"recipe": EVOLVE}, where="test")), run.folder)}
    last = [(id, json.loads(meta)["parent"]) for id, meta in run.query(
        "SELECT id, meta FROM kept WHERE stage = 'evol-instruct/answer'")]  # fmt: skip
    gone = {parent for _, parent in last}
    assert found == {f"run/{id}" for id, _ in last if id not in gone}


CANNOT_BE: dict[str, dict[str, Any]] = {
    "then: self-instruct samples from a pool and cannot go on with single tasks; put it first, or name one that goes"
    " through sources": {"then": ["self-instruct"]},
    "unknown recipe 'evol-instuct'; did you mean evol-instruct? known: alpaca, evol-instruct, self-instruct": {
        "then": ["evol-instuct"]},
    "recipe evol-instruct: unknown key `round`; did you mean `rounds`?": {
        "then": [{"name": "evol-instruct", "round": 2}]},
    "roles.critic: self-instruct and evol-instruct ask no critic, but writer, judge; leave it out": {
        "then": ["evol-instruct"], "roles": {"critic": {"model": "c"}}},
    "test: `roles.judge`: its weights sum to nothing; give one of its models a weight above 0": {
        "then": ["evol-instruct"], "roles": {"judge": [{"model": "a", "weight": 0}]}},
    "test: `roles.judge`: of several models each needs a `model` name of its own": {
        "then": ["evol-instruct"], "roles": {"judge": [{"model": "a"}, {"model": "a"}]}},
    "test: `roles.tools`: `tools` is a table of its own and no role; give the role another name": {
        "roles": {"tools": {"model": "a"}}},
    "test: `judge` is short for `roles.judge`: keep one of the two": {
        "judge": {"model": "a"}, "roles": {"judge": {"model": "a"}}},
}  # fmt: skip


@pytest.mark.parametrize("said", CANNOT_BE)
def test_a_chain_or_a_role_that_cannot_be(tmp_path: Path, said: str) -> None:
    """Each is one line that says what to do."""
    with pytest.raises(ConfigError) as refused:
        read(build(RunConfig, {"seeds": str(written_seeds(tmp_path)), **CANNOT_BE[said]}, where="test"))
    assert str(refused.value) == said
