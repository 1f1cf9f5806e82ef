"""The entries into the event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def run(main: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.run(main(…))`, to which Ctrl-C comes only once `main` has begun.

    In an event loop that is half made it would raise where nothing can catch it, and write a traceback.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; `main` was cancelled.
    """

    async def begun() -> T:
        # What was pressed meanwhile is heard here, and cancels.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return await main(*args, **kwargs)

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with asyncio.Runner() as runner:
            runner.get_loop()  # where none can be made, no coroutine is left that nobody awaits
            return runner.run(begun())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def anywhere(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function returns that enters an event loop of its own; called where one is running, as in a notebook, it
    works in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work(*args, **kwargs)
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work, *args, **kwargs).result()
