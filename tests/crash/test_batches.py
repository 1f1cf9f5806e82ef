"""A run in batches that is killed at random instants: while a file is gathered, uploaded, submitted, waited for and
fetched, and while what came back is settled. `tests/test_batch_runs.py` kills it at each of these steps."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from selfinstruct.backends.openai import batch_api
from selfinstruct.backends.openai import gathered as batch
from selfinstruct.store.ledger import Ledger
from tests.crash.forks import Forked, performed
from tests.crash.killing import answers, is_whole, settled
from tests.support.batch_server import BatchServer
from tests.support.processes import Command, answer, until
from tests.support.sql import count

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

KILLS = 50
TASKS = 150


def soon() -> None:
    """Pauses that would take seconds take hundredths."""
    batch.QUIET = 0.05
    batch_api.FIRST_PAUSE = batch_api.LONGEST_PAUSE = 0.01


def test_a_run_in_batches_killed_fifty_times_submits_no_file_and_pays_for_no_line_twice(tmp_path: Path) -> None:
    rng, before, amid = Random(70), list[tuple[object, ...]](), 0
    # Many looks at a batch, so that many kills come while it is waited for.
    with BatchServer(answer=answer, statuses=("validating", *["in_progress"] * 10, "finalizing")) as server:
        run = Command(server, tmp_path, "--batch", concurrency=32, n=TASKS)
        for _ in range(KILLS):
            looks = server.calls.total() + rng.randrange(8)
            with Forked(*run.arguments, before=soon) as process:
                until(lambda: server.calls.total() >= looks or process.poll() is not None)  # noqa: B023
            if answers(run.run):
                assert settled(run.run)[: len(before)] == before, "what was settled has changed"
                before = settled(run.run)
                with Ledger.open(run.run) as ledger:
                    amid += count(ledger, "jobs", "state = 'planned'") > 0
        performed(*run.arguments, before=soon)
        with Ledger.open(run.run) as ledger:
            stored = {key.replace(":", "-") for (key,) in ledger.query("SELECT key FROM answers")}
        assert stored <= server.answered.keys()
        assert set(server.answered.values()) == {1}, "something was paid for twice"
        assert set(server.submitted().values()) == {1}
        assert not server.requests, "something was asked live"
    assert amid > KILLS / 3
    is_whole(run.run, TASKS)
