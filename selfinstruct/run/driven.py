"""A run while it is driven: how any thread stops it, and how a loop follows it. What it does is `run.session`'s.

A plain loop cannot wait for an event loop, least of all inside of one, as in a notebook. So the run has a thread of its
own, which goes on while the loop's body works; the thread ends before the loop is left, whatever it is left by.

With `async for` the run has a task of its own, which waits while the loop's body works. Were the loop to step through
the generators themselves, `asyncio.run` would close them all at once at its end, each under the hands of the others; a
task it cancels, and that closes what it holds in order.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Self

from selfinstruct.errors import UserError
from selfinstruct.run.engine import Engine
from selfinstruct.run.events import Event

log = logging.getLogger(__name__)

HEARS_EVERY = 0.1
"""Seconds after which a plain loop that holds an event loop up looks whether a Ctrl-C has come."""


class Stopped(Exception):
    """The run was told to stop while those whom it asks were being opened."""


class Going:
    """One going of a run, from its first event to its last.

    Made in any thread; all but `stop` and `leave` is for the thread that drives the run.
    """

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.tasks = 0
        """Tasks kept before it began."""
        self.forsaken = False
        """Whether nobody follows it any more."""
        self.wanted = asyncio.Event()
        """Set while whoever follows it waits for what happens next."""
        self.over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Timeout | None = None
        self._told = False

    def enter(self) -> None:
        """The event loop that runs is the one that drives the run."""
        self._loop = asyncio.get_running_loop()

    @property
    def left(self) -> bool:
        """Whether a loop in this event loop was left, and the run has still to end there."""
        return self.forsaken and self._loop is asyncio.get_running_loop()

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
        self._call(self._stop)

    def leave(self) -> None:
        """Nobody follows it any more, so stop, if that was not told already; from any thread."""
        self.forsaken = True
        if not self._told:
            self.stop()
        self._call(self.wanted.set)

    def _call(self, callback: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop is closed: the run is over
                self._loop.call_soon_threadsafe(callback)

    def _stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
        elif self._opening is not None and not self._opening.expired():
            self._opening.reschedule(0.0)


class Followed:
    """What drives a run in a task, and is followed by `async for` in another.

    Args:
        going: how it is stopped.
        driving: what drives it, not begun.
    """

    def __init__(self, going: Going, driving: AsyncGenerator[Event, None]) -> None:
        self._going = going
        self._driving = driving
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task: asyncio.Task[BaseException | None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """What happens next; who is cancelled meanwhile has cancelled the run.

        Raises:
            BaseException: whatever the run was ended by.
        """
        self._going.wanted.set()
        task = self._task = self._task or _task(self._going, self._driving, self._queue)
        if task.done() and self._queue.empty():
            raise StopAsyncIteration
        try:
            event = await self._queue.get()
        except asyncio.CancelledError:
            if not task.cancelling():
                task.cancel()
            await _end(task)
            raise
        if event is None:
            await _end(task)
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Stop the run, and wait for it; who is cancelled meanwhile has cancelled the run.

        Raises:
            BaseException: whatever the run was ended by while it stopped.
        """
        if self._task is not None and not self._task.done():
            self._going.leave()
            await _end(self._task)

    def __del__(self) -> None:
        if self._task is not None and not self._task.done():
            self._going.leave()


_TASKS: set[asyncio.Task[BaseException | None]] = set()
"""Those that drive runs: an event loop alone does not keep a task from the collector of garbage."""


def _task(
    going: Going, driving: AsyncGenerator[Event, None], queue: asyncio.Queue[Event | None]
) -> asyncio.Task[BaseException | None]:
    """Does not hold whoever follows, who is known to have left once nobody holds him."""

    def over(task: asyncio.Task[BaseException | None]) -> None:
        _TASKS.discard(task)
        queue.put_nowait(None)
        if going.forsaken and not task.cancelled() and isinstance(error := task.exception(), UserError):
            log.info("ended after its loop was left: %s", error)

    task = asyncio.create_task(_drive(going, driving, queue))
    _TASKS.add(task)
    task.add_done_callback(over)
    return task


async def _drive(
    going: Going, driving: AsyncGenerator[Event, None], queue: asyncio.Queue[Event | None]
) -> BaseException | None:
    """What is to be raised in the task that follows: a Ctrl-C that comes to another would be told on standard error."""
    try:
        async with aclosing(driving) as events:
            async for event in events:
                if not going.forsaken:
                    going.wanted.clear()
                    queue.put_nowait(event)
                    await going.wanted.wait()
    except (KeyboardInterrupt, SystemExit) as error:
        if going.forsaken:
            raise
        return error
    return None


async def _end(task: asyncio.Task[BaseException | None]) -> None:
    if (error := await task) is not None:
        raise error


class Interrupts:
    """Hears of a Ctrl-C that `asyncio.run` keeps until its event loop gets control, which a plain loop holds up.

    All that is to be seen of it is that the task in which the plain loop runs was asked to cancel.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        with suppress(RuntimeError):
            self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task else 0
        self.every = HEARS_EVERY if self._task else None
        """Seconds that may be waited between two looks; None where it comes by itself."""

    def hear(self) -> None:
        """Let out a Ctrl-C that was kept.

        Raises:
            KeyboardInterrupt: there was one.
        """
        if self._task and self._task.cancelling() > self._before:
            self._task.uncancel()
            raise KeyboardInterrupt


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
        self._interrupts = Interrupts()
        atexit.register(self._leave)
        try:
            self._thread.start()
            while (event := self._next()) is not None:
                yield event
        finally:
            self._leave()
            atexit.unregister(self._leave)
            if self._error is not None:
                raise self._error

    def _next(self) -> Event | None:
        while True:
            self._interrupts.hear()
            with suppress(Empty):
                return self._queue.get(timeout=self._interrupts.every)

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
        self._going.leave()
        # Garbage is collected in any thread, so an iterator that was forgotten may be closed by the run itself.
        while self._thread.is_alive() and self._thread is not threading.current_thread():
            try:
                self._thread.join(self._interrupts.every)
                self._interrupts.hear()
            except KeyboardInterrupt:
                self._going.stop()
