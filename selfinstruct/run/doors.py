"""Whom the jobs of a run ask, and how many of them are there: each model, the sandbox, the tools.

A job is started where its first question finds room, so that those which wait for a slow judge, or for a program, hold
nobody else's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.pauses import doubled
from selfinstruct.backends.flow.retry import OnFault, ask
from selfinstruct.errors import Fault, Refused, Transient
from selfinstruct.records import Answer, Call, Completion, Program, Request
from selfinstruct.run.asking import Asked, Put
from selfinstruct.text.words import storable
from selfinstruct.tools.base import Sandbox, Toolbox

BACKLOG = 4
"""How many times as many as it answers at once may wait for a door before no job is planned that would ask it too."""
ATTEMPTS = 3
"""How often a program or a call is tried that met a fault of the sandbox or the tool."""
FREELY = 64
"""How many jobs are performed at once that ask nobody."""


class Door:
    """Somebody who answers: how many questions are there, and how many jobs are on their way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.at = 0
        """Questions that have been put and not answered, those that wait among them."""
        self.held = 0
        """Places of jobs that are about to ask here, or were just answered."""

    @property
    def width(self) -> int:
        """Questions that are answered at once."""
        return FREELY

    @property
    def sent(self) -> int:
        """Questions that are being answered."""
        return 0

    @property
    def given_up(self) -> str:
        """Why nothing is asked any more; "" while something is."""
        return ""

    @property
    def has_room(self) -> bool:
        """Whether one more job would be answered at once."""
        return self.at + self.held < self.width

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait that nobody should come who need not."""
        return self.at + self.held > BACKLOG * self.width

    async def ask(self, put: Put, on_fault: OnFault) -> Answer:
        """The answer to a question, after as many attempts as it takes.

        Raises:
            Fault: no attempt was answered.
            EndpointError: no question will be.
        """
        raise NotImplementedError


class ModelDoor(Door):
    """A model, behind its servers.

    Args:
        attempts: how often a request is tried; being told to wait is not counted.
        sending: how many requests are with the servers.
    """

    def __init__(self, name: str, asked: Asked, fleet: Fleet, attempts: int, sending: Callable[[str], int]) -> None:
        super().__init__(name)
        self.asked = asked
        self.fleet = fleet
        self._attempts = attempts
        self._sending = sending

    @property
    def width(self) -> int:
        """See `Fleet.width`."""
        return self.fleet.width

    @property
    def sent(self) -> int:
        """Requests that are with the servers."""
        return self._sending(self.name)

    @property
    def given_up(self) -> str:
        """See `Fleet.given_up`."""
        return self.fleet.given_up

    async def ask(self, put: Put, on_fault: OnFault) -> Completion:
        """See `Door.ask`; a refusal is final, and so an answer."""
        request = cast("Request", put.question).model_copy(update={"key": put.key, "job": put.job.number})
        try:
            return await ask(self.fleet, request, attempts=self._attempts, on_fault=on_fault)
        except Refused as refusal:
            return Completion(text=storable(str(refusal)), finish_reason="refused", refused=refusal.kind)


class OtherDoor(Door):
    """The sandbox or the tools: as many questions at once as it has slots, the others wait.

    Args:
        answer: answers one question.
        wanted: whether anybody still wants the answer to a job's question.
        repeatable: whether a question may be asked again that may have been answered.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        answer: Callable[[Put], Awaitable[Answer]],
        wanted: Callable[[int], bool],
        repeatable: Callable[[Put], bool],
    ) -> None:
        super().__init__(name)
        self._slots = slots
        self._free = asyncio.Semaphore(slots)
        self._answer = answer
        self._wanted = wanted
        self.repeatable = repeatable
        self._sent = 0

    @property
    def width(self) -> int:
        """Its slots."""
        return self._slots

    @property
    def sent(self) -> int:
        """Questions that are being answered."""
        return self._sent

    async def ask(self, put: Put, on_fault: OnFault) -> Answer:
        """See `Door.ask`."""
        attempt = 1
        while True:
            try:
                return await self._once(put)
            except Transient as fault:
                on_fault(fault, attempt)
                if not self.repeatable(put):
                    raise in_doubt(put) from fault
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(doubled(attempt))
                attempt += 1
            except Fault as fault:
                on_fault(fault, attempt)
                raise

    async def _once(self, put: Put) -> Answer:
        async with self._free:
            if not self._wanted(put.job.number):
                raise asyncio.CancelledError
            self._sent += 1
            try:
                return await self._answer(put)
            finally:
                self._sent -= 1


def _always(put: Put) -> bool:
    return True


def in_doubt(put: Put) -> Fault:
    """The fault of a call that must not be repeated and may have been made already."""
    tool = cast("Call", put.question).tool
    return Fault(
        "in_doubt", f"{tool}: may have been called before the run was cut short, and must not be repeated; `retry` does"
    )


def sandbox_door(sandbox: Sandbox, wanted: Callable[[int], bool]) -> OtherDoor:
    """The door of a sandbox."""

    async def answer(put: Put) -> Answer:
        return await sandbox.run(cast("Program", put.question))

    return OtherDoor("sandbox", sandbox.slots, answer, wanted, _always)


def tools_door(toolbox: Toolbox, wanted: Callable[[int], bool]) -> OtherDoor:
    """The door of a toolbox."""

    async def answer(put: Put) -> Answer:
        return await toolbox.call(cast("Call", put.question), put.session)

    return OtherDoor(
        "tools", toolbox.slots, answer, wanted, lambda put: toolbox.repeatable(cast("Call", put.question).tool)
    )


def room_for(first: Door, others: Iterable[Door]) -> bool:
    """Whether a job may be started that asks one door first and the others after it."""
    return first.has_room and not any(door.is_crowded for door in others)
