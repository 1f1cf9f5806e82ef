"""What is put into the ledger comes out again, and what stops it is told in one line with its cure."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfinstruct.errors import RunError, Transient
from selfinstruct.records import (
    Completion,
    Draft,
    Instance,
    InstanceDrop,
    Job,
    Outcome,
    Reason,
    Review,
    Sample,
    Seed,
    Usage,
    Verdict,
)
from selfinstruct.store import ledger as module
from selfinstruct.store.ledger import NAME, Count, Ledger
from selfinstruct.store.readings import kept, rooted, summary
from selfinstruct.store.schema import FIRST, STEPS, migrate, newest, version
from tests.support.sql import count

laws = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

text = st.text(max_size=30) | st.sampled_from(
    ["\0", "a\0b", "ｆｕｌｌ", "e\u0301", "😀\u200d🔥", "\r\n\u2028", "{{ x }}", "';--"]
)
values = st.dictionaries(
    text, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | text
)
instances = st.lists(st.builds(Instance, input=text, output=text), max_size=4).map(tuple)
drafts = st.builds(
    Draft, stage=text, instruction=text, instances=instances, flaw=st.none() | st.sampled_from(Reason), meta=values
)
drops = st.lists(st.builds(InstanceDrop, st.integers(0, 9), st.sampled_from([str(r) for r in Reason])), max_size=3).map(
    tuple
)
judged = st.builds(Verdict, filter=text, keep=st.booleans(), reason=text, detail=values, instance_drops=drops)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with created(tmp_path) as ledger:
        yield ledger


def created(folder: Path, **given: Any) -> Ledger:
    return Ledger.create(folder, **{"facts": {"model": "m"}, "seeds": [], "prompts": {}, "target": 5, **given})


@st.composite
def outcomes(draw: st.DrawFn, job: int) -> list[Outcome]:
    made = []
    for position, draft in enumerate(draw(st.lists(drafts, min_size=1, max_size=3)), start=1):
        id, verdicts = f"{job}.{position}", draw(st.lists(judged, min_size=1, max_size=3))
        sample = Sample(
            id=id,
            stage=draft.stage,
            instruction=draft.instruction,
            instances=draw(instances),
            meta=draft.meta,
            parent=None,
        )
        made.append(Outcome(id, draft, tuple(verdicts), sample if draw(st.booleans()) else None))
    return made


def number(ledger: Ledger) -> int:
    """Of a job that is new in this example."""
    return ledger.last_job() + 1


# -- round trips ------------------------------------------------------------------------------------------------------


@laws
@given(st.data())
def test_what_is_settled_comes_out_as_it_went_in(ledger: Ledger, data: st.DataObject) -> None:
    job = Job(number(ledger), "s", data.draw(values))
    ledger.plan(job)
    made = data.draw(outcomes(job.number))
    follow = [Job(job.number + 1, data.draw(text), data.draw(values), parent=made[0].id)]
    ledger.settle(job, made, follow)
    stored = list(ledger.drafts(job=job.number))
    assert [(s.id, s.draft, s.kept) for s in stored] == [(o.id, o.draft, o.sample is not None) for o in made]
    assert [s.sample for s in stored if s.kept] == [o.sample for o in made if o.sample]
    assert [ledger.verdicts(o.id) for o in made] == [[v.model_dump(mode="json") for v in o.verdicts] for o in made]
    assert ledger.job(job.number)[0] == job
    assert ledger.job(job.number + 1)[:3] == (follow[0], job.number, "planned")


@laws
@given(
    completion=st.builds(Completion, text=text, finish_reason=text, model=text, refused=st.none() | text), said=values
)
def test_an_answer_comes_out_as_it_went_in(ledger: Ledger, completion: Completion, said: dict[str, Any]) -> None:
    job = ledger.count("answers")
    ledger.answer(f"key {job}", job, 0, json.dumps(said), completion, 0.5)
    assert ledger.find_answer(f"key {job}") == completion
    assert ledger.answers(job)[0][1:] == (f"key {job}", job, said, completion, 0.5)


@laws
@given(seed=st.builds(Seed, id=text, instruction=text, instances=instances, category=text), prompt=text)
def test_a_run_knows_its_seeds_prompts_and_facts(tmp_path_factory: Any, seed: Seed, prompt: str) -> None:
    with created(
        tmp_path_factory.mktemp("run"), seeds=[seed], prompts={"p": prompt}, facts={"model": prompt}
    ) as ledger:
        assert (ledger.seeds(), ledger.prompts(), ledger.fact("model")) == ([seed], {"p": prompt}, prompt)
        assert ledger.fact("nothing") is None


def test_a_megabyte_on_one_line_is_stored_whole(ledger: Ledger) -> None:
    long = "word " * 200_000 + "\0end"
    ledger.answer("k", 1, 0, "{}", Completion(text=long), 0.0)
    answer = ledger.find_answer("k")
    assert answer is not None
    assert answer.text == long


def test_half_a_surrogate_pair_in_what_a_server_said_does_not_stop_the_run(ledger: Ledger) -> None:
    ledger.plan(Job(1, "s", {"text": "\ud800"}))
    ledger.fault("k", 1, 1, Transient("broken", "said \ud800", body="\udfff"))
    ledger.fail(1, "broken", "said \ud800")
    assert ledger.query("SELECT message, body FROM faults") == [("said \ufffd", "\ufffd")]
    assert ledger.job(1).error == "said \ufffd"
    assert ledger.job(1).job.payload == {"text": "\ud800"}


def test_the_first_answer_under_a_key_stands(ledger: Ledger) -> None:
    for text in ("first", "second"):
        ledger.answer("k", 1, 0, "{}", Completion(text=text), 0.0)
    answer = ledger.find_answer("k")
    assert answer is not None
    assert answer.text == "first"


def test_what_fails_half_way_leaves_nothing(ledger: Ledger) -> None:
    ledger.plan(Job(1, "s", {}))
    draft = Draft(stage="s", instruction="Say it.")
    outcome = Outcome("1.1", draft, (Verdict(filter="f", keep=True),), None)
    with pytest.raises(RunError, match="UNIQUE"):
        ledger.settle(Job(1, "s", {}), [outcome, outcome], [])
    assert ledger.count("drafts") == ledger.count("verdicts") == 0
    assert ledger.job(1).state == "planned"
    assert [event.kind for event in ledger.events()] == ["target", "plan"]


def test_the_target_is_the_last_one_set_and_set_once(ledger: Ledger) -> None:
    for target in (5, 9, 9, 7):
        ledger.reconfigure("{}", target)
    assert ledger.target() == 7
    assert [event.value for event in ledger.events()] == [5, 9, 7]


def test_reading_while_a_run_writes_sees_what_is_committed(ledger: Ledger) -> None:
    with Ledger.open(ledger.path.parent) as reader:
        ledger.plan(Job(1, "s", {}))
        assert reader.last_job() == 1


@pytest.mark.filterwarnings("error")
def test_whoever_leaves_off_reading_may_close_the_ledger_first(tmp_path: Path) -> None:
    """As at Ctrl-C, where what was being read is forgotten last."""
    with created(tmp_path) as ledger:
        for number in (1, 2):
            ledger.plan(Job(number, "s", {}))
        jobs = ledger.jobs()
        next(jobs)
    del jobs
    gc.collect()


def test_reading_writes_nothing(ledger: Ledger) -> None:
    with Ledger.open(ledger.path.parent) as reader, pytest.raises(RunError, match="cannot be written"):
        reader.plan(Job(1, "s", {}))


# -- beginning --------------------------------------------------------------------------------------------------------


def test_a_run_is_begun_whole_or_not_at_all(tmp_path: Path) -> None:
    seed = Seed(id="twice", instruction="Say it.")
    with pytest.raises(RunError, match="UNIQUE"):
        created(tmp_path, seeds=[seed, seed])
    assert not (tmp_path / NAME).exists()
    created(tmp_path, seeds=[seed]).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    created(tmp_path, target=3).close()
    with pytest.raises(RunError, match="holds a run"):
        created(tmp_path, target=4)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.target() == 3


def test_leftovers_of_a_run_that_was_removed_are_no_part_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = created(tmp_path / "old")
    old.plan(Job(1, "s", {}))
    (tmp_path / f"{NAME}-wal").write_bytes((tmp_path / "old" / f"{NAME}-wal").read_bytes())
    old.close()
    with created(tmp_path) as ledger:
        assert ledger.last_job() == 0


# -- what stops it ----------------------------------------------------------------------------------------------------


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {newest() + 1}")
    db.close()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100 : len(content)] = b"\xff" * (len(content) - 100)
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_ledger(path: Path) -> None:
    path.write_text("This is a letter to a friend, and no ledger at all. " * 50)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    ("befalls", "said"),
    [
        (newer, "newer selfinstruct .* upgrade"),
        (damaged, "damaged or not a ledger"),
        (emptied, "not a finished ledger"),
        (no_ledger, "damaged or not a ledger"),
        (Path.unlink, "no run here"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_to_do(
    tmp_path: Path, befalls: Callable[[Path], object], said: str, write: bool
) -> None:
    created(tmp_path).close()
    befalls(tmp_path / NAME)
    with pytest.raises(RunError, match=said) as refusal:
        Ledger.open(tmp_path, write=write)
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("damage", ["DROP TABLE meter", "ALTER TABLE meter DROP COLUMN seconds"])
def test_a_ledger_that_lacks_something_is_not_called_whole(tmp_path: Path, damage: str) -> None:
    """Nobody knows what was lost with a table."""
    created(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute(damage)
    with Ledger.open(tmp_path) as ledger, pytest.raises(RunError, match="damaged or not a ledger") as refusal:
        ledger.meter()
    assert "nothing that was settled is lost" not in str(refusal.value)


def test_a_ledger_that_another_program_holds_is_named_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCKED", 0.05)
    with created(tmp_path) as ledger:
        other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunError, match="another program holds the ledger"):
            ledger.plan(Job(1, "s", {}))
        other.execute("ROLLBACK")
        other.close()
        ledger.plan(Job(1, "s", {}))
        assert ledger.last_job() == 1


def test_a_full_disk_is_named_and_nothing_that_was_stored_is_lost(ledger: Ledger) -> None:
    ledger.answer("before", 1, 0, "{}", Completion(text="kept"), 0.0)
    pages = ledger.query("PRAGMA page_count")[0][0]
    ledger.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(RunError, match="the disk is full: free some space"):
        ledger.answer("after", 1, 0, "{}", Completion(text="x" * 100_000), 0.0)
    ledger.query("PRAGMA max_page_count = 100000")
    assert ledger.find_answer("before") is not None
    assert ledger.find_answer("after") is None
    ledger.answer("after", 1, 0, "{}", Completion(text="x" * 100_000), 0.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be refused as")
@pytest.mark.parametrize("write", [False, True])
def test_a_folder_that_may_not_be_written_can_be_read_and_no_more(tmp_path: Path, write: bool) -> None:
    with created(tmp_path) as ledger:
        ledger.plan(Job(1, "s", {}))
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o755)
    (tmp_path / NAME).chmod(0o644)
    said = as_nobody(f"print(Ledger.open(Path({str(tmp_path)!r}), write={write}).last_job())")
    assert ("cannot be written: check the folder's permissions" in said) if write else said == "1\n"


def as_nobody(code: str) -> str:
    """What a program says that belongs to nobody; run in a fork, so that it needs no right to read our code."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgid(65534)
        os.setuid(65534)
        with os.fdopen(writer, "w") as out:
            try:
                exec(
                    code, {"Ledger": Ledger, "Path": Path, "print": lambda *a: out.write(" ".join(map(str, a)) + "\n")}
                )
            except RunError as error:
                out.write(str(error))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


