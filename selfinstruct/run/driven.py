"""A run while it is driven: how any thread stops it, and how a plain loop follows it. What it does is `run.session`'s.

A plain loop cannot wait for an event loop, least of all inside of one, as in a notebook. So the run has a thread of its
own, which goes on while the loop's body works; the thread ends before the loop is left, whatever it is left by.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from queue import SimpleQueue

from selfinstruct.run.engine import Engine
from selfinstruct.run.events import Event


class Stopped(Exception):
    """The run was told to stop while those whom it asks were being opened."""


class Going:
    """One going of a run, from its first event to its last.

    Made in any thread; all but `stop` is for the thread that drives the run.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.tasks = 0
        """Tasks kept before it began."""
        self.follower: Callable[[], object] = lambda: None
        """The iterator that drives the run; None once nobody holds it."""
        self.over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Timeout | None = None
        self._told = False

    def enter(self) -> None:
        """The event loop that runs is the one that drives the run."""
        self._loop = asyncio.get_running_loop()

    @property
    def left(self) -> bool:
        """Whether a loop in this event loop was left, and the event loop has still to close it."""
        return self.follower() is None and self._loop is asyncio.get_running_loop()

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """While it lasts, stopping cuts it short.

        Raises:
            Stopped: it was told to stop, by now or before.
        """
        # Whoever told us before we were there to be called left it written.
        if self._told:
            raise Stopped
        try:
            async with asyncio.timeout(None) as self._opening:
                yield
        except TimeoutError:
            if self._opening is None or not self._opening.expired():
                raise
            raise Stopped from None
        finally:
            self._opening = None

    def stop(self) -> None:
        """Stop what is being opened, or the engine; from any thread."""
        self._told = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop is closed: the run is over
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
        elif self._opening is not None and not self._opening.expired():
            self._opening.reschedule(0.0)


class Driven:
    """What drives a run in a thread, and is followed by a plain loop in another.

    Args:
        going: how it is stopped.
        driving: what drives it, not begun.
        name: of the thread.
    """

    def __init__(self, going: Going, driving: AsyncGenerator[Event, None], name: str) -> None:
        self._going = going
        self._driving = driving
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._error: BaseException | None = None
        # Whoever ends the program with an iterator in hand has stopped the run too: `atexit` sees to it.
        self._thread = threading.Thread(target=self._drive, name=name, daemon=True)

    def events(self) -> Iterator[Event]:
        """Everything that happens; whoever leaves off stops the run, and waits for it.

        Raises:
            BaseException: whatever the run was ended by, also if that was while it stopped.
        """
        atexit.register(self._leave)
        try:
            self._thread.start()
            while (event := self._queue.get()) is not None:
                yield event
        finally:
            self._leave()
            atexit.unregister(self._leave)
            if self._error is not None:
                raise self._error

    def _drive(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that follows
            self._error = error
        finally:
            self._queue.put(None)

    async def _follow(self) -> None:
        async with aclosing(self._driving) as events:
            async for event in events:
                self._queue.put(event)

    def _leave(self) -> None:
        """Stop the run, and wait for it; a Ctrl-C meanwhile ends the waiting for what is in flight."""
        self._going.stop()
        # Garbage is collected in any thread, so an iterator that was forgotten may be closed by the run itself.
        while self._thread.is_alive() and self._thread is not threading.current_thread():
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self._going.stop()
