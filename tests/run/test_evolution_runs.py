"""The laws of an evolution, whatever its timing: derivable, crash-exact, no barrier, and no family left behind."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.backends.scripted import prompt_of
from selfinstruct.errors import Refused, SourceError, Transient
from selfinstruct.inputs.config import RecipeConfig, RunConfig
from selfinstruct.recipes.chain import Chain
from selfinstruct.records import Completion, Request
from selfinstruct.run.events import Settled
from selfinstruct.run.rejudge import rejudge
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, source
from selfinstruct.store.ledger import Ledger
from tests.support.runs import Answer, Model, Run, differences, evolves, evolving, written_seeds

laws = settings(deadline=None, max_examples=8)
timings = st.integers(0, 2**32)
yields = st.sampled_from([0.3, 0.7, 1.0])
ROUNDS, FAMILIES = 3, 10
EVOLVE = RecipeConfig(name="evol-instruct")
JUDGE = {"kind": "scripted", "script": "unused"}


def evolution(folder: Path, *, rounds: int = ROUNDS, operators: Any = "general", **given: Any) -> Run:
    """A run that evolves ten seeds, without a target unless one is given."""
    return Run(
        folder, **{"n": None, "recipe": {"name": "evol-instruct", "rounds": rounds, "operators": operators}, **given}
    )


@contextmanager
def an_evolution(**given: Any) -> Iterator[Run]:
    with TemporaryDirectory() as folder:
        yield evolution(Path(folder), **given)


def model(keeps: float = 0.8, timing: int = 0) -> Model:
    return Model(evolving(keeps), timing=timing)


def evolved(run: Run) -> Counter[str]:
    """Settled evolutions of each family, by its root."""
    query = "SELECT json_extract(payload, '$.root') FROM jobs WHERE stage = 'evolve' AND state = 'settled'"
    return Counter(root for (root,) in run.query(query))


def is_whole(run: Run) -> None:
    """Every family has done all its rounds, everything derives again, and the counts add up."""
    assert run.ending == "complete"
    assert evolved(run) == {f"s{i}": ROUNDS for i in range(FAMILIES)}
    assert run.count("jobs", "state <> 'settled'") == 0
    assert run.differences() == []
    run.counts_add_up()


# -- any timing
# ----------------------------------------------------------------------------------------------------------------------


@laws
@given(timing=timings, concurrency=st.integers(1, 12), ordered=st.booleans(), keeps=yields)
def test_every_family_does_all_its_rounds_and_the_run_derives_again(
    timing: int, concurrency: int, ordered: bool, keeps: float
) -> None:
    with an_evolution(concurrency=concurrency, ordered=ordered) as run:
        asked = model(keeps, timing)
        is_whole(run.drive(asked))
        assert run.kept > 20 or keeps < 1
        assert asked.most_in_flight <= concurrency
        assert len(asked.asked) == run.count("answers")


ORDERED = {"ordered": True, "window": 6}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ordered evolution that nothing disturbed, with failures of several kinds."""
    run = evolution(tmp_path_factory.mktemp("undisturbed"), **ORDERED).drive(model(timing=1))
    reasons = {reason for (reason,) in run.query("SELECT DISTINCT reason FROM drops")}
    assert len(reasons) >= 4
    assert {depth for (depth,) in run.query("SELECT json_extract(meta, '$.depth') FROM kept")} == {1, 2, 3}
    return run


@laws
@given(timing=timings, concurrency=st.integers(1, 9))
def test_an_ordered_evolution_exports_the_same_bytes_whatever_the_timing(
    undisturbed: Run, timing: int, concurrency: int
) -> None:
    with an_evolution(concurrency=concurrency, **ORDERED) as run:
        assert run.drive(model(timing=timing)).exports() == undisturbed.exports()


@laws
@given(timing=timings)
def test_one_request_at_a_time_exports_the_same_bytes_without_being_ordered(timing: int) -> None:
    with an_evolution(concurrency=1) as run, an_evolution(concurrency=1) as other:
        assert run.drive(model(timing=timing)).exports() == other.drive(model()).exports()


# -- cut short
# ----------------------------------------------------------------------------------------------------------------------


