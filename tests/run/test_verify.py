"""`verify` finds what was changed behind the run's back, and `filter` judges again without a model."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.cli.session import Session
from selfinstruct.errors import ConfigError, RunError, Transient
from selfinstruct.records import Draft
from selfinstruct.run import session as api
from selfinstruct.run.asking import asked_of
from selfinstruct.run.rejudge import rejudge
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told
from selfinstruct.run.verify import perform, verify
from selfinstruct.store.ledger import Ledger
from tests.run.test_engine import triples
from tests.run.test_faults import failing
from tests.support.runs import Model, Run, differences
from tests.support.sql import count


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A complete run with drops of several kinds, failed jobs that were retried and one that was not, and exports."""
    run = Run(tmp_path_factory.mktemp("whole"), n=12, filters={"rouge": {"threshold": 0.6}})
    run.drive(Model(failing(0.15, Transient("timeout", "…"))))
    run.drive(Model(failing(0.3, Transient("timeout", "…"), 7)), again=True)
    assert run.differences() == []
    assert run.count("drops", "reason = 'near_duplicate'") > 0
    run.exports()
    return run


@pytest.fixture
def copy(whole: Run, tmp_path: Path) -> Run:
    """That run once more, to meddle with."""
    twin = object.__new__(Run)
    twin.folder = Path(shutil.copytree(whole.folder, tmp_path / "copy"))
    return twin


LAST = "(SELECT id FROM kept WHERE stage = 'instances' ORDER BY rank DESC LIMIT 1)"
CHANGES = {
    "an answer": "UPDATE answers SET text = replace(text, 'Output', 'In other words') WHERE text LIKE 'Input:%'",
    "an answer gone": "DELETE FROM answers WHERE job = (SELECT job FROM kept WHERE stage = 'instances' LIMIT 1)",
    "a request": "UPDATE answers SET question = replace(question, 'Write 1 ', 'Write 100 ')",
    "a verdict flipped": "UPDATE verdicts SET keep = 1 WHERE reason = 'near_duplicate'",
    "a reason": "UPDATE verdicts SET reason = 'too_long' WHERE reason = 'near_duplicate'",
    "a score": "UPDATE verdicts SET detail = replace(detail, '0.', '0.9') WHERE reason = 'near_duplicate'",
    "a verdict more": "INSERT INTO verdicts SELECT draft, 9, 'rouge', 1, 'passed', '{}', '[]' FROM verdicts LIMIT 1",
    "a stray verdict": "INSERT INTO verdicts VALUES ('999.1', 0, 'rouge', 1, 'passed', '{}', '[]')",
    "a drop kept": 'UPDATE drafts SET kept = 1, stayed = \'[{"output":"x"}]\' WHERE kept = 0 AND rank ='
    " (SELECT min(rank) FROM drafts WHERE kept = 0)",
    "an instance": f"UPDATE drafts SET stayed = replace(stayed, '[{{', '[{{\"output\":\"more\"}},{{')"
    f" WHERE id = {LAST}",
    "an instruction": f"UPDATE drafts SET instruction = instruction || '!' WHERE id = {LAST}",
    "what a recipe knows": f"UPDATE drafts SET meta = '{{}}' WHERE id = {LAST}",
    "a draft gone": f"DELETE FROM drafts WHERE id = {LAST}",
    "a draft more": "INSERT INTO drafts SELECT job, 99, job || '.99', NULL, stage, 0, '', '[]', NULL, NULL, '{}',"
    " '', '[]', '', '{}' FROM drafts LIMIT 1",
    "the pool's order": "UPDATE drafts SET rank = CASE rank WHEN 1 THEN -2 WHEN 2 THEN 1 END WHERE rank IN (1, 2)",
    "two settlements swapped": "UPDATE events SET job = (SELECT a.job + b.job - events.job FROM"
    " (SELECT job FROM events WHERE kind = 'settle' ORDER BY seq LIMIT 1) a,"
    " (SELECT job FROM events WHERE kind = 'settle' ORDER BY seq DESC LIMIT 1) b) WHERE kind = 'settle' AND seq IN"
    " ((SELECT min(seq) FROM events WHERE kind = 'settle'), (SELECT max(seq) FROM events WHERE kind = 'settle'))",
    "a settlement gone": "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE kind = 'settle')",
    "a plan gone": "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE kind = 'plan')",
    "a job's parent": "UPDATE jobs SET parent = '1.1' WHERE number = (SELECT max(number) FROM jobs WHERE parent > '')",
    "a job's question": "UPDATE jobs SET payload = replace(payload, 's', 'z') WHERE after IS NULL",
    "a failure undone": "UPDATE jobs SET state = 'planned' WHERE state = 'failed'",
    "a smaller target": "UPDATE events SET value = 2 WHERE kind = 'target'",
    "a filter's setting": "UPDATE run SET value = replace(value, '\"threshold\": 0.6', '\"threshold\": 0.9')"
    " WHERE key = 'config'",
    "the seed": "UPDATE run SET value = replace(value, '\"seed\": 42', '\"seed\": 43') WHERE key = 'config'",
    "a seed task": "UPDATE seeds SET record = replace(record, 'Write', 'Draw')",
    "a prompt": "UPDATE prompts SET text = text || 'And be quick.'",
    "a tally": "UPDATE tally_drafts SET drafts = drafts + 1 WHERE kept",
    "a tally of jobs": "UPDATE tally_jobs SET jobs = jobs - 1",
    "a tally gone": "DELETE FROM tally_answers",
    "a tally more": "INSERT INTO tally_instances VALUES ('none', 3)",
    "the model's name": "UPDATE run SET value = '{\"writer\": \"another\"}' WHERE key = 'models'",
}


