"""Ctrl-C at the worst of moments."""

from __future__ import annotations

import asyncio
import signal

import pytest

from selfinstruct.run import loop

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