def test_an_ordered_evolution_killed_after_any_commit_exports_the_same_bytes(undisturbed: Run, tmp_path: Path) -> None:
    commits = undisturbed.count("answers") + undisturbed.count("jobs", "after IS NULL") + undisturbed.count("jobs")
    for moment in range(1, commits, 13):
        asked = model(timing=moment)
        run = evolution(tmp_path / str(moment), **ORDERED).drive(asked, killed_after=moment)
        lost = len(asked.asked) - run.count("answers")
        assert lost <= 4, "more was lost than was in flight"
        is_whole(run.drive(asked))
        assert len(asked.asked) - run.count("answers") == lost, "what was answered was asked again"
        assert run.exports() == undisturbed.exports()


@laws
@given(timing=timings, ordered=st.booleans(), concurrency=st.integers(1, 8))
def test_an_evolution_killed_again_and_again_loses_only_what_was_in_flight(
    timing: int, ordered: bool, concurrency: int
) -> None:
    rng = Random(timing)
    with an_evolution(ordered=ordered, concurrency=concurrency) as run:
        asked, kills, before = model(timing=timing), 0, list[Any]()
        while run.drive(asked, killed_after=rng.randrange(3, 40)).ending != "complete":
            kills += 1
            now = settled_so_far(run)
            assert now[: len(before)] == before, "what was settled has changed"
            assert len(asked.asked) - run.count("answers") <= kills * concurrency
            before = now
        assert kills > 0
        is_whole(run)


def settled_so_far(run: Run) -> list[Any]:
    return run.query(
        "SELECT d.rank, d.id, d.instruction, d.stayed, d.meta, v.filter, v.reason, v.detail"
        " FROM drafts d JOIN verdicts v ON v.draft = d.id ORDER BY d.rank, v.place"
    )


@pytest.mark.parametrize("how", ["cut_after", "stop_after"])
def test_an_evolution_cut_or_stopped_after_any_event_goes_on(undisturbed: Run, tmp_path: Path, how: str) -> None:
    for moment in range(1, len(undisturbed.events) - 1, 23):
        asked = model(timing=moment)
        run = evolution(tmp_path / str(moment), **ORDERED).drive(asked, **{how: moment})  # type: ignore[arg-type]
        is_whole(run.drive(asked))
        assert run.exports() == undisturbed.exports()


@laws
@given(timing=timings, moment=st.integers(1, 90), keeps=yields)
def test_the_counts_of_an_evolution_that_was_resumed_are_those_of_one_that_was_not(
    timing: int, moment: int, keeps: float
) -> None:
    with an_evolution() as run:
        run.drive(model(keeps, timing), cut_after=moment)
        with Ledger.open(run.folder) as ledger:
            loaded = RunState.load(ledger, Told.stored(ledger))
        for name in ("tasks", "jobs", "barren", "spent", "extent", "first_stage_done", "complete", "count"):
            assert getattr(loaded, name) == getattr(run.state, name), name
        assert [sample.id for sample in loaded.pool.kept] == [sample.id for sample in run.state.pool.kept]
        assert loaded.pool.planned == run.state.pool.planned
        for stage, tally in loaded.taper.tallies.items():
            assert vars(tally) == vars(run.state.taper.tallies[stage])


# -- how many
# ----------------------------------------------------------------------------------------------------------------------


@laws
@given(timing=timings, n=st.integers(1, 9), concurrency=st.integers(1, 12), ordered=st.booleans())
def test_exactly_as_many_evolved_tasks_are_kept_as_were_asked_for(
    timing: int, n: int, concurrency: int, ordered: bool
) -> None:
    with an_evolution(n=n, concurrency=concurrency, ordered=ordered) as run:
        assert run.drive(model(timing=timing)).ending == "complete"
        assert run.kept == n
        assert run.differences() == []
        run.counts_add_up()


