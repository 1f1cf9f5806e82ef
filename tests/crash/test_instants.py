"""Death at each instant at which a process is about to do something to its disk: the ones that chance may miss.

Before every statement of SQL, inside a transaction or not, and before every file or folder that is opened, made,
renamed or removed. Where there are very many, every so-manieth.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfinstruct.store.ledger import Ledger
from tests.crash.forks import Forked, deaths, dies_at, performed
from tests.crash.killing import Killing, answers, files, is_whole
from tests.support.processes import Command, model_server, until
from tests.support.runs import differences
from tests.support.server import ModelServer, error
from tests.support.sql import count

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


def finished(server: ModelServer, folder: Path, *flags: str, n: int) -> Command:
    """A run that came to its end."""
    run = Command(server, folder, *flags, n=n)
    performed(*run.arguments)
    return run


def test_a_run_that_dies_at_any_instant_of_its_life_goes_on_and_is_whole(tmp_path: Path) -> None:
    """From an empty folder to the export, which each of these deaths cuts short in another place."""
    with model_server() as server:
        for instant in range(1, 10_000, 19):
            (folder := tmp_path / str(instant)).mkdir()
            run = Command(server, folder, n=4)
            asked = len(server.requests)
            with Forked(*run.arguments, before=dies_at(folder, instant)) as process:
                code = process.wait()
            until(lambda: server._now == 0)
            lost = len(server.requests) - asked - answers(run.run)
            assert 0 <= lost <= run.concurrency
            performed(*run.arguments)
            assert len(server.requests) - asked == answers(run.run) + lost
            is_whole(run.run, 4)
            assert not list(run.run.rglob(".*")), "a part was left behind"
            if code == 0:
                break
    assert instant > 19 * 15


def test_an_export_that_dies_at_any_instant_leaves_every_file_as_it_was_or_as_it_will_be(tmp_path: Path) -> None:
    with model_server() as server:
        run = finished(server, tmp_path, n=3)
        old = files(run.run / "export")
        run.arguments[-1] = "6"
        performed(*run.arguments)
    new = files(run.run / "export")
    assert old.keys() == new.keys()
    for name, content in old.items():
        (run.run / "export" / name).write_bytes(content)
    differing, seen = [name for name in new if new[name] != old[name]], set[tuple[bool, ...]]()
    for _ in deaths(run.run / "export", "export", f"{run.run}/.", "--force"):
        now = {name: content for name, content in files(run.run / "export").items() if not name.startswith(".")}
        assert now.keys() == old.keys(), "a file is missing"
        assert all(content in (old[name], new[name]) for name, content in now.items()), "a file is not whole"
        seen.add(tuple(now[name] == new[name] for name in differing))
    assert len(seen) == len(differing) + 1, "each file moves up in a step of its own"
    assert files(run.run / "export") == new


def test_an_export_in_another_layout_that_dies_at_any_instant_is_never_beside_the_one_before(tmp_path: Path) -> None:
    with model_server() as server:
        run = finished(server, tmp_path, n=20)
    export = ("export", f"{run.run}/.", "--force", "--validation", "0.2", "--format", "alpaca")
    performed("export", f"{run.run}/.", "--force", "--format", "alpaca")
    whole = {path.name for path in (run.run / "export").glob("alpaca.*")}
    for _ in deaths(run.run, *export):
        there = {path.name for path in (run.run / "export").glob("alpaca*")}
        assert there <= whole or not there & whole
    assert {path.name for path in (run.run / "export").glob("alpaca*")} == {
        "alpaca-train.json", "alpaca-train.jsonl", "alpaca-validation.json", "alpaca-validation.jsonl",
    }  # fmt: skip


def test_a_retry_that_dies_at_any_instant_loses_no_answer_and_no_failed_job(tmp_path: Path) -> None:
    with model_server() as server:
        answer = server.answer
        server.answer = lambda body: error(500) if len(body["prompt"]) % 3 == 0 else answer(body)
        run = Command(server, tmp_path, "--set", "backend.attempts=1", n=12)
        performed(*run.arguments, code=1)
        server.answer = answer
        with Ledger.open(run.run) as ledger:
            failed = count(ledger, "jobs", "state = 'failed'")
            faults = ledger.count("faults")
        assert failed > 5
        killing = Killing(run)
        killing.look(lost=faults)
        died = 0
        for _ in deaths(run.run, "retry", f"{run.run}/.", stride=7):
            died += 1
            killing.look()
    assert died > 10
    assert len(server.requests) == answers(run.run) + killing.lost
    with Ledger.open(run.run) as ledger:
        assert count(ledger, "jobs", "state = 'failed'") == 0
        assert ledger.query("SELECT count(DISTINCT job) FROM events WHERE kind = 'retry'") == [(failed,)]
    is_whole(run.run, 12)


def test_a_judgement_that_dies_at_any_instant_leaves_the_run_as_it_was_and_no_copy_that_is_not_whole(
    tmp_path: Path,
) -> None:
    with model_server() as server:
        run = finished(server, tmp_path, n=12)
    before = files(run.run)
    copy = tmp_path / "copy"
    arguments = ("filter", f"{run.run}/.", "--threshold", "0.4", "--into", str(copy))
    for _ in deaths(tmp_path, *arguments, stride=5):
        assert files(run.run) == before
        if copy.exists():
            assert differences(copy) == []
            shutil.rmtree(copy)
    assert differences(copy) == []
    assert [path.name for path in tmp_path.glob(".copy*")] == []
