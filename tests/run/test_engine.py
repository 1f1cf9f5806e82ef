"""The laws of a run, whatever its timing: derivable, ordered, exactly N, and nothing lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.records import Completion, Request
from selfinstruct.run.events import Answered, Ended, Failed, Planned, Settled
from tests.support.runs import WORDS, Model, Run, answering

laws = settings(deadline=None, max_examples=8)

seeds = st.integers(0, 2**32)
"""Of a timing: each a different order of arrival."""
yields = st.sampled_from([0.15, 0.5, 0.8, 1.0])


@contextmanager
def a_run(**given: Any) -> Iterator[Run]:
    with TemporaryDirectory() as folder:
        yield Run(Path(folder), **given)


# -- law 1: derivable, and with `ordered` the same whatever the timing ------------------------------------------------


@laws
@given(timing=seeds, concurrency=st.integers(1, 9), ordered=st.booleans(), keeps=yields)
def test_a_run_derives_again_from_its_answers(timing: int, concurrency: int, ordered: bool, keeps: float) -> None:
    with a_run(n=8, concurrency=concurrency, ordered=ordered) as run:
        run.drive(Model(answering(keeps), timing=timing))
        assert run.differences() == []


@pytest.fixture(scope="module")
def ordered_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an ordered run exports that was never disturbed."""
    return Run(tmp_path_factory.mktemp("undisturbed"), ordered=True, window=12).drive(Model(timing=1)).exports()


@laws
@given(timing=seeds, concurrency=st.integers(1, 15))
def test_an_ordered_run_exports_the_same_bytes_whatever_the_timing(
    ordered_exports: dict[str, bytes], timing: int, concurrency: int
) -> None:
    with a_run(ordered=True, window=12, concurrency=concurrency) as run:
        assert run.drive(Model(timing=timing)).exports() == ordered_exports


@laws
@given(timing=seeds)
def test_one_request_at_a_time_exports_the_same_bytes_without_being_ordered(timing: int) -> None:
    with a_run(concurrency=1) as run, a_run(concurrency=1) as other:
        assert run.drive(Model(timing=timing)).exports() == other.drive(Model(timing=0)).exports()


def test_an_ordered_run_keeps_its_slots_full_while_one_answer_is_late(tmp_path: Path) -> None:
    asked_meanwhile = []

    class Late(Model):
        """Answers the first request very late."""

        async def complete(self, request: Request) -> Completion:
            if not self.asked:
                self.asked.append("the late one")
                for _ in range(500):
                    await asyncio.sleep(0)
                asked_meanwhile.extend(self.asked)
            return await super().complete(request)

    assert Run(tmp_path, n=30, ordered=True, concurrency=4, window=40).drive(Late()).kept == 30
    assert len(asked_meanwhile) >= 12


@pytest.mark.parametrize("ordered", [False, True])
def test_a_run_extended_is_the_run_it_was_and_more(tmp_path: Path, ordered: bool) -> None:
    run = Run(tmp_path, ordered=ordered).drive(Model(timing=1))
    before = run.query("SELECT id, instruction, stayed FROM drafts WHERE kept ORDER BY rank")
    run.drive(Model(timing=2), n=14)
    assert run.query("SELECT id, instruction, stayed FROM drafts WHERE kept ORDER BY rank")[: len(before)] == before
    assert run.kept == 14
    assert run.differences() == []


def test_an_ordered_run_extended_exports_the_same_bytes_whatever_the_timing(tmp_path: Path) -> None:
    one, other = (
        Run(tmp_path / name, ordered=True, window=9).drive(Model(timing=timing)).drive(Model(timing=-timing), n=13)
        for name, timing in (("one", 3), ("other", 4))
    )
    assert one.exports() == other.exports()


# -- exactly N --------------------------------------------------------------------------------------------------------


@laws
@given(timing=seeds, n=st.integers(1, 15), concurrency=st.integers(1, 12), ordered=st.booleans(), keeps=yields)
def test_exactly_as_many_tasks_are_kept_as_were_asked_for(
    timing: int, n: int, concurrency: int, ordered: bool, keeps: float
) -> None:
    with a_run(n=n, concurrency=concurrency, ordered=ordered) as run:
        model = Model(answering(keeps), timing=timing)
        assert run.drive(model).ending == "complete"
        assert run.kept == n
        assert model.most_in_flight <= concurrency
        run.counts_add_up()


