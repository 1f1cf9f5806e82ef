"""Ctrl-C at the worst of moments."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from selfinstruct.cli import loop

pytestmark = pytest.mark.filterwarnings("error")


async def heard(cancelled: list[bool]) -> int:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.append(True)
        raise
    return 0


def test_ctrl_c_while_the_event_loop_is_made_cancels_what_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, cancelled = asyncio.events.new_event_loop, list[bool]()

    def interrupted() -> asyncio.AbstractEventLoop:
        signal.raise_signal(signal.SIGINT)
        return made()

    monkeypatch.setattr("asyncio.events.new_event_loop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(heard, cancelled)
    assert cancelled == [True]


def test_ctrl_c_is_heard_again_where_no_event_loop_could_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> asyncio.AbstractEventLoop:
        signal.raise_signal(signal.SIGINT)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("asyncio.events.new_event_loop", refused)
    with pytest.raises(KeyboardInterrupt):
        loop.run(heard, [])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_while_something_is_deleted_comes_a_moment_later() -> None:
    """There it cannot raise."""
    script = """
import signal, time
from selfinstruct.cli import main

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def cli(**_):
    Deleted()
    time.sleep(60)

main.cli = cli
main.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
