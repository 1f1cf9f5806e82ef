"""A clock that is set back, between and during sessions: what counts is the order of events, not when they were.

The clock is the one on the wall, as a process reads it; the one that only ever goes on measures every pause.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfinstruct.store.ledger import Ledger
from tests.crash.forks import clock, performed
from tests.crash.killing import Killing, is_whole
from tests.support.processes import Command, model_server
from tests.support.server import error, hang

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

DAY = 86_400.0


def times(run: Path, table: str) -> list[float]:
    """When each row was written, by the order of writing."""
    with Ledger.open(run) as ledger:
        return [at for (at,) in ledger.query(f"SELECT at FROM {table} ORDER BY {table}.rowid")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A run whose clock ran backwards, a thousand seconds in each, and was set back a day with each of its sessions."""
    with model_server(latency=0.01) as server:
        run = Command(server, tmp_path_factory.mktemp("clock"), n=80)
        killing = Killing(run, 60)
        for session in range(8):
            killing.kill(before=clock(-DAY * session, -1000.0))
        killing.finish(before=clock(-DAY * 8, -1000.0))
        assert killing.amid > 4
        yield run


def test_a_run_whose_clock_is_set_back_is_whole(run: Command) -> None:
    is_whole(run.run, 80)


@pytest.mark.parametrize("table", ["answers", "events"])
def test_the_order_of_a_run_is_that_of_its_events_though_each_seems_earlier_than_the_one_before(
    run: Command, table: str
) -> None:
    at = times(run.run, table)
    assert at == sorted(at, reverse=True)
    assert at[0] - at[-1] > 2 * DAY


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("status", "--json"), ("drops",), ("show", "1.1"), ("card",), ("report",), ("export", "--force")],
    ids=" ".join,
)
@pytest.mark.parametrize("now", [0.0, -400 * DAY], ids=["now", "before it all"])
def test_whoever_looks_at_it_is_told(run: Command, tmp_path: Path, arguments: tuple[str, ...], now: float) -> None:
    command, *rest = arguments
    assert performed(command, f"{run.run}/.", *rest, before=clock(now))


def test_a_wall_clock_that_stands_still_or_leaps_disturbs_no_pause(tmp_path: Path) -> None:
    """Timeouts and pauses between attempts go by the other clock."""
    for name, rate in (("still", 0.0), ("leaps", 1e6)):
        (tmp_path / name).mkdir()
        with model_server() as server:
            server.then(error(500), hang(), error(500))
            run = Command(server, tmp_path / name, "--timeout", "1", n=4)
            performed(*run.arguments, before=clock(0.0, rate))
        is_whole(run.run, 4)
