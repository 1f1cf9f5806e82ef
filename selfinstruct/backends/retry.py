"""The one function that knows what is worth asking again, and the throttle that a whole run shares.

A `Transient` fault is a failed attempt: the next one follows after a random part of a pause that doubles. A
`RateLimited` fault is none: the server would have answered, only not yet, so the request waits with all others of
the run until the server wants to hear from us again. Everything else is not worth asking again and passes through.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from selfinstruct.errors import Fault, RateLimited, Transient
from selfinstruct.records import Completion, Request

FIRST_PAUSE = 0.5
"""Seconds that the pause after a first failed attempt is drawn from; doubles with each further one."""
LONGEST_PAUSE = 30.0
"""Seconds at which pauses stop doubling."""
PATIENCE = 15 * 60.0
"""Seconds without a single answer to the run, after which being told to wait counts as a fault."""

OnFault = Callable[[Fault, int], None]
"""Is told every fault and the attempt (from 1) that met it."""
Sleep = Callable[[float], Awaitable[None]]


class Askable(Protocol):
    """A backend, or whatever stands before one."""

    @property
    def complete(self) -> Callable[[Request], Awaitable[Completion]]:
        """See `Backend.complete`."""
        ...


class Throttle:
    """When the requests of a run may be sent again, after the server asked for fewer.

    One for all requests to a server, so that one answer of 429 holds them all back.

    Args:
        clock: seconds that never run backwards.
        sleep: waits that many seconds.
        rng: source of the spread between requests that return.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.clock = clock
        self.sleep = sleep
        self.rng = rng or random.Random()
        self.answered_at = clock()
        self._not_before = 0.0
        self._pause = 0.0
        self._held_at = float("-inf")
        self._strikes = 0

    async def ready(self) -> float:
        """Wait until a request may be sent; returns the instant of sending, for `held` and `answered`."""
        spread = self.rng.random() / 4
        while (wait := self._not_before + spread * self._pause - self.clock()) > 0:
            await self.sleep(wait)
        return self.clock()

    def held(self, sent_at: float, retry_after: float | None) -> None:
        """A request that was sent at `sent_at` was told to wait: hold back all others too.

        Many in flight are told so at once; only the first of them lengthens the pause.
        """
        now = self.clock()
        if sent_at >= self._held_at:
            self._held_at = now
            self._strikes += 1
            self._pause = _doubled(self._strikes)
        if retry_after is not None:
            self._pause = retry_after
        self._not_before = max(self._not_before, now + self._pause)

    def answered(self, sent_at: float) -> None:
        """A request was answered: the server is well, and the next pause starts small again."""
        self.answered_at = self.clock()
        if sent_at >= self._held_at:
            self._strikes = 0


async def ask(
    backend: Askable,
    request: Request,
    *,
    attempts: int,
    on_fault: OnFault,
    throttle: Throttle,
    sleep: Sleep | None = None,
) -> Completion:
    """Ask until there is an answer, or until there is no point in asking again.

    Args:
        backend: who is asked.
        request: what.
        attempts: how often at most; being told to wait is not counted.
        on_fault: is told every fault, also the last.
        throttle: the run's own, shared by all its requests.
        sleep: waits between attempts; None takes the throttle's.

    Raises:
        Transient: the fault of the last attempt.
        Refused: this request will never be answered.
        EndpointError: no request will be.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        wait=_pause,
        retry=retry_if_exception(_worth_another_attempt),
        sleep=sleep or throttle.sleep,
        reraise=True,
    )
    attempt = 0

    async def once() -> Completion:
        nonlocal attempt
        attempt += 1
        return await _attempt(backend, request, throttle, lambda fault: on_fault(fault, attempt))

    return await retrying(once)


async def _attempt(
    backend: Askable, request: Request, throttle: Throttle, report: Callable[[Fault], None]
) -> Completion:
    """One attempt, however often it is told to wait."""
    began = throttle.clock()
    while True:
        sent_at = await throttle.ready()
        try:
            answer = await backend.complete(request)
        except RateLimited as fault:
            report(fault)
            throttle.held(sent_at, fault.retry_after)
            if throttle.clock() - max(began, throttle.answered_at) > PATIENCE:
                raise
        except Fault as fault:
            report(fault)
            raise
        else:
            throttle.answered(sent_at)
            return answer


def _worth_another_attempt(error: BaseException) -> bool:
    return isinstance(error, Transient) and not isinstance(error, RateLimited)


def _pause(state: RetryCallState) -> float:
    """Full jitter, but never sooner than the server wished."""
    fault = state.outcome.exception() if state.outcome else None
    wished = fault.retry_after if isinstance(fault, Transient) else None
    return max(wished or 0.0, random.uniform(0.0, _doubled(state.attempt_number)))


def _doubled(times: int) -> float:
    """The longest pause after the first, second, third … time."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - 1, 64))