def test_a_larger_target_goes_on_where_the_smaller_one_ended(tmp_path: Path) -> None:
    run = evolution(tmp_path, n=3).drive(model(timing=1))
    before = run.query("SELECT id, instruction FROM drafts WHERE kept ORDER BY rank")
    run.drive(model(timing=2), n=8)
    assert (run.ending, run.kept) == ("complete", 8)
    assert run.query("SELECT id, instruction FROM drafts WHERE kept ORDER BY rank")[: len(before)] == before
    assert run.differences() == []


def test_more_than_the_seeds_make_ends_with_all_that_they_make(tmp_path: Path) -> None:
    run = evolution(tmp_path / "wanting", n=999).drive(model())
    everything = evolution(tmp_path / "everything").drive(model())
    assert (run.ending, run.state.spent) == ("exhausted", True)
    assert run.kept == everything.kept < 999
    assert evolved(run) == evolved(everything)
    assert run.differences() == []


def test_an_evolution_that_is_done_asks_nothing_more(tmp_path: Path) -> None:
    asked = model()
    run = evolution(tmp_path).drive(asked)
    count = len(asked.asked)
    assert run.drive(asked).ending == "complete"
    assert len(asked.asked) == count


# -- no barrier
# ----------------------------------------------------------------------------------------------------------------------