@laws
@given(timing=seeds, ordered=st.booleans())
def test_no_request_starts_after_the_last_task_is_kept(timing: int, ordered: bool) -> None:
    """Not even the second question of a job whose first is still in flight then."""
    with a_run(n=5, concurrency=8, ordered=ordered) as run:
        model, kept = Model(answering(0.4), timing=timing), list[int]()
        run.drive(model, seen=lambda event: kept.append(len(model.asked)) if run.complete else None)
        assert run.kept == 5
        assert set(kept) == {len(model.asked)}


@pytest.mark.parametrize(("keeps", "concurrency"), [(1.0, 16), (0.5, 16), (0.5, 64)])
def test_towards_the_target_a_run_tapers(tmp_path: Path, concurrency: int, keeps: float) -> None:
    """The jobs begun beyond those needed stay below a quarter of the slots, on average, and are never more than all."""
    beyond = []
    for timing in range(3):
        run = Run(tmp_path / str(timing), n=40, concurrency=concurrency, seed=timing)
        run.drive(Model(answering(keeps), timing=timing))
        beyond.append(run.count("jobs", "state = 'planned' AND number IN (SELECT job FROM answers)"))
    assert max(beyond) <= concurrency
    assert sum(beyond) / len(beyond) <= 2 + concurrency / 4, beyond


def test_what_arrives_after_the_last_task_is_kept_for_a_larger_target(tmp_path: Path) -> None:
    """Its answers are stored and not judged: neither surplus nor asked for again."""
    run, model = Run(tmp_path, n=6, concurrency=12), Model(answering(0.5))
    run.drive(model)
    late = {n for (n,) in run.query("SELECT number FROM jobs JOIN answers ON job = number WHERE state = 'planned'")}
    assert late
    assert run.count("drops", "reason = 'surplus'") == 0
    run.drive(model, n=20)
    assert late <= {number for (number,) in run.query("SELECT number FROM jobs WHERE state = 'settled'")}
    assert len(model.asked) == run.count("answers")


def triples(request: Request) -> str:
    """Six whole tasks, as the recipe `alpaca` asks for them."""
    rng = Random(prompt_of(request))
    tasks = (
        f"{i}. Instruction: Describe the {' '.join(rng.sample(WORDS, 6))} now.\n{i}. Input:\nall\n{i}. Output:\nYes."
        for i in range(4, 10)
    )
    return "\n###\n".join(tasks).removeprefix("4. Instruction:")


def test_drafts_beyond_the_target_are_dropped_as_surplus(tmp_path: Path) -> None:
    run = Run(tmp_path, n=4, concurrency=1, recipe={"name": "alpaca"}).drive(Model(triples))
    assert run.query("SELECT kept, count(*) FROM drafts GROUP BY 1") == [(0, 2), (1, 4)]
    assert run.query("SELECT filter, reason FROM drops") == [("target", "surplus")] * 2
    assert run.differences() == []


# -- law 3: nothing lost, nothing silent ------------------------------------------------------------------------------


@laws
@given(timing=seeds, ordered=st.booleans(), keeps=yields)
def test_what_the_engine_tells_is_what_the_ledger_says(timing: int, ordered: bool, keeps: float) -> None:
    with a_run(n=7, ordered=ordered, concurrency=5) as run:
        run.drive(Model(answering(keeps), timing=timing))
        told = {kind: [e.job.number for e in run.events if isinstance(e, kind)] for kind in (Planned, Settled)}
        assert told[Settled] == [
            job for (job,) in run.query("SELECT job FROM events WHERE kind = 'settle' ORDER BY seq")
        ]
        assert told[Planned] == [job for (job,) in run.query("SELECT number FROM jobs WHERE after IS NULL ORDER BY 1")]
        assert sum(isinstance(e, Answered) for e in run.events) == run.count("answers")
        assert not any(isinstance(e, Failed) for e in run.events)
        assert run.events[-1] == Ended("complete", 7)
        run.counts_add_up()
