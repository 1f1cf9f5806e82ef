"""A run that was cut short, anywhere and however often, goes on as if nothing had been (law 2)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.store import ledger as ledger_module
from selfinstruct.store.ledger import Ledger
from tests.support.runs import Model, Run, answering

ORDERED = {"ordered": True, "window": 4, "concurrency": 4, "n": 5}


def sparse(timing: int) -> Model:
    """A model whose answers bring so little that something must be planned from the pool after most settlements."""
    return Model(answering(0.5, listed=2), timing=timing)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ordered run that nothing ever cut short."""
    return Run(tmp_path_factory.mktemp("undisturbed"), **ORDERED).drive(sparse(timing=1))


def moments(run: Run, of: str) -> range:
    """Places at which a run like this one can be cut: after every other commit to its ledger, or event."""
    commits = (
        "SELECT (SELECT count(*) FROM answers) + (SELECT count(*) FROM jobs WHERE after IS NULL)"
        " + (SELECT count(*) FROM jobs WHERE state <> 'planned')"
    )
    return range(1, run.query(commits)[0][0] if of == "commits" else len(run.events) - 1, 2)


def settled(run: Run) -> list[tuple[object, ...]]:
    """All that is settled, in order; what later drives may add to and never change."""
    return run.query(
        "SELECT d.rank, d.id, d.instruction, d.stayed, d.meta, v.filter, v.reason, v.detail"
        " FROM drafts d JOIN verdicts v ON v.draft = d.id ORDER BY d.rank, v.place"
    )


def goes_on(run: Run, model: Model) -> None:
    """Continue a run that was cut short; what was settled stands, and no stored answer is asked for again."""
    before, answers = settled(run), run.count("answers")
    asked = len(model.asked)
    run.drive(model)
    assert settled(run)[: len(before)] == before
    assert len(model.asked) - asked == run.count("answers") - answers
    assert run.ending == "complete"


def is_whole(run: Run, n: int) -> None:
    assert run.kept == n
    assert run.differences() == []
    run.counts_add_up()


def test_an_ordered_run_killed_after_any_commit_exports_the_same_bytes(undisturbed: Run, tmp_path: Path) -> None:
    for moment in moments(undisturbed, "commits"):
        model = sparse(timing=moment)
        run = Run(tmp_path / str(moment), **ORDERED).drive(model, killed_after=moment)
        assert len(model.asked) - run.count("answers") <= 4, "more was lost than was in flight"
        goes_on(run, model)
        is_whole(run, 5)
        assert run.exports() == undisturbed.exports()


@pytest.mark.parametrize("how", ["cut_after", "stop_after"])
def test_an_ordered_run_cut_or_stopped_after_any_event_exports_the_same_bytes(
    undisturbed: Run, tmp_path: Path, how: str
) -> None:
    for moment in moments(undisturbed, "events"):
        model = sparse(timing=moment)
        run = Run(tmp_path / str(moment), **ORDERED).drive(model, **{how: moment})
        goes_on(run, model)
        assert run.exports() == undisturbed.exports()
        assert run.differences() == []


@settings(deadline=None, max_examples=8)
@given(timing=st.integers(0, 2**32), ordered=st.booleans(), concurrency=st.integers(1, 8))
def test_a_run_killed_again_and_again_loses_only_what_was_in_flight(
    tmp_path_factory: pytest.TempPathFactory, timing: int, ordered: bool, concurrency: int
) -> None:
    rng = Random(timing)
    run = Run(tmp_path_factory.mktemp("killed"), n=6, ordered=ordered, concurrency=concurrency)
    models, before = [], settled(run)
    while run.kept < 6 or not models:
        model = Model(timing=rng.randrange(2**32))
        stored = run.count("answers")
        run.drive(model, killed_after=rng.randrange(3, 40))
        models.append(model)
        assert len(model.asked) - (run.count("answers") - stored) <= concurrency
        assert settled(run)[: len(before)] == before
        before = settled(run)
    asked = Counter(request for model in models for request in model.asked)
    lost = asked.total() - run.count("answers")
    assert lost <= concurrency * len(models)
    is_whole(run, 6)


@settings(deadline=None, max_examples=10)
@given(timing=st.integers(0, 2**32), moment=st.integers(1, 60), keeps=st.sampled_from([0.0, 0.3, 0.8]))
def test_the_counts_of_a_run_that_was_resumed_are_those_of_one_that_was_not(
    tmp_path_factory: pytest.TempPathFactory, timing: int, moment: int, keeps: float
) -> None:
    """The taper and `barren` go on from where they were."""
    run = Run(tmp_path_factory.mktemp("counted"), n=8).drive(Model(answering(keeps), timing=timing), cut_after=moment)
    with Ledger.open(run.folder) as ledger:
        loaded = RunState.load(ledger, Told.stored(ledger))
    for name in ("tasks", "jobs", "barren"):
        assert getattr(loaded, name) == getattr(run.state, name), name
    assert [sample.id for sample in loaded.pool.kept] == [sample.id for sample in run.state.pool.kept]
    for stage, tally in loaded.taper.tallies.items():
        assert vars(tally) == vars(run.state.taper.tallies[stage])
        assert loaded.taper.value(stage) == run.state.taper.value(stage)


