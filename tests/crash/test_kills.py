"""A run that cannot be lost: SIGKILL at random instants, dozens of times (law 2). `make test-crash`, minutes.

What every kill leaves is looked at before the run goes on: nothing that was settled has changed, and what is missing of
the answers is no more than what was in flight.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from random import Random

import pytest

from selfinstruct.errors import Transient
from selfinstruct.store.ledger import NAME, Ledger
from tests.processes import Command, command, environment, model_server, program, until
from tests.runs import Model, Run, answering, differences
from tests.test_faults import failing

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

KILLS = 50
TASKS = 150


def settled(run: Path) -> list[tuple[object, ...]]:
    """All that is settled, in its order."""
    with Ledger.open(run) as ledger:
        return ledger.query(
            "SELECT d.rank, d.id, d.kept, d.instruction, d.stayed, d.meta, v.filter, v.reason, v.detail"
            " FROM drafts d JOIN verdicts v ON v.draft = d.id ORDER BY d.rank, v.place"
        )


def answers(run: Path) -> int:
    if not (run / NAME).exists():
        return 0
    with Ledger.open(run) as ledger:
        return ledger.count("answers")


def is_whole(run: Path) -> None:
    """Exactly N, verified, and the counts add up."""
    assert command("verify", f"{run}/.").returncode == 0
    with Ledger.open(run) as ledger:
        assert ledger.count("kept", "stage = 'instances'") == TASKS
        assert ledger.count("drafts") == ledger.count("kept") + ledger.count("drops")


def killed_again_and_again(run: Command, rng: Random) -> int:
    """Kill and start the run `KILLS` times; how many answers were lost."""
    lost, before = 0, list[tuple[object, ...]]()
    for _ in range(KILLS):
        with run.started(asked=rng.randrange(12)) as process:
            time.sleep(rng.random() * 0.06)
            process.kill()
        until(lambda: run.server._now == 0)
        in_flight = len(run.server.requests) - lost - answers(run.run)
        assert 0 <= in_flight <= run.concurrency, "more was lost than was in flight"
        lost += in_flight
        if (run.run / NAME).exists():
            now = settled(run.run)
            assert now[: len(before)] == before, "what was settled has changed"
            before = now
    assert run.finish().returncode == 0
    return lost


def test_a_run_killed_fifty_times_pays_again_only_for_what_was_in_flight(tmp_path: Path) -> None:
    rng = Random(50)
    with model_server(latency=0.01) as asked:
        run = Command(asked, tmp_path, n=TASKS, concurrency=8)
        lost = killed_again_and_again(run, rng)
        assert len(asked.requests) == answers(run.run) + lost
    is_whole(run.run)


def test_an_ordered_run_killed_fifty_times_exports_what_one_exports_that_was_never_killed(tmp_path: Path) -> None:
    rng = Random(51)
    with model_server(latency=0.01) as asked:
        for name in ("whole", "killed"):
            (tmp_path / name).mkdir()
        whole = Command(asked, tmp_path / "whole", "--ordered", n=TASKS, concurrency=8)
        assert whole.finish().returncode == 0
        asked.requests.clear()
        run = Command(asked, tmp_path / "killed", "--ordered", n=TASKS, concurrency=8)
        lost = killed_again_and_again(run, rng)
        assert len(asked.requests) == answers(run.run) + lost
    is_whole(run.run)
    for path in (whole.run / "export").iterdir():
        assert (run.run / "export" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_run_killed_while_it_begins_begins_again(tmp_path: Path) -> None:
    """From the first instruction of the process on: a folder, a lock, half a ledger, no configuration yet."""
    rng = Random(52)
    with model_server(latency=0.01) as asked:
        for number in range(8):
            (tmp_path / str(number)).mkdir()
            run = Command(asked, tmp_path / str(number), n=2)
            with run.start() as process:
                until(lambda run=run: run.run.exists() or process.poll() is not None)  # type: ignore[misc]
                time.sleep(rng.random() * 0.25)
                process.kill()
            assert run.finish().returncode == 0
            assert (run.run / "config.toml").exists()
            assert command("verify", f"{run.run}/.").returncode == 0


def test_an_export_that_is_killed_is_whole_before_and_after(tmp_path: Path) -> None:
    rng = Random(53)
    with model_server(latency=0.01) as asked:
        run = Command(asked, tmp_path, n=60, concurrency=16)
        assert run.finish().returncode == 0
        files = {path: path.read_bytes() for path in (run.run / "export").iterdir()}
        for _ in range(15):
            with run.start() as process:
                time.sleep(0.5 + rng.random())
                process.kill()
            assert {path: path.read_bytes() for path in files} == files
        assert run.finish().returncode == 0
        assert sorted((run.run / "export").iterdir()) == sorted(files), "a part was left behind"


def test_a_judgement_that_is_killed_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """And leaves no copy that is not whole."""
    run = Run(tmp_path, n=40).drive(Model(failing(0.1, Transient("timeout", "…"))))
    before = (run.folder / NAME).read_bytes()
    rng = Random(54)
    for number in range(10):
        copy = tmp_path / f"copies/{number}"
        arguments = ["filter", f"{run.folder}/.", "--threshold", "0.4", "--into", str(copy)]
        with subprocess.Popen([*program(), *arguments], env=environment()) as process:
            time.sleep(0.4 + rng.random() * 0.6)
            process.kill()
        assert (run.folder / NAME).read_bytes() == before
        assert not copy.exists() or command("verify", f"{copy}/.").returncode == 0
        shutil.rmtree(copy, ignore_errors=True)
        assert command(*arguments).returncode == 0
        assert differences(copy) == []
    assert run.differences() == []


def test_an_ordered_run_cut_anywhere_in_any_timing_exports_the_same_bytes(tmp_path: Path) -> None:
    """In one process, where every moment can be tried: after each event, with timings of their own."""
    settings, answers = {"ordered": True, "window": 5, "concurrency": 5, "n": 6}, answering(0.5, listed=2)
    whole = Run(tmp_path / "whole", **settings).drive(Model(answers, timing=1))
    exports, moments = whole.exports(), len(whole.events)
    for how in ("cut_after", "stop_after"):
        for moment in range(1, moments):
            run = Run(tmp_path / how / str(moment), **settings)
            run.drive(Model(answers, timing=moment), **{how: moment})
            run.drive(Model(answers, timing=-moment), **{how: moments // 2})
            assert run.drive(Model(answers, timing=moment + 1)).exports() == exports, (how, moment)
            assert run.differences() == []
