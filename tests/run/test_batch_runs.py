"""Runs in batches, as people make them: by the command line, killed at every step, continued to the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfinstruct.backends.openai import gathered as batch
from selfinstruct.store.ledger import Ledger
from tests.support.batch_server import BatchServer, Fate
from tests.support.cli import Said
from tests.support.processes import answer, command, environment
from tests.support.runs import written_seeds
from tests.support.sql import count

TASKS = 20
DRIVER = textwrap.dedent("""
    import os, signal, sys
    from selfinstruct.backends.openai import batch_api, gathered as batch
    from selfinstruct.backends.openai.batch_files import Batch
    from selfinstruct.cli.main import run
    from selfinstruct.store.ledger import Ledger

    when = sys.argv.pop(1)
    batch.QUIET = 0.1
    batch_api.FIRST_PAUSE = batch_api.LONGEST_PAUSE = 0.01
    save, store, stored = Batch.save, Ledger.answer, []

    def die_at(moment):
        if moment == when:
            os.kill(os.getpid(), signal.SIGKILL)

    def saved(self, **changes):
        stage = changes.get("stage", "written")
        die_at(f"before {stage}")
        save(self, **changes)
        die_at(stage)

    def answered(self, *arguments, **named):
        store(self, *arguments, **named)
        stored.append(1)
        die_at(f"{len(stored)} answers")

    Batch.save, Ledger.answer = saved, answered
    run()
""")
MOMENTS = [
    f"{how}{stage}" for stage in ("written", "uploaded", "submitted", "ended", "fetched") for how in ("before ", "")
]


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer(answer=answer) as running:
        yield running


class Generate:
    """`selfinstruct generate --batch` on one run, in a process that dies at a moment of our choice."""

    def __init__(self, server: BatchServer, folder: Path, *flags: str) -> None:
        self.run = folder / "run"
        told = {"--seeds": written_seeds(folder), "--base-url": server.base_url, "--dialect": "completion", "-n": TASKS}
        self.arguments = ["generate", "--batch", "--run", f"{self.run}/.", *flags]
        self.arguments += [str(part) for pair in told.items() for part in pair]

    def until(self, moment: str) -> Said:
        process = [sys.executable, "-c", DRIVER, moment, *self.arguments]
        done = subprocess.run(process, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    def to_its_end(self) -> Said:
        return self.until("")


def is_whole(run: Path, server: BatchServer) -> None:
    """N tasks, verified; each file submitted once, and each line answered once."""
    assert command("verify", f"{run}/.").returncode == 0
    with Ledger.open(run) as ledger:
        assert count(ledger, "kept", "stage = 'instances'") == TASKS
        stored = {key.replace(":", "-") for (key,) in ledger.query("SELECT key FROM answers")}
    assert stored <= set(server.answered)
    assert set(server.answered.values()) == {1}, "something was paid for twice"
    assert set(server.submitted().values()) == {1}


def test_a_run_in_batches_reaches_its_target_and_verifies(server: BatchServer, tmp_path: Path) -> None:
    server.shuffled = 7
    run = Generate(server, tmp_path)
    done = run.to_its_end()
    assert done.code == 0, done.err
    assert "batches/0001: batch_1 is completed" in done.err
    assert not server.requests, "nothing was asked live"
    assert len(server.batches) < 12 < server.answered.total()
    is_whole(run.run, server)


@pytest.mark.crash
def test_a_run_killed_at_every_step_of_its_batches_asks_nothing_twice(server: BatchServer, tmp_path: Path) -> None:
    run = Generate(server, tmp_path)
    for moment in (*MOMENTS, "3 answers"):
        assert run.until(moment).code == -signal.SIGKILL, moment
        assert set(server.submitted().values()) <= {1}, moment
    done = run.to_its_end()
    assert done.code == 0, done.err
    is_whole(run.run, server)


def test_a_run_whose_batches_expire_asks_the_rest_again(server: BatchServer, tmp_path: Path) -> None:
    server.fates.extend([Fate("expired", answered=1), Fate("cancelled", answered=2), Fate(answered=2, silent=True)])
    run = Generate(server, tmp_path)
    done = run.to_its_end()
    assert done.code == 0, done.err
    is_whole(run.run, server)


def test_a_run_begun_in_batches_goes_on_without_them(server: BatchServer, tmp_path: Path) -> None:
    run = Generate(server, tmp_path)
    assert run.until("3 answers").code == -signal.SIGKILL
    run.arguments.append("--no-batch")
    done = run.to_its_end()
    assert done.code == 0, done.err
    assert server.requests
    assert command("verify", f"{run.run}/.").returncode == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--backend", "llamacpp"), "`batch` is for kind `openai`, not `llamacpp`: leave it out"),
        (("--backend", "vllm"), "`batch` is for kind `openai`, not `vllm`: leave it out"),
        (("--backend", "vllm", "--base-url", "http://x/v1"), "`batch` is for kind `openai`, not `vllm`: leave it out"),
    ],
)
def test_where_there_are_no_batches_it_says_so(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    done = command("generate", "--batch", *flags, "--run", f"{tmp_path}/run")
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_longer_than_openai_takes() -> None:
    assert (batch.MOST_LINES, batch.MOST_BYTES) == (50_000, 200_000_000)