class Hanging(Model):
    """Holds its answer to one request back until it is let go, or has waited far too long."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        super().__init__(evolving(1.0))
        self._holds = holds
        self.let_go = False
        self.held: list[int] = []
        """Turns of the event loop that each held answer has waited."""

    async def complete(self, request: Request) -> Completion:
        if self._holds(prompt_of(request)):
            self.held.append(0)
            while not self.let_go and self.held[-1] < 100_000:
                self.held[-1] += 1
                await asyncio.sleep(0)
        return await super().complete(request)


@pytest.mark.parametrize("held", ["task:", "Answer:"])
def test_a_child_whose_parent_is_settled_evolves_although_another_family_hangs(tmp_path: Path, held: str) -> None:
    hanging = Hanging(lambda prompt: "topic 33 for me" in prompt.rpartition("\nTask: ")[2] and prompt.endswith(held))
    run = evolution(tmp_path, operators="deepen", concurrency=2)
    others = Counter[str]()

    def seen(event: object) -> None:
        if isinstance(event, Settled) and event.job.stage == "evolve" and event.job.payload["root"] != "s3":
            others[event.job.payload["root"]] += 1
            hanging.let_go = others.total() == (FAMILIES - 1) * ROUNDS

    run.drive(hanging, seen=seen)
    assert hanging.held
    assert max(hanging.held) < 100_000, "the others waited for the family that hung"
    is_whole(run)


def test_the_judge_of_one_family_holds_up_no_other(tmp_path: Path) -> None:
    judge = Hanging(lambda prompt: "topic 33 for me" in prompt)
    judge.model = "j"
    run = evolution(tmp_path, operators="deepen", concurrency=2, judge=JUDGE)

    def seen(event: object) -> None:
        judge.let_go = sum(rounds == ROUNDS for rounds in evolved_of(run).values()) >= FAMILIES - 1

    run.drive(model(1.0), judge=judge, seen=seen)
    assert judge.held
    assert max(judge.held) < 100_000
    is_whole(run)


def evolved_of(run: Run) -> Counter[str]:
    """As `evolved`, from the events seen so far."""
    settled = [event.job for event in run.events if isinstance(event, Settled)]
    return Counter(job.payload["root"] for job in settled if job.stage == "evolve")


def test_the_first_evolved_tasks_are_finished_before_the_last_seed_is_begun(tmp_path: Path) -> None:
    run = evolution(tmp_path, concurrency=2, operators="deepen").drive(model(1.0))
    kept = [i for i, event in enumerate(run.events) if isinstance(event, Settled) and event.job.stage == "answer"]
    last_root = max(
        i for i, event in enumerate(run.events) if isinstance(event, Settled) and event.job.payload["round"] == 1
    )
    assert kept[0] < last_root


# -- a judge of its own
# ----------------------------------------------------------------------------------------------------------------------


def test_a_judge_of_its_own_is_asked_for_its_judgement_and_for_nothing_else(tmp_path: Path) -> None:
    writer, judge = model(1.0), Model(lambda request: " Not equal", model="j")
    run = evolution(tmp_path, judge={**JUDGE, "extra": {"top_k": 1}}).drive(writer, judge=judge)
    is_whole(run)
    for asked, name, judges in ((writer, "m", False), (judge, "j", True)):
        requests = [json.loads(text) for text in asked.asked]
        assert {request["model"] for request in requests} == {name}
        assert {request["prompt"].endswith("Verdict:") for request in requests} == {judges}
        assert {"extra" in request["sampling"] for request in requests} == {judges}
    assert run.query("SELECT model, count(*) FROM answers GROUP BY 1") == [
        ("j", len(judge.asked)), ("m", len(writer.asked)),
    ]  # fmt: skip
    judged = run.query("SELECT count(*) FROM drafts WHERE json_extract(meta, '$.judgement') = 'not_equal'")
    assert judged == [(len(judge.asked),)]


def test_without_one_the_writer_judges(tmp_path: Path) -> None:
    writer = model(1.0)
    evolution(tmp_path).drive(writer)
    assert any(json.loads(text)["prompt"].endswith("Verdict:") for text in writer.asked)


def test_an_evolution_with_a_judge_of_its_own_is_verified_by_its_name(tmp_path: Path) -> None:
    run = evolution(tmp_path, judge=JUDGE).drive(model(1.0), judge=Model(evolving(), model="j"))
    assert run.differences() == []
    run.change("UPDATE run SET value = json_set(value, '$.judge', 'k') WHERE key = 'models'")
    assert run.differences() != []


def test_an_evolution_with_a_judge_of_its_own_survives_kills(tmp_path: Path) -> None:
    run, rng = evolution(tmp_path, judge=JUDGE), Random(3)
    writer, judge = model(), Model(evolving(), model="j")
    while run.drive(writer, judge=judge, killed_after=rng.randrange(5, 60)).ending != "complete":
        pass
    is_whole(run)


@pytest.mark.parametrize(
    ("writer", "judge", "structured"),
    [
        ({"dialect": "chat", "structured": True}, {"dialect": "completion"}, False),
        ({"dialect": "chat", "structured": True}, {"dialect": "chat"}, False),
        ({"dialect": "chat"}, {"dialect": "chat", "structured": True}, True),
    ],
    ids=str,
)
def test_a_judge_of_its_own_is_asked_for_json_if_its_own_settings_say_so(
    tmp_path: Path, writer: dict[str, Any], judge: dict[str, Any], structured: bool
) -> None:
    judging = Model(lambda request: "Not equal", model="j")
    writing = Model(lambda request: f"{prompt_of(request).rpartition('#Task To Rewrite#')[2][1:40]} {'more ' * 15}")
    run = evolution(tmp_path, operators="deepen", rounds=1, backend=writer, judge={**JUDGE, **judge})
    run.drive(writing, judge=judging)
    assert judging.asked
    assert {"answer_schema" in json.loads(text) for text in judging.asked} == {structured}


@pytest.mark.parametrize(("unclear", "kept"), [("keep", True), ("drop", False)])
def test_a_judge_that_never_answers_as_asked_stops_nothing(tmp_path: Path, unclear: str, kept: bool) -> None:
    judge = Model(lambda request: "I would rather not say.", model="j")
    filters = {"elimination": {"unclear": unclear}}
    run = evolution(tmp_path, operators="deepen", judge=JUDGE, filters=filters).drive(model(1.0), judge=judge)
    is_whole(run)
    said = run.query("SELECT v.reason, v.keep, count(*) FROM verdicts v JOIN drafts d ON d.id = v.draft"
                     " WHERE d.stage = 'answer' GROUP BY 1, 2")  # fmt: skip
    assert said == [("unclear_judgement", int(kept), FAMILIES * ROUNDS)]
    assert run.kept == (FAMILIES * ROUNDS if kept else 0)


def test_a_judge_that_refuses_fails_evolutions_and_no_jobs(tmp_path: Path) -> None:
    judge = Model(lambda request: Refused("content_filter", "I judge nobody"), model="j")
    run = evolution(tmp_path, operators="deepen", judge=JUDGE).drive(model(1.0), judge=judge)
    is_whole(run)
    assert run.query("SELECT reason, count(*) FROM drops GROUP BY 1") == [("refused_by_server", FAMILIES * ROUNDS)]


# -- failures
# ----------------------------------------------------------------------------------------------------------------------


def failing(fails: Callable[[str], bool], error: Exception) -> Answer:
    """Brings this error where it shall."""
    return lambda request: error if fails(prompt_of(request)) else evolves(prompt_of(request), 1.0)


WHERE = {
    "evolving": "Harder task:",
    "judging": "Verdict:",
    "answering": "Answer:",
}


@pytest.mark.parametrize("end", WHERE.values(), ids=WHERE)
@pytest.mark.parametrize("ordered", [False, True])
def test_a_failed_job_ends_its_family_alone_and_retry_goes_on_with_it(tmp_path: Path, end: str, ordered: bool) -> None:
    def fails(prompt: str) -> bool:
        asked = prompt[-900:].rpartition("\n\n")[2]
        return "topic 33 for me" in asked and prompt.endswith(end)

    run = evolution(tmp_path, operators="deepen", ordered=ordered)
    run.drive(Model(failing(fails, Transient("timeout", "no answer in 600 s"))))
    assert run.ending == "complete"
    assert run.query(
        "SELECT json_extract(payload, '$.root'), state, error_kind FROM jobs WHERE state <> 'settled'"
    ) == [("s3", "failed", "timeout")]
    assert {root for root, rounds in evolved(run).items() if rounds == ROUNDS} == {f"s{i}" for i in range(10)} - {"s3"}
    assert run.differences() == []
    run.counts_add_up()
    before = settled_so_far(run)
    asked = model(1.0)
    run.drive(asked, again=True)
    assert settled_so_far(run)[: len(before)] == before
    assert all("topic 33 for me" in json.loads(text)["prompt"][-900:] for text in asked.asked)
    assert evolved(run) == {f"s{i}": ROUNDS for i in range(FAMILIES)}
    assert run.kept == FAMILIES * ROUNDS
    assert run.differences() == []


def test_a_refusal_about_a_task_is_data_and_nothing_to_retry(tmp_path: Path) -> None:
    run = evolution(tmp_path, operators="deepen")
    run.drive(Model(failing(lambda prompt: "topic 33 for me" in prompt, Refused("content_filter", "not that"))))
    is_whole(run)
    refused = (
        "SELECT json_extract(meta, '$.root'), stage, count(*) FROM drafts WHERE flaw = 'refused_by_server' GROUP BY 1"
    )
    assert run.query(refused) == [("s3", "evolve", ROUNDS)]


def test_an_evolution_that_brings_nothing_gives_up(tmp_path: Path) -> None:
    asked = Model(lambda request: "")
    run = evolution(tmp_path, patience=5).drive(asked)
    assert run.ending == "barren"
    assert run.kept == 0
    assert run.differences() == []
    is_whole(run.drive(model(), patience=99))


def test_an_evolution_whose_server_fails_gives_up(tmp_path: Path) -> None:
    run = evolution(tmp_path, patience=4).drive(Model(lambda request: Transient("timeout", "…")))
    assert run.ending == "failing"
    assert run.differences() == []
    run.drive(model(1.0), again=True)
    run.drive(model(1.0), again=True)
    assert run.drive(model(1.0)).ending == "complete"
    assert evolved(run) == {f"s{i}": ROUNDS for i in range(FAMILIES)}


# -- judged again
# ----------------------------------------------------------------------------------------------------------------------


def test_descendants_of_what_a_stricter_filter_drops_are_dropped_with_it(tmp_path: Path) -> None:
    run = evolution(tmp_path, operators="deepen").drive(model(0.9))
    copy = tmp_path / "stricter"
    markers = ["river", "stone", "cloud", "apple", "train"]
    rejudge(run.folder, copy, {"elimination": {"refusal_markers": ["sorry", *markers]}})
    assert differences(copy) == []
    with Ledger.open(copy) as ledger:
        dropped = {id for (id,) in ledger.query("SELECT id FROM drops WHERE reason = 'refusal'")}
        orphans = ledger.query(
            "SELECT d.id, v.reason, j.parent FROM drafts d JOIN jobs j ON j.number = d.job"
            " JOIN verdicts v ON v.draft = d.id WHERE j.parent IN (SELECT id FROM drafts WHERE NOT kept)"
        )
        assert {reason for _, reason, _ in orphans} == {"parent_dropped"}
        assert dropped & {parent for *_, parent in orphans}
        kept = {id for (id,) in ledger.query("SELECT id FROM kept WHERE stage = 'answer'")}
        parents = {parent for (parent,) in ledger.query("SELECT json_extract(meta, '$.parent') FROM kept")}
        assert kept
        assert {parent for parent in parents if not parent.startswith("s")} <= kept


def test_the_same_settings_judge_the_same(tmp_path: Path) -> None:
    run = evolution(tmp_path, judge=JUDGE).drive(model(), judge=Model(evolving(), model="j"))
    rejudge(run.folder, tmp_path / "same", {})
    with Ledger.open(run.folder) as one, Ledger.open(tmp_path / "same") as other:
        verdicts = "SELECT * FROM verdicts ORDER BY draft, place"
        assert one.query(verdicts) == other.query(verdicts)
    assert differences(tmp_path / "same") == []


# -- a run as source
# ----------------------------------------------------------------------------------------------------------------------


def test_an_evolution_as_source_gives_the_members_that_live(tmp_path: Path) -> None:
    run = evolution(tmp_path / "one").drive(model(0.6))
    members = {f"s{i}": i for i in range(FAMILIES)}
    latest = {root: root for root in members}
    for id, meta in run.query("SELECT id, meta FROM kept WHERE stage = 'answer' ORDER BY rank"):
        latest[json.loads(meta)["root"]] = id
    assert any(root == id for root, id in latest.items()), "for this test a root must live"
    assert any(root != id for root, id in latest.items())
    found = source(Chain.of(RunConfig(recipe=EVOLVE)), run.folder)
    assert sorted(seed.id for seed in found) == sorted(f"run/{id}" for id in latest.values())
    tasks = dict(run.query("SELECT id, instruction FROM kept WHERE stage = 'answer'"))
    assert {seed.id: seed.instruction for seed in found if seed.id[4:] in tasks} == {
        f"run/{id}": tasks[id] for id in latest.values() if id in tasks
    }
    again = evolution(tmp_path / "two", seeds=str(run.folder), rounds=1).drive(model(0.9))
    assert again.ending == "complete"
    assert sorted(evolved(again)) == sorted(seed.id for seed in found)
    assert again.differences() == []


def test_a_run_of_another_recipe_as_source_gives_the_tasks_that_it_kept(tmp_path: Path) -> None:
    run = Run(tmp_path / "one", n=4).drive()
    found = source(Chain.of(RunConfig(recipe=EVOLVE)), run.folder)
    rows = run.query("SELECT id, instruction, instances FROM kept WHERE stage = 'instances' ORDER BY rank")
    assert [
        (seed.id, seed.instruction, [i.model_dump(exclude_defaults=True) for i in seed.instances]) for seed in found
    ] == [(f"run/{id}", instruction, json.loads(instances)) for id, instruction, instances in rows]
    again = evolution(tmp_path / "two", seeds=str(run.folder), rounds=2).drive(model())
    assert evolved(again) == {seed.id: 2 for seed in found}


@pytest.mark.parametrize("recipe", ["self-instruct", "evol-instruct"])
def test_a_run_that_has_kept_nothing_is_no_source(tmp_path: Path, recipe: str) -> None:
    run = Run(tmp_path, recipe={"name": recipe})
    with pytest.raises(SourceError) as raised:
        source(Chain.of(RunConfig(recipe=EVOLVE)), run.folder)
    assert str(raised.value) == f"{run.folder}: this run has kept no task yet; continue it first"


def test_a_file_as_source_is_its_seeds(tmp_path: Path) -> None:
    assert [seed.id for seed in source(Chain.of(RunConfig(recipe=EVOLVE)), written_seeds(tmp_path))] == [
        f"s{i}" for i in range(10)
    ]
