"""Servers that are not well, for minutes: what a run makes of every way in which requests fail (laws 3 and 6).
`make test-faults`.

The command line as a process asks a real server. Whatever it asks and in whichever order, each run meets every ill.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfinstruct.store.ledger import Ledger
from tests.faults.fates import ILLS, SLOWNESS, Accounts, Bursts, Fates
from tests.support.processes import Command, answer, command, until
from tests.support.runs import counts_add_up, differences, evolves
from tests.support.server import Body, ModelServer, Reply, error, rate_limited
from tests.support.sql import count

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

FEW = ("--timeout", "1", "--set", "backend.attempts=2")
"""So few attempts that some jobs fail."""


def failed(run: Command) -> int:
    with Ledger.open(run.run) as ledger:
        return count(ledger, "jobs", "state = 'failed'")


def is_accounted_for(run: Command, tasks: int | None) -> None:
    """Every job has ended with its reason, or was not wanted any more; the counts add up, and all of it derives."""
    with Ledger.open(run.run) as ledger:
        counts_add_up(ledger)
        assert not ledger.query(
            "SELECT number FROM jobs WHERE state = 'failed' AND NOT EXISTS"
            " (SELECT 1 FROM faults f WHERE f.job = number AND f.kind = error_kind AND f.message = error)"
        ), "what a job failed with is the fault that it met"
        if tasks is None:
            assert count(ledger, "jobs", "state = 'planned'") == 0
        else:
            assert count(ledger, "kept", "stage = 'instances'") == tasks
    assert command("verify", f"{run.run}/.").returncode == 0


def is_brought_through(run: Command) -> None:
    """`retry` asks for what failed, and it is answered."""
    assert failed(run) > 0
    done = command("retry", f"{run.run}/.")
    assert done.returncode == 0, done.stderr
    assert failed(run) == 0
    assert differences(run.run) == []


# -- a share of requests fails ----------------------------------------------------------------------------------------


def test_a_run_on_a_server_with_every_ill_ends_each_job_with_its_reason_and_retry_brings_it_through(
    tmp_path: Path,
) -> None:
    fates = Fates(answer, ILLS)
    with ModelServer(answer=fates, latency=0.02) as server:
        run = Command(server, tmp_path, *FEW, concurrency=16, n=150)
        done = run.finish()
        assert done.returncode == 1, done.stderr
        assert "failed; `selfinstruct retry" in done.stderr
        assert set(fates.drawn) == {"", *ILLS}
        is_accounted_for(run, 150)
        accounts = Accounts(run.run, server)
        accounts.balance()
        accounts.keep_to(2)
        server.answer = answer
        is_brought_through(run)
        is_accounted_for(run, 150)


def test_an_evolution_on_a_server_with_every_ill_ends_each_job_with_its_reason_and_retry_brings_it_through(
    tmp_path: Path,
) -> None:
    fates = Fates(lambda body: evolves(body["prompt"]), ILLS)
    with ModelServer(answer=fates, latency=0.02) as server:
        run = Command.evolution(server, tmp_path, *FEW, concurrency=16, tasks=120)
        assert run.finish().returncode == 1
        assert set(fates.drawn) == {"", *ILLS}
        is_accounted_for(run, None)
        accounts = Accounts(run.run, server)
        accounts.balance()
        accounts.keep_to(2)
        server.answer = lambda body: evolves(body["prompt"])
        is_brought_through(run)
        assert run.finish().returncode == 0
        is_accounted_for(run, None)


def test_with_attempts_enough_a_server_with_every_ill_costs_no_job(tmp_path: Path) -> None:
    with ModelServer(answer=Fates(answer, ILLS), latency=0.02) as server:
        run = Command(server, tmp_path, "--timeout", "1", "--ordered", concurrency=16, n=60)
        assert run.finish().returncode == 0
        is_accounted_for(run, 60)
        accounts = Accounts(run.run, server)
        accounts.balance()
        accounts.keep_to(5)


def test_an_answer_that_trickles_is_an_answer_unless_it_takes_longer_than_the_timeout(tmp_path: Path) -> None:
    fates = Fates(answer, SLOWNESS)
    with ModelServer(answer=fates) as server:
        run = Command(server, tmp_path, "--timeout", "4", concurrency=16, n=40)
        assert run.finish().returncode == 0
        is_accounted_for(run, 40)
        Accounts(run.run, server).balance()
    with Ledger.open(run.run) as ledger:
        assert ledger.query("SELECT DISTINCT kind FROM faults") == [("timeout",)]
        assert ledger.count("faults") == fates.drawn["slow"] > 0
        assert ledger.count("answers") == fates.drawn[""] + fates.drawn["fast"]
    assert fates.drawn["fast"] > 10


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [None, 0.3], ids=["without Retry-After", "with Retry-After"])
def test_to_be_told_to_wait_in_bursts_is_no_failed_attempt(tmp_path: Path, after: float | None) -> None:
    bursts = Bursts(answer, rate_limited(after), every=1.0, long=0.2)
    with ModelServer(answer=bursts, latency=0.02) as server:
        run = Command(server, tmp_path, "--set", "backend.attempts=1", concurrency=16, n=120)
        done = run.finish()
        assert done.returncode == 0, done.stderr
        is_accounted_for(run, 120)
        Accounts(run.run, server).balance()
    assert failed(run) == 0
    with Ledger.open(run.run) as ledger:
        assert ledger.count("faults") == count(ledger, "faults", "kind = 'rate_limited'") == bursts.refused > 0


def test_a_run_under_a_cap_of_requests_a_minute_keeps_to_it_whatever_the_server_would_take(tmp_path: Path) -> None:
    came = list[float]()

    def answering(body: Body) -> str:
        came.append(time.monotonic())
        return answer(body)

    with ModelServer(answer=answering) as server:
        run = Command(server, tmp_path, "--rpm", "900", concurrency=16, n=20)
        assert run.finish().returncode == 0
        is_accounted_for(run, 20)
    assert len(came) > 45
    for first, last in zip(came, came[30:], strict=False):
        assert last - first > 0.8 * 30 / 15, "thirty requests come in two seconds, give or take a little"


def test_a_budget_of_requests_is_never_exceeded_at_a_server_with_every_ill_though_the_run_is_killed(
    tmp_path: Path,
) -> None:
    with ModelServer(answer=Fates(answer, ILLS), latency=0.02) as server:
        run = Command(server, tmp_path, "--timeout", "1", "--max-requests", "150", concurrency=16, n=150)
        with run.started(asked=60) as process:
            process.kill()
        until(lambda: server._now == 0)
        done = run.finish()
        assert done.returncode in (0, 1), done.stderr
        assert "budget of 150 requests reached" in done.stderr
        # What was in flight at the kill is counted as sent, and may not have been.
        assert 150 - 2 * run.concurrency <= len(server.requests) <= 150
        asked = len(server.requests)
        assert "budget of 150 requests" in run.finish().stderr
        assert len(server.requests) == asked
        run.arguments += ["--max-requests", "9999"]
        run.finish()
        is_accounted_for(run, 150)


# -- servers that go away ---------------------------------------------------------------------------------------------


def test_a_server_that_is_restarted_costs_a_pause_and_no_job(tmp_path: Path) -> None:
    server = ModelServer(answer=answer, latency=0.05)
    with server:
        run = Command(server, tmp_path, concurrency=16, n=120)
        process = run.start()
        until(lambda: len(server.requests) > 80)
    try:
        time.sleep(3)
        assert process.poll() is None, "gave up a server that is restarted"
        with server:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
    finally:
        process.kill()
    with Ledger.open(run.run) as ledger:
        assert count(ledger, "faults", "kind = 'connection_refused'") > 0
    assert failed(run) == 0
    is_accounted_for(run, 120)
    accounts = Accounts(run.run, server)
    accounts.cover()
    accounts.keep_to(5)


@pytest.mark.parametrize("returns", [False, True], ids=["for good", "for a while"])
def test_of_two_servers_one_may_die_and_the_run_goes_on_with_the_other(tmp_path: Path, returns: bool) -> None:
    dying = ModelServer(answer=answer, latency=0.03)
    with ModelServer(answer=answer, latency=0.03) as well:
        with dying:
            run = Command(well, tmp_path, "--base-url", dying.base_url, concurrency=16, n=200)
            process = run.start()
            until(lambda: len(dying.requests) > 60 and len(well.requests) > 60)
        try:
            died = len(dying.requests)
            if returns:
                time.sleep(0.5)
                with dying:
                    _, said = process.communicate(timeout=60)
            else:
                _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        finally:
            process.kill()
    assert failed(run) == 0
    assert (len(dying.requests) > died) == returns
    is_accounted_for(run, 200)
    accounts = Accounts(run.run, well, dying)
    accounts.cover()
    accounts.keep_to(5)


@pytest.fixture(scope="module", autouse=True)
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, subprocess.Popen[str]]]:
    """A run on a server where nothing works, begun before all other tests: it takes longest."""

    def broken(body: Body) -> Reply:
        return error(500, "out of memory" if len(body["prompt"]) % 4 else "something else")

    with ModelServer(answer=broken) as server:
        run = Command(server, tmp_path_factory.mktemp("hopeless"), concurrency=16, n=20)
        with run.start() as process:
            yield run, process
            process.kill()


def test_a_server_where_nothing_works_ends_the_run_soon_and_says_what_was_met_most_often(
    hopeless: tuple[Command, subprocess.Popen[str]],
) -> None:
    run, process = hopeless
    _, said = process.communicate(timeout=180)
    assert process.returncode == 1
    with Ledger.open(run.run) as ledger:
        ((lasted,),) = ledger.query("SELECT max(at) - min(at) FROM faults")
    assert lasted < 150, "eight pauses that double, up to half a minute, and what each of them waited for"
    assert "500: out of memory" in next(line for line in said.splitlines() if "stopped" in line)
    assert "Traceback" not in said
    accounts = Accounts(run.run, run.server)
    accounts.balance()
    accounts.keep_to(5)
    run.server.answer = answer
    done = run.finish()
    assert failed(run) == 0 or done.returncode == 1
    is_accounted_for(run, 20)
