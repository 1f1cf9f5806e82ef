"""A run that cannot be lost: SIGKILL at random instants, dozens of times (law 2). `make test-crash`, minutes.

What every kill leaves is looked at before the run goes on: nothing that was settled has changed, and what is missing of
the answers is no more than what was in flight. `test_instants` is about instants that chance may miss.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from selfinstruct.store.ledger import Ledger
from tests.crash.forks import performed
from tests.crash.killing import Killing, is_whole
from tests.support.processes import Command, evolving_server, model_server, until
from tests.support.runs import Model, Run, answering, counts_add_up, differences
from tests.support.sql import count

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

KILLS = 50
TASKS = 150


def test_a_run_killed_fifty_times_pays_again_only_for_what_was_in_flight_and_reaches_exactly_n(tmp_path: Path) -> None:
    with model_server(latency=0.01) as asked:
        killing = Killing(run := Command(asked, tmp_path, n=TASKS), 50)
        for _ in range(KILLS):
            killing.kill()
        killing.finish()
    assert killing.amid > KILLS / 2, "most kills came when all was done"
    is_whole(run.run, TASKS)


def test_an_ordered_run_killed_fifty_times_exports_what_one_exports_that_was_never_killed(tmp_path: Path) -> None:
    with model_server(latency=0.01) as asked:
        for name in ("whole", "killed"):
            (tmp_path / name).mkdir()
        whole = Command(asked, tmp_path / "whole", "--ordered", n=TASKS)
        performed(*whole.arguments)
        asked.requests.clear()
        killing = Killing(run := Command(asked, tmp_path / "killed", "--ordered", n=TASKS), 51)
        for _ in range(KILLS):
            killing.kill()
        killing.finish()
    assert killing.amid > KILLS / 2
    is_whole(run.run, TASKS)
    for path in (whole.run / "export").iterdir():
        assert (run.run / "export" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_evolution_killed_again_and_again_takes_every_family_through_every_round(tmp_path: Path) -> None:
    with evolving_server(latency=0.01) as asked:
        killing = Killing(run := Command.evolution(asked, tmp_path, tasks=80), 52)
        for _ in range(20):
            killing.kill()
        killing.finish()
    assert killing.amid > 10
    assert differences(run.run) == []
    with Ledger.open(run.run) as ledger:
        counts_add_up(ledger)
        evolved = "SELECT json_extract(payload, '$.root'), count(*) FROM jobs WHERE stage = 'evolve' GROUP BY 1"
        assert [rounds for _, rounds in ledger.query(evolved)] == [2] * 80
        assert count(ledger, "jobs", "state <> 'settled'") == 0


def test_a_run_killed_while_its_target_grows_never_asks_twice_for_what_it_has(tmp_path: Path) -> None:
    """Each time it was complete, exported, and is asked for more: what arrived late the last time is used."""
    with model_server(latency=0.01) as asked:
        killing = Killing(run := Command(asked, tmp_path, n=5), 53)
        for n in range(5, 55, 5):
            run.arguments[-1] = str(n)
            killing.kill()
            killing.finish()
            is_whole(run.run, n)


def test_a_program_killed_while_it_starts_and_begins_a_run_begins_it_the_next_time(tmp_path: Path) -> None:
    """From the first instruction of the interpreter on."""
    rng = Random(54)
    with model_server(latency=0.01) as asked:
        for number in range(4):
            (tmp_path / str(number)).mkdir()
            run = Command(asked, tmp_path / str(number), n=2)
            with run.start() as process:
                until(lambda run=run: run.run.exists() or process.poll() is not None)  # type: ignore[misc]
                time.sleep(rng.random() * 0.25)
                process.kill()
            performed(*run.arguments)
            is_whole(run.run, 2)
            assert (run.run / "config.toml").exists()


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
