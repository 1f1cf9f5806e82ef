"""The one function that knows what is worth asking again.

A `Transient` fault is a failed attempt: the next one follows after a random part of a pause that doubles. A
`RateLimited` fault is none: the server would have answered, only not yet, so the request waits for another turn with
all others of the run (`fleet`). Everything else is not worth asking again and passes through.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from selfinstruct.backends.base import LONGEST_WISH
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.pauses import doubled
from selfinstruct.errors import Fault, RateLimited, Transient
from selfinstruct.records import Completion, Request

OnFault = Callable[[Fault, int], None]
"""Is told every fault and the attempt (from 1) that met it."""


async def ask(fleet: Fleet, request: Request, *, attempts: int, on_fault: OnFault) -> Completion:
    """Ask until there is an answer, or until there is no point in asking again.

    Args:
        fleet: the servers, and when they may be asked.
        request: what.
        attempts: how often at most; being told to wait is not counted.
        on_fault: is told every fault, also the last.

    Raises:
        Transient: the fault of the last attempt; `RateLimited` when no server is left that will ever answer.
        Refused: this request will never be answered.
        EndpointError: no request will be.
    """
    attempt = 1
    try:
        return await _attempt(fleet, request, lambda fault: on_fault(fault, attempt))
    except Transient as fault:
        if attempts == 1 or isinstance(fault, RateLimited):
            raise
        first = fault

    async def again() -> Completion:
        nonlocal attempt
        attempt += 1
        return await _attempt(fleet, request, lambda fault: on_fault(fault, attempt))

    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts - 1),
        wait=lambda state: _pause(_fault_of(state), state.attempt_number + 1),
        retry=retry_if_exception(lambda error: _worth_another_attempt(error) and not fleet.given_up),
        sleep=fleet.sleep,
        before_sleep=lambda state: _tell(fleet, _fault_of(state), state.upcoming_sleep),
        reraise=True,
    )
    # The first attempt was made without tenacity, which costs more than all the rest of it.
    _tell(fleet, first, pause := _pause(first, 1))
    await fleet.sleep(pause)
    return await retrying(again)


async def _attempt(fleet: Fleet, request: Request, report: Callable[[Fault], None]) -> Completion:
    """One attempt, however often it is told to wait."""
    while True:
        turn = await fleet.turn(request)
        try:
            answer = await turn.complete(request)
        except Fault as fault:
            turn.failed(fault)
            report(fault)
            if fleet.given_up or not isinstance(fault, RateLimited):
                raise
        except BaseException:
            turn.abandoned()
            raise
        else:
            turn.answered(answer)
            return answer


def _worth_another_attempt(error: BaseException) -> bool:
    return isinstance(error, Transient) and not isinstance(error, RateLimited)


def _fault_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _tell(fleet: Fleet, fault: BaseException | None, pause: float) -> None:
    if isinstance(fault, Transient) and fault.retry_after:
        fleet.tell_pause(fault, pause)


def _pause(fault: BaseException | None, attempt: int) -> float:
    """Full jitter, but never sooner than the server wished, within reason."""
    wished = fault.retry_after if isinstance(fault, Transient) else None
    return max(random.uniform(0.0, doubled(attempt)), min(wished or 0.0, LONGEST_WISH))
