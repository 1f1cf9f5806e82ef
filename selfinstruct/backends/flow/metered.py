"""A backend that asks only what may be paid for: admitted before each attempt, counted after it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Protocol

from selfinstruct.backends.base import Again, Backend, Limits, Queue, Repeating, Telling
from selfinstruct.records import Completion, Request


class Meter(Protocol):
    """Decides on each attempt and counts what it took (`run.budget.Purse`)."""

    async def admit(self, door: str, request: Request) -> Any:
        """A charge for one attempt, as soon as there is room for it; None where it may not be made any more."""
        ...

    def answered(self, charge: Any, completion: Completion) -> None:
        """The attempt was answered."""
        ...

    def failed(self, charge: Any, error: BaseException) -> None:
        """The attempt brought no answer."""
        ...


class Metered:
    """A backend around another one, which it asks only when it is admitted.

    Args:
        door: what the meter calls the model.
    """

    def __init__(self, backend: Backend, meter: Meter, door: str) -> None:
        self._backend = backend
        self._telling = backend if isinstance(backend, Telling) else None
        self._once = backend.once if isinstance(backend, Repeating) else backend.complete
        self._meter = meter
        self._door = door

    @property
    def model(self) -> str:
        """See `Backend.model`."""
        return self._backend.model

    @property
    def limits(self) -> Limits | None:
        """See `Telling.limits`."""
        return self._telling.limits if self._telling else None

    @property
    def tells_queue(self) -> bool:
        """See `Telling.tells_queue`."""
        return self._telling is not None and self._telling.tells_queue

    async def queue(self) -> Queue | None:
        """See `Telling.queue`."""
        return await self._telling.queue() if self._telling else None

    async def complete(self, request: Request) -> Completion:
        """See `Backend.complete`.

        Raises:
            CancelledError: nobody wants the answer any more, or nothing may be sent.
        """
        while True:
            with suppress(Again):
                return await self._attempt(request)

    async def _attempt(self, request: Request) -> Completion:
        """One request to the server, admitted before and counted after."""
        charge = await self._meter.admit(self._door, request)
        if charge is None:
            raise asyncio.CancelledError
        try:
            completion = await self._once(request)
        except BaseException as error:
            self._meter.failed(charge, error)
            raise
        self._meter.answered(charge, completion)
        return completion

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._backend.aclose()