def test_a_run_begun_before_there_was_a_switch_goes_on_without_it(tmp_path: Path) -> None:
    run = Run(tmp_path, recipe={"switches": {"keep_capitals": True}}).drive(Model(), cut_after=25)
    run.change("UPDATE run SET value = json_remove(value, '$.recipe.switches.keep_capitals') WHERE key = 'config'")
    assert run.differences() == []
    goes_on(run, Model())
    is_whole(run, 6)


def test_the_order_of_a_run_is_not_that_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back makes no difference."""
    hours = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(ledger_module, "time", SimpleNamespace(time=lambda: float(next(hours))))
    run = Run(tmp_path).drive(Model(), cut_after=25)
    goes_on(run, Model())
    is_whole(run, 6)


def test_a_run_that_was_told_to_stop_settles_what_had_been_asked(tmp_path: Path) -> None:
    model = Model()
    run = Run(tmp_path, n=20, concurrency=6).drive(model, stop_after=60)
    assert run.ending == "interrupted"
    assert run.count("answers") == len(model.asked)
    assert run.differences() == []
    run.counts_add_up()
    goes_on(run, model)
    is_whole(run, 20)


def test_a_run_without_grace_still_settles_what_had_arrived(tmp_path: Path) -> None:
    """With answers that take no time, several lie in the queue when the first is settled."""
    run = Run(tmp_path, n=20, concurrency=6).drive(Model(slowest=1), stop_after=60, grace=0.0)
    whole = "SELECT job FROM answers GROUP BY job HAVING count(*) = 2"
    assert run.count("jobs", f"state = 'planned' AND stage = 'instances' AND number IN ({whole})") == 0


def test_a_run_told_to_stop_while_it_waits_for_the_last_answers_still_waits_for_them(tmp_path: Path) -> None:
    """They are paid; whoever is in a hurry says it twice."""
    complete = len(Run(tmp_path / "whole", concurrency=6).drive(Model(slowest=200), grace=0.0).events)
    model = Model(slowest=200)
    run = Run(tmp_path / "stopped", concurrency=6).drive(model, stop_after=complete)
    assert run.ending == "complete"
    assert run.count("answers") == len(model.asked)
    assert len(run.events) > complete + 1, "nothing was in flight any more when it was told"


def test_nothing_is_asked_any_more_once_a_run_was_told_to_stop(tmp_path: Path) -> None:
    model, asked = Model(), list[int]()
    run = Run(tmp_path, n=20, concurrency=6)
    run.drive(model, stop_after=50, seen=lambda event: asked.append(len(model.asked)))
    assert asked[50] == len(model.asked)


def test_a_stopped_run_that_is_completed_by_what_was_in_flight_is_complete(tmp_path: Path) -> None:
    run = Run(tmp_path, n=3, concurrency=1)
    run.drive(Model(answering(1.0)))
    last = len(run.events)
    again = Run(tmp_path / "again", n=3, concurrency=1)
    assert again.drive(Model(answering(1.0)), stop_after=last - 2).ending == "complete"
    assert again.kept == 3


@pytest.mark.parametrize("ordered", [False, True])
def test_a_run_that_keeps_nothing_gives_up_and_goes_on_with_more_patience(tmp_path: Path, ordered: bool) -> None:
    model = Model(answering(0.0))
    run = Run(tmp_path, patience=10, ordered=ordered).drive(model)
    assert run.ending == "barren"
    asked = len(model.asked)
    assert run.drive(model).ending == "barren"
    assert len(model.asked) == asked, "asked although it had given up"
    better = Model()
    assert run.drive(better, patience=60).ending == "complete"
    is_whole(run, 6)


def test_an_ordered_run_gives_up_at_the_same_place_whatever_the_timing(tmp_path: Path) -> None:
    runs = [
        Run(tmp_path / str(timing), patience=6, n=9, ordered=True, window=9).drive(Model(answering(0.2), timing=timing))
        for timing in range(6)
    ]
    assert {run.ending for run in runs} == {"barren"}
    assert len({str(run.exports()) for run in runs}) == 1
    assert len({str(settled(run)) for run in runs}) == 1


def test_a_run_that_was_stopped_before_it_began_asks_nothing(tmp_path: Path) -> None:
    model = Model()
    run = Run(tmp_path).drive(model, cut_after=1)
    assert run.drive(model).ending == "complete"
    asked = len(model.asked)
    assert run.drive(model).ending == "complete"
    assert len(model.asked) == asked, "a complete run asked for more"