# -- tallies ----------------------------------------------------------------------------------------------------------


def lived(ledger: Ledger, rng: Random) -> None:
    """Let a ledger have some of everything that a run may do to it, but to judge again."""
    for _ in range(12):
        job, stage = number(ledger), rng.choice("st")
        ledger.plan(Job(job, stage, {}))
        for nth in range(rng.randrange(3)):
            refused = rng.choice([None, "too_long"])
            said = Completion(text="", model=rng.choice("mn"), prompt_tokens=7, completion_tokens=nth, refused=refused)
            for _ in range(rng.randint(1, 2)):
                ledger.answer(f"{job} {nth}", job, nth, "{}", said, 0.1)
        ledger.fault("k", job, 1, Transient(rng.choice("ab"), "broken"))
        if (fate := rng.choice(["settled", "settled", "failed", "planned"])) == "settled":
            follow = [Job(job + n, rng.choice("st"), {}) for n in range(1, rng.randint(1, 3))]
            ledger.settle(Job(job, stage, {}), some_outcomes(job, stage, rng), follow)
        elif fate == "failed":
            ledger.fail(job, rng.choice(["too_long", "timeout"]), "broken")
        if rng.random() < 0.2:
            ledger.retry()


def some_outcomes(job: int, stage: str, rng: Random) -> list[Outcome]:
    """Drafts kept and dropped, some of them evolutions, some without all of their instances."""
    made = []
    for position in range(1, rng.randint(2, 5)):
        meta: dict[str, Any] = rng.choice(
            [{}, {"round": rng.randint(1, 2), "operator": "deepen", "judgement": "equal"}]
        )
        draft = Draft(stage=stage, instruction="Say it.", meta=meta)
        keep, gone = rng.random() < 0.6, [InstanceDrop(place, rng.choice("xy")) for place in range(rng.randrange(3))]
        last = Verdict(filter=rng.choice("fg"), keep=keep, reason=rng.choice("xy"), instance_drops=tuple(gone))
        verdicts = (*[Verdict(filter="e", keep=True)] * rng.randrange(2), last)
        sample = Sample(id=f"{job}.{position}", stage=stage, instruction="Say it.", meta=meta) if keep else None
        made.append(Outcome(f"{job}.{position}", draft, verdicts, sample))
    return made


