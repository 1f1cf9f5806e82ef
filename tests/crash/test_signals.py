"""Whoever ends a run politely: signals at any moment, keys typed at a terminal, a terminal that is gone, and several
who would all like to drive the same run. What is asked of each signal once stands in `tests/test_processes.py`."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.crash.forks import Forked, performed
from tests.crash.killing import Killing, answers, is_whole
from tests.support.processes import Command, environment, model_server, program, until
from tests.support.runs import differences
from tests.support.server import hang

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_at_any_moment_of_a_process_loses_no_answer_that_was_asked_for(tmp_path: Path, name: str) -> None:
    """Before it is heard, while it is settled what is in flight, and in the export."""
    number, codes = signal.Signals[name], list[int]()
    with model_server(latency=0.01) as server:
        run = Command(server, tmp_path, n=60)
        moments = Killing(run, number)
        for _ in range(16):
            with Forked(*run.arguments) as process:
                until(lambda process=process: process.begun)  # type: ignore[misc]
                moments.moment(process)
                with suppress(ProcessLookupError):
                    process.send_signal(number)
                codes.append(process.wait())
                assert "Traceback" not in process.said, process.said
                assert len(server.requests) == answers(run.run), process.said
        moments.finish()
    assert set(codes) <= {0, 130, -number}
    assert codes.count(130) > 2
    is_whole(run.run, 60)


@contextmanager
def terminal() -> Iterator[tuple[int, int, Callable[[], None]]]:
    """A terminal: our end of it and theirs, and what makes it the one of a new process."""
    ours, theirs = pty.openpty()

    def own() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    try:
        yield ours, theirs, own
    finally:
        for descriptor in (ours, theirs):
            with suppress(OSError):
                os.close(descriptor)


def read_on(descriptor: int) -> list[bytes]:
    """What comes, read by a thread so that nobody has to wait for us."""
    came = list[bytes]()

    def read() -> None:
        with suppress(OSError):
            while part := os.read(descriptor, 65_536):
                came.append(part)

    threading.Thread(target=read, daemon=True).start()
    return came


def test_ctrl_c_typed_twice_at_the_panel_ends_it_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with model_server() as server, terminal() as (ours, theirs, own):
        run, answer = Command(server, tmp_path, n=20), server.answer
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        with run.started(asked=10, preexec_fn=own, **streams) as process:
            came = read_on(ours)
            server.always(hang())
            until(lambda: server._now == run.concurrency or process.poll() is not None)
            os.write(ours, b"\x03")
            until(lambda: b"stopping" in b"".join(came))
            assert process.poll() is None, "gave up what was in flight at once"
            os.write(ours, b"\x03")
            assert process.wait(timeout=5) == 130
        assert b"Traceback" not in b"".join(came)
        assert differences(run.run) == []
        server.answer = answer
        performed(*run.arguments)
    is_whole(run.run, 20)


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with model_server(latency=0.02) as server, terminal() as (ours, theirs, own), ExitStack() as stack:
        run = Command(server, tmp_path, n=30)
        said = stack.enter_context((tmp_path / "said").open("wb"))
        nohup = ["nohup", *program(), *run.arguments]
        streams = {"stdin": theirs, "stdout": said, "stderr": said}
        process = stack.enter_context(subprocess.Popen(nohup, **streams, env=environment(), preexec_fn=own))  # noqa: PLW1509
        stack.callback(process.kill)
        until(lambda: len(server.requests) > 20 or process.poll() is not None)
        os.close(theirs)
        os.close(ours)
        assert process.wait(timeout=60) == 0
        assert len(server.requests) == answers(run.run)
    is_whole(run.run, 30)


@pytest.mark.parametrize("begun", [False, True])
def test_of_eight_who_start_the_same_run_at_once_one_drives_it_and_the_others_say_so(
    tmp_path: Path, begun: bool
) -> None:
    with model_server(latency=0.05) as server, ExitStack() as stack:
        run = Command(server, tmp_path, n=20)
        if begun:
            performed(*Command(server, tmp_path, n=1).arguments)
        all_of_them = [stack.enter_context(Forked(*run.arguments)) for _ in range(8)]
        codes = [process.wait() for process in all_of_them]
        assert sorted(codes) == [0] + 7 * [2]
        for process, code in zip(all_of_them, codes, strict=True):
            if code == 2:
                (line,) = process.said.splitlines()
                assert "in use by" in line  # whose name may not be written yet
        assert len(server.requests) == answers(run.run)
    is_whole(run.run, 20)
