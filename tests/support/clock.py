"""Time that passes only while everybody sleeps."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import Any

TURNS = 40
"""Turns of the event loop after which, if nobody wants to sleep any more, all sleep."""


class Clock:
    """A clock, and the sleep that goes with it: `await clock.run(work(), …)` lets time pass as far as it must."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(0.0, seconds), next(self._number), sleeper))
        await sleeper

    async def run(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Do all of it at once; whoever sleeps wakes in the order of the times, as soon as all others sleep."""
        done = asyncio.gather(*work, return_exceptions=True)
        while not done.done():
            await self._until_quiet()
            if self._sleepers and not done.done():
                self.now, _, sleeper = heapq.heappop(self._sleepers)
                if not sleeper.done():
                    sleeper.set_result(None)
        for result in done.result():
            if isinstance(result, BaseException):
                raise result
        return done.result()

    async def _until_quiet(self) -> None:
        quiet = 0
        while quiet < TURNS:
            before = len(self.slept)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.slept) == before else 0
            if self._sleepers and quiet >= 6:
                return