@laws
@given(seed=st.integers(), again=st.booleans())
def test_tallies_are_what_there_is_whatever_a_run_does(tmp_path_factory: Any, seed: int, again: bool) -> None:
    rng = Random(seed)
    with created(tmp_path_factory.mktemp("run")) as ledger:
        lived(ledger, rng)
        if again:
            settled = [stored.job for stored in ledger.jobs("settled")]
            ledger.judge_again([(job.number, some_outcomes(job.number, job.stage, rng)) for job in settled], {})
        assert list(ledger.miscounted()) == []
        told = summary(ledger)
        assert sorted(told.jobs) == ledger.query("SELECT stage, state, count(*) FROM jobs GROUP BY 1, 2 ORDER BY 1, 2")
        assert sorted(told.drops) == ledger.query("SELECT stage, filter, reason, count(*) FROM drops GROUP BY 1, 2, 3")
        assert told.instance_drops == dict(ledger.query("SELECT reason, count(*) FROM instance_drops GROUP BY 1"))
        assert told.answers == ledger.count("answers")
        assert sum(kept(ledger, stage) for stage in "st") == count(ledger, "kept")
        assert rooted(ledger) == count(ledger, "jobs", "after IS NULL")


def test_what_status_asks_is_no_more_work_in_a_longer_run(tmp_path: Path) -> None:
    def steps(jobs: int) -> int:
        """Of SQLite's machine, in hundreds, for the summary of a run of so many jobs."""
        counted: list[int] = []
        with created(tmp_path / str(jobs)) as ledger:
            for job in range(1, jobs + 1):
                ledger.plan(Job(job, "s", {}))
                ledger.answer(str(job), job, 0, "{}", Completion(text="", model="m"), 0.1)
                drop = Verdict(filter="f", keep=False, reason="r", instance_drops=(InstanceDrop(0, "r"),))
                ledger.settle(
                    Job(job, "s", {}), [Outcome(f"{job}.1", Draft(stage="s", instruction="Say it."), (drop,), None)], []
                )
            ledger._db.set_progress_handler(lambda: counted.append(1), 100)
            summary(ledger), kept(ledger, "s"), rooted(ledger), list(ledger.jobs("planned")), ledger.target()
        return len(counted)

    for jobs in (10, 300):
        (tmp_path / str(jobs)).mkdir()
    assert steps(300) <= steps(10) + 1


