"""Signals, kills, a second process, a terminal that goes away, a full and a read-only disk: on real processes."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.errors import RunError
from selfinstruct.run import session
from selfinstruct.run.session import new_folder
from selfinstruct.store.ledger import Ledger
from tests.support.cli import say
from tests.support.processes import Command, answer, command, model_server, program, until
from tests.support.runs import differences
from tests.support.server import ModelServer, hang, text
from tests.support.sql import count


def answers(run: Path) -> int:
    with Ledger.open(run) as ledger:
        return ledger.count("answers")


def kept(run: Path) -> int:
    with Ledger.open(run) as ledger:
        return count(ledger, "kept", "stage = 'instances'")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_settles_what_was_asked_and_the_same_command_goes_on(tmp_path: Path, name: str) -> None:
    with model_server(latency=0.05) as server:
        run = Command(server, tmp_path, n=60)
        with run.started(asked=30) as process:
            process.send_signal(signal.Signals[name])
            output, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "the same command continues it" in said
        assert "alpaca.json" in output
        assert answers(run.run) == len(server.requests), "an answer was asked for, awaited and lost"
        assert differences(run.run) == []
        run.arguments[-1] = str(kept(run.run) + 1)
        assert run.finish().returncode == 0


def test_a_second_signal_ends_the_wait_for_what_is_in_flight(tmp_path: Path) -> None:
    with model_server() as server:
        run = Command(server, tmp_path)
        with run.started(asked=10) as process:
            server.always(hang())
            until(lambda: server._now == run.concurrency or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert process.poll() is None, "gave up what was in flight at once"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=5) == 130
        assert differences(run.run) == []


def test_ctrl_c_while_a_run_begins_plans_nothing_and_asks_for_nothing(
    tmp_path: Path, server: ModelServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = session.begin

    def interrupted(*told: Any) -> Ledger:
        signal.raise_signal(signal.SIGINT)
        return begin(*told)

    monkeypatch.setattr(session, "begin", interrupted)
    assert say(capsys, *Command(server, tmp_path).arguments).code == 130
    assert not server.requests
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.count("jobs") == 0


def test_a_terminal_that_goes_away_loses_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with model_server(latency=0.05) as server:
        run = Command(server, tmp_path, n=60)

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        with run.started(asked=30, preexec_fn=own_terminal, **streams) as process:
            os.close(theirs)
            os.close(ours)
            assert process.wait(timeout=30) == 130
        assert answers(run.run) == len(server.requests)
        assert differences(run.run) == []


def test_a_killed_run_asks_again_only_for_what_was_in_flight(tmp_path: Path) -> None:
    with model_server(latency=0.02) as server:
        run, lost = Command(server, tmp_path, n=25), 0
        for asked in (5, 30):
            with run.started(asked=asked) as process:
                process.kill()
            until(lambda: server._now == 0)
            in_flight = len(server.requests) - lost - answers(run.run)
            assert 0 <= in_flight <= run.concurrency
            lost += in_flight
        assert run.finish().returncode == 0
        assert kept(run.run) == 25
        assert len(server.requests) == answers(run.run) + lost
        assert command("verify", f"{run.run}/.").returncode == 0


def test_while_a_run_goes_on_a_second_process_reads_it_and_may_not_continue_it(tmp_path: Path) -> None:
    with model_server(latency=0.01) as server:
        run = Command(server, tmp_path, n=1000)
        with run.started(asked=100) as first:
            for _ in range(10):
                assert differences(run.run) == []
            assert command("export", f"{run.run}/.").returncode == 0
            second = run.finish()
            assert second.returncode == 2
            assert f"in use by process {first.pid}" in second.stderr
            assert len(second.stderr.splitlines()) == 1
            assert first.poll() is None


def test_a_second_process_leaves_alone_what_the_first_has_not_yet_begun(tmp_path: Path) -> None:
    """The folder holds nothing but the lock while the first one waits for its backend."""
    with new_folder(tmp_path / "run"):
        with pytest.raises(RunError, match="in use by"), new_folder(tmp_path / "run"):
            pass
        assert (tmp_path / "run/lock").exists()
    assert not (tmp_path / "run").exists()


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    with model_server() as server:
        server.models = ("another",)
        refused = Command(server, tmp_path, "--model", "mine").finish()
    assert refused.returncode == 2
    assert not (tmp_path / "run").exists()


# -- disks ------------------------------------------------------------------------------------------------------------


def mounts() -> bool:
    """Whether this machine lets us mount in a namespace of our own."""
    return bool(shutil.which("unshare")) and not subprocess.run(["unshare", "-rm", "true"], check=False).returncode


def mounted(script: str) -> subprocess.CompletedProcess[str]:
    """A shell script where only it sees what it mounts."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(not mounts(), reason="mounts nothing here")
def test_a_full_disk_stops_the_run_and_with_more_room_it_goes_on(tmp_path: Path) -> None:
    with model_server() as server:
        server.answer = lambda body: text(says_much(body))
        run = Command(server, tmp_path, n=25)
        run.run.mkdir()
        generate = shlex.join([*program(), *run.arguments])
        script = f"""
            mount -t tmpfs -o size=700k tmpfs {run.run}
            {generate} --quiet; echo "code $?"
            mount -o remount,size=64m {run.run}
            {generate} --quiet; echo "code $?"
            cp {run.run}/ledger.sqlite {tmp_path}/
        """
        done = mounted(script)
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 2", "code 0"]
    assert "the disk is full: free some space and run again; nothing that was settled is lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert kept(tmp_path) == 25
    assert differences(tmp_path) == []
    assert len(server.requests) - answers(tmp_path) <= 2 * run.concurrency


def says_much(body: dict[str, object]) -> str:
    said = answer(body)
    return said + "\n\n" + "x" * 20_000 if body["max_tokens"] == 1024 else said


@pytest.mark.skipif(not mounts(), reason="mounts nothing here")
def test_a_run_on_a_read_only_disk_is_read_and_verified_and_not_continued(tmp_path: Path) -> None:
    with model_server() as server:
        run = Command(server, tmp_path, n=3)
        assert run.finish().returncode == 0
    run.arguments += ["-n", "9"]
    where = f"{run.run}/."
    done = mounted(f"""
        mount --bind {run.run} {run.run} && mount -o remount,ro,bind {run.run} || exit 9
        {shlex.join([*program(), *run.arguments])}; echo "code $?"
        {shlex.join([*program(), "verify", where])}; echo "code $?"
        {shlex.join([*program(), "export", where, "--to", str(tmp_path / "elsewhere")])}; echo "code $?"
        {shlex.join([*program(), "filter", where, "--into", str(tmp_path / "strict/copy")])}; echo "code $?"
    """)
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 2"] + ["code 0"] * 3
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