@pytest.mark.parametrize("what", CHANGES)
def test_verify_finds(what: str, copy: Run) -> None:
    copy.change(CHANGES[what])
    assert copy.differences() != []


@pytest.mark.parametrize("name", ["alpaca.json", "alpaca.jsonl", "samples.jsonl"])
def test_verify_finds_a_changed_export_and_export_mends_it(name: str, copy: Run) -> None:
    assert verify(copy.folder).differences == []
    path = copy.folder / "export" / name
    path.write_bytes(path.read_bytes().replace(b"Describe", b"Redescribe", 1))
    [difference] = verify(copy.folder).differences
    assert name in difference
    copy.exports()
    assert verify(copy.folder).differences == []


# -- filter -----------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def verdicts(run: Run | Path) -> list[tuple[Any, ...]]:
    with Ledger.open(run if isinstance(run, Path) else run.folder) as ledger:
        return ledger.query(
            "SELECT d.rank, d.id, d.kept, d.stayed, v.filter, v.reason, v.detail, v.instance_drops"
            " FROM drafts d JOIN verdicts v ON v.draft = d.id ORDER BY d.rank, v.place"
        )


@pytest.fixture(scope="module")
def stricter(whole: Run) -> Path:
    """The run judged again, where half of the words in common are too many."""
    copy = whole.folder.parent / "stricter"
    before = contents(whole.folder)
    assert rejudge(whole.folder, copy, {"rouge": {"threshold": 0.5}}).written
    assert contents(whole.folder) == before, "judging again changed the run itself"
    return copy


def test_a_filtered_run_verifies(stricter: Path) -> None:
    assert differences(stricter) == []
    assert verify(stricter).differences == []


def test_what_was_changed_in_a_filtered_run_is_found_too(stricter: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stricter, tmp_path / "copy"))
    with Ledger.open(copy, write=True) as ledger:
        ledger._db.execute("UPDATE verdicts SET reason = 'too_long' WHERE reason = 'parent_dropped'")
    assert differences(copy) != []


def test_children_of_what_is_dropped_now_are_dropped_with_it(stricter: Path) -> None:
    with Ledger.open(stricter) as ledger:
        orphans = ledger.query(
            "SELECT c.id, v.filter, v.reason FROM drafts c JOIN jobs j ON j.number = c.job"
            " JOIN drafts p ON p.id = j.parent JOIN verdicts v ON v.draft = c.id WHERE NOT p.kept"
        )
        assert orphans
        assert {(filter, reason) for _, filter, reason in orphans} == {("parent", "parent_dropped")}
        assert count(ledger, "drops", "reason = 'parent_dropped'") == len(orphans)


def test_judging_again_equals_a_fresh_judgement_of_the_same_drafts(whole: Run, stricter: Path) -> None:
    """Job by job as `RunState` decides, for jobs whose parents stand."""
    with Ledger.open(stricter) as ledger:
        state = RunState(Told.stored(ledger), target=None)
        asked = asked_of(state.config, ledger.models())
        for event in ledger.events():
            if event.kind != "settle" or event.job is None:
                continue
            job = ledger.job(event.job).job
            if job.parent and not count(ledger, "kept", f"id = '{job.parent}'"):
                continue
            drafts: list[Draft] = asyncio.run(perform(state, ledger, asked, job))
            outcomes = [state.judge(job, position, draft) for position, draft in enumerate(drafts, start=1)]
            stored = list(ledger.drafts(job=job.number))
            assert [o.sample is not None for o in outcomes] == [s.kept for s in stored]
            assert [[v.model_dump(mode="json") for v in o.verdicts] for o in outcomes] == [
                ledger.verdicts(s.id) for s in stored
            ]


def test_the_same_settings_give_the_same_verdicts_but_for_what_was_surplus(whole: Run, tmp_path: Path) -> None:
    rejudge(whole.folder, tmp_path / "same", {})
    surplus = {row[1] for row in verdicts(whole) if row[5] == "surplus"}
    judged = [row for row in verdicts(tmp_path / "same") if row[1] not in surplus]
    assert judged == [row for row in verdicts(whole) if row[1] not in surplus]


def test_surplus_drafts_come_back(tmp_path: Path) -> None:
    run = Run(tmp_path, n=4, concurrency=1, recipe={"name": "alpaca"}).drive(Model(triples))
    assert run.count("drops", "reason = 'surplus'") == 2
    rejudge(run.folder, tmp_path / "all", {})
    assert [row[:2] for row in verdicts(tmp_path / "all") if row[2]][::3] == [(i, f"1.{i}") for i in range(1, 7)]
    assert differences(tmp_path / "all") == []


def test_a_run_judged_again_twice_verifies(stricter: Path, tmp_path: Path) -> None:
    rejudge(stricter, tmp_path / "twice", {"rouge": {"threshold": 0.6}})
    assert differences(tmp_path / "twice") == []


@pytest.mark.parametrize(
    ("filters", "said"),
    [({"rogue": {}}, "rouge"), ({"rouge": {"treshold": 1}}, "threshold"), ({"rouge": {"threshold": 2}}, "2")],
)
def test_settings_that_there_are_not_leave_no_copy(whole: Run, tmp_path: Path, filters: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rejudge(whole.folder, tmp_path / "none", filters)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("retry", [False, True])
def test_a_filtered_run_is_not_gone_on_with(stricter: Path, retry: bool) -> None:
    with pytest.raises(RunError, match=r"judged again from .* continue that run"):
        Session(api.Run.of(stricter, {} if retry else {"n": 99})).drive(retry=retry)


def test_an_existing_folder_is_not_written_over(whole: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--into"):
        rejudge(whole.folder, tmp_path, {})