# -- migrations -------------------------------------------------------------------------------------------------------


def test_every_step_from_an_empty_file_leads_to_the_present_schema() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    assert version(db) == newest()
    migrate(db)
    assert version(db) == newest()
    db.close()


def test_a_step_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created(tmp_path).close()

    def broken(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        db.execute("CREATE TABLE half (x)")

    monkeypatch.setattr("selfinstruct.store.schema.STEPS", (*STEPS, broken))
    with pytest.raises(RunError, match="half"):
        Ledger.open(tmp_path, write=True)
    monkeypatch.undo()
    with Ledger.open(tmp_path, write=True) as ledger:
        assert count(ledger, "sqlite_master", "name = 'half'") == 0


def test_an_older_ledger_is_brought_up_when_written_and_refused_when_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(tmp_path).close()
    steps = (*STEPS, lambda db: db.execute("ALTER TABLE run ADD COLUMN note TEXT"))
    monkeypatch.setattr("selfinstruct.store.schema.STEPS", steps)
    with pytest.raises(RunError, match="older selfinstruct"):
        Ledger.open(tmp_path)
    Ledger.open(tmp_path, write=True).close()
    with Ledger.open(tmp_path) as ledger:
        assert ledger.query("SELECT note FROM run") == [(None,)]
        assert ledger.fact("model") == "m"


@pytest.mark.parametrize("schema", range(1, FIRST))
def test_a_schema_never_released_is_refused(tmp_path: Path, schema: int) -> None:
    """A ledger of before the first release is refused in one line, read or written, and stays as it is."""
    created(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute(f"PRAGMA user_version = {schema}")
    for write in (False, True):
        with pytest.raises(
            RunError, match=rf"before 0\.1 \(schema {schema}\).*begin another run with --run"
        ) as refused:
            Ledger.open(tmp_path, write=write)
        assert "\n" not in str(refused.value)
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        assert version(db) == schema


def test_what_is_in_flight_when_a_session_begins_was_spent_by_the_last_one(ledger: Ledger) -> None:
    ledger.charge([Count("writer", Usage(), 0.0, Usage(3, 300, 0, 90))])
    assert ledger.meter()["writer"].usage == Usage()
    ledger.go_on()
    assert ledger.meter()["writer"][:2] == (Usage(3, 300, 0, 90), Usage())
    ledger.charge([Count("writer", Usage(), 0.0, Usage(1, 10, 0, 10))])
    ledger.go_on(resumed=["writer"])
    assert ledger.meter()["writer"][:2] == (Usage(3, 300, 0, 90), Usage())


def test_a_role_met_for_the_first_time_is_metered(ledger: Ledger) -> None:
    """What is spent on a role that nothing was ever counted for is counted, at the answer and after a fault."""
    ledger.charge([Count("student", Usage(1, 10, 0, 5), 0.5, Usage(2, 20, 0, 9))])
    ledger.charge([Count("student", Usage(2, 7, 0, 1), 0.5, Usage())])
    assert ledger.meter()["student"].usage == Usage(3, 17, 0, 6)


def test_a_step_that_another_process_takes_first_is_not_taken_twice(tmp_path: Path) -> None:
    class Late(sqlite3.Connection):
        """Begins its first transaction when another process has just ended one."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                migrate(other)
            return super().execute(sql, *values)

    path = tmp_path / NAME
    other = sqlite3.connect(path, isolation_level=None)
    late = sqlite3.connect(path, isolation_level=None, factory=Late)
    migrate(late)
    assert version(late) == newest()
    for db in (late, other):
        db.close()


@given(st.lists(st.builds(Review, draft=st.sampled_from(["1.1", "1.2"]), keep=st.none() | st.booleans(),
                          instruction=st.none() | text, instances=st.none() | instances), max_size=6))  # fmt: skip
@laws
def test_the_last_review_of_a_draft_comes_out_as_it_went_in(tmp_path: Path, given: list[Review]) -> None:
    (tmp_path / NAME).unlink(missing_ok=True)
    with created(tmp_path) as ledger:
        for review in given:
            ledger.review(review)
        last = {review.draft: review for review in given}
        assert ledger.reviews() == {draft: review for draft, review in last.items() if review.keep is not None}
