"""The engine: plan, perform, judge, settle; yields events and prints nothing.

There is no barrier. As many jobs are performed at once as those whom they ask do well with (`run.doors`); each is
judged and settled in one transaction as soon as it has arrived, and what follows from it is planned then. Two rules
decide all else:

    Which job may be settled next?
        Any that has arrived, in the order of arrival;
        with `ordered` only the lowest number open.
    When may the next be planned?
        While one that it would ask first has room, and nobody is crowded;
        with `ordered`, while fewer are open than the window.

Both orders are numbered in the ledger, so that a run is a function of its answers (`run.verify`). Resuming is no
feature: a job that was planned and not settled is performed again, and what it was answered before comes from the
ledger.

Towards the target the engine tapers: nothing is started once what is in flight may be expected to suffice; what is late
by then, out for several times as long as its like, is not counted on, so that no run waits for one slow reply. When the
last task is kept, or the run ends otherwise, no question is put any more; those in flight may still be answered, for
`grace` seconds, and are stored: for a larger target, or for the next time.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from selfinstruct.backends.base import Backend
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.metered import Metered
from selfinstruct.errors import EndpointError, Fault, Refused
from selfinstruct.inputs.config import OTHER_DOORS, door_of, doors_of
from selfinstruct.inputs.plugins import Notice
from selfinstruct.inputs.prices import known
from selfinstruct.records import Answer, Draft, Job
from selfinstruct.run.asking import Asked, Asking, Put, as_stored
from selfinstruct.run.budget import Purse, Reached
from selfinstruct.run.doors import BACKLOG, Door, ModelDoor, OtherDoor, in_doubt, room_for, sandbox_door, tools_door
from selfinstruct.run.events import Answered, Ended, Ending, Event, Failed, Faulted, Planned, Settled
from selfinstruct.run.lateness import Lateness
from selfinstruct.run.state import RunState
from selfinstruct.run.wording import reached
from selfinstruct.store.ledger import Ledger
from selfinstruct.tools.base import Sandbox, Toolbox

NOBODY = ""
"""The door of jobs that ask nobody."""


class Arrived(NamedTuple):
    """A job came back: with drafts, with the fault that ended it, or with an error that ends the run."""

    job: Job
    drafts: list[Draft]
    error: BaseException | None


class Looked(NamedTuple):
    """It is time to look again at what is late."""


class World(NamedTuple):
    """All that a run may ask."""

    models: Mapping[str, Backend]
    """Each model by its name in the run (`config.doors_of`)."""
    sandbox: Sandbox | None = None
    toolbox: Toolbox | None = None
    notice: Notice | None = None
    """Is told where a server lets the run wait for long."""


class Engine:
    """Drives one run until its target, or until it is told to stop.

        engine = Engine(state, ledger, World({"writer": backend}))
        async with aclosing(engine.run()) as events:
            async for event in events: ...

    Args:
        state: the run as settled so far.
        ledger: open for writing.
        world: who is asked.
        grace: seconds that questions in flight are still given when the run ends.
        again: perform these open jobs, whatever is kept by then, and plan nothing from the pool (`retry`); what
            follows from them is performed while tasks are missing.
    """

    def __init__(
        self,
        state: RunState,
        ledger: Ledger,
        world: World,
        *,
        grace: float = 0.0,
        again: Collection[int] | None = None,
    ) -> None:
        self.state = state
        self._ledger = ledger
        self.purse = self._purse(world.models)
        self.doors = self._opened(world)
        """Whom the jobs ask, by name."""
        self._models = [door for door in self.doors.values() if isinstance(door, ModelDoor)]
        self._asked = {door.name: door.asked for door in self._models}
        self._counts_lateness = not (
            state.config.ordered or any(told.batch for told in doors_of(state.config).values())
        )
        """Not where the timing may change nothing, nor where answers come by the file."""
        self._first = self._first_doors()
        self._stages = {stage.name: stage for stage in state.chain.stages}
        self._asked_in: dict[tuple[str, ...], list[Door]] = {}
        """By a job's stage and models, whom it asks: looked up at every event."""
        self._window = state.config.window if state.config.ordered else None
        self._grace = grace
        self.retry_only = again is not None
        self._again = set(again or ())
        """Of the jobs to perform again, those not yet settled."""
        self.again = len(self._again)
        """How many jobs are to be performed again."""
        self._events: asyncio.Queue[Event | Arrived | Looked] = asyncio.Queue()
        self._waiting: dict[str, deque[Job]] = {name: deque() for name in self.doors}
        """Planned, not yet started, by the door that is asked first."""
        self._places: dict[int, Door] = {}
        """By job that asks nobody at the moment, the door whose place it holds: to be asked first, or asked last."""
        self._inherited: set[int] = set()
        """Jobs planned by an earlier session, for which there may be answers."""
        self._made: dict[int, set[str]] = {}
        """By job, the keys of calls that must not be repeated and that an earlier session made, or may have made."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lateness = Lateness(partial(self._events.put_nowait, Looked()))
        self._begun: Counter[str] = Counter()
        """Stages of the jobs started and not yet settled."""
        self._open: Counter[str] = Counter()
        """Stages of the jobs planned and not yet settled."""
        self._held: dict[int, Arrived] = {}
        """With `ordered`: arrived, but not yet its turn."""
        self._turns: deque[int] = deque()
        """With `ordered`: the numbers of open jobs, the next to be settled first."""
        self._failures = 0
        """Jobs that failed in a row, since the engine was made: whoever runs it again has seen to what failed."""
        self._last_failure = ""
        self._stopping: Ending | None = None
        self._stopped = False
        """Whether somebody called `stop`."""
        self._until = math.inf
        """When what is in flight is not waited for any more."""
        self._reached = ""
        """Which budget is reached, for a person."""

    def _purse(self, models: Mapping[str, Backend]) -> Purse:
        """The purse of the run.

        Raises:
            ConfigError: its budget has a cost, and the price of a model is not known.
        """
        config = self.state.config
        names = {door: backend.model for door, backend in models.items()}
        return Purse(
            self._ledger,
            config.budget,
            {} if config.budget.cost is None else known(config, names),
            on_reached=self._reach,
            doors=list(models),
            wanted=lambda request: self._wanted(request.job),
            resumed=[door for door, told in doors_of(config).items() if told.batch],
        )

    def _opened(self, world: World) -> dict[str, Door]:
        doors: dict[str, Door] = {}
        config = doors_of(self.state.config)
        for name, backend in world.models.items():
            told = config[name]
            fleet = Fleet.of(backend, told, around=partial(_metered, self.purse, name), notice=world.notice)
            doors[name] = ModelDoor(name, Asked(backend.model, told.extra), fleet, told.attempts, self.purse.asking)
        if world.sandbox is not None:
            doors["sandbox"] = sandbox_door(world.sandbox, self._wanted)
        if world.toolbox is not None:
            doors["tools"] = tools_door(world.toolbox, self._wanted)
        return {**doors, NOBODY: Door(NOBODY)}

    @property
    def in_flight(self) -> int:
        """Jobs that are being performed."""
        return len(self._tasks)

    @property
    def width(self) -> int:
        """Questions that may be answered at once, at present, by all whom the run asks."""
        return sum(door.width for door in self.doors.values() if door.name != NOBODY)

    @property
    def held_back(self) -> str:
        """What else holds requests back, for a person (`Fleet.told`)."""
        told = (door.fleet.told for door in self._models)
        return ", ".join(dict.fromkeys(filter(None, told)))

    def stop(self) -> None:
        """Start nothing more; what is in flight is given its grace, from now at most. A second call ends it."""
        self._wait_at_most(0.0 if self._stopped else self._grace)
        self._stopped = True
        self._stopping = self._stopping or "interrupted"
        self._events.put_nowait(Ended("interrupted", self.state.tasks))

    def _reach(self, end: Reached) -> None:
        """A budget is reached: send nothing more. What is in flight is paid, so it is waited for, however long it
        takes; where the time is up, for its grace."""
        if self._stopping is None:
            self._stopping, self._reached = "budget", reached(end)
            if end.cap.what == "time":
                self._wait_at_most(self._grace)
        self._events.put_nowait(Ended("budget", self.state.tasks))

    async def run(self) -> AsyncGenerator[Event, None]:
        """Everything that happens, as it happens; the last event is `Ended`.

        Raises:
            EndpointError: no further request can succeed; what was answered is stored, and the run can be continued.
            RunError: the ledger cannot be written.
        """
        for stored in self._ledger.jobs("planned"):
            if not self.retry_only or stored.job.number in self._again:
                self._inherited.add(stored.job.number)
                self._enqueue(stored.job)
        fleets = [door.fleet for door in self._models]
        watches = [asyncio.create_task(fleet.watch_queues()) for fleet in fleets if fleet.tells_queues]
        end: tuple[str, str] | None = None
        self.purse.open()
        try:
            async for event in self._work():
                yield event
            self._stopping = self._ending() or "exhausted"
            async for event in self._drain():
                yield event
            # What arrived late may have completed a run that was stopped.
            ending = self._ending() or "exhausted"
            if ending == "exhausted" and self.state.target is None and not self.retry_only:
                ending = "complete"
            end = ending, self._explain(ending)
            yield Ended(ending, self.state.tasks, end[1])
        except EndpointError as error:
            end = "refused", str(error)
            # Others may be in flight that were sent while all was well.
            self._stopping = "interrupted"
            async for event in self._drain():
                yield event
            raise
        finally:
            await self._cancel(watches)
            for fleet in fleets:
                fleet.close()
            self.purse.close()
            if end is not None:
                self.purse.end(*end)

    async def _work(self) -> AsyncIterator[Event]:
        for planned in self._plan_and_start():
            yield planned
        while self._ending() is None and (self._tasks or not self._events.empty()):
            happened = await self._events.get()
            for event in self._see(happened):
                yield event
            if isinstance(happened, Arrived):
                # What was just started is sent before the next is judged: else the servers would wait for us.
                await asyncio.sleep(0)

    # -- what is next -------------------------------------------------------------------------------------------------

    def _ending(self) -> Ending | None:
        if self.state.complete and not self._again:
            return "complete"
        if self._stopping is not None:
            return self._stopping
        patience = self.state.config.patience
        if self._failures >= patience or self._given_up:
            return "failing"
        return "barren" if self.state.barren >= patience and not self.retry_only else None

    @property
    def _given_up(self) -> str:
        """Why somebody is asked no more; "" while all are."""
        for door in self._models:
            if told := door.given_up:
                return told
        return ""

    def _wanted(self, job: int) -> bool:
        """Whether anything may still be asked for the job of this number."""
        return self._ending() is None and (not self.state.complete or job in self._again)

    def _explain(self, ending: Ending) -> str:
        if ending == "failing" and self._given_up:
            return self._given_up
        if ending == "failing":
            return f"the last {self._failures} jobs failed, most recently: {self._last_failure}"
        if ending == "barren":
            jobs = f"the last {self.state.barren} jobs kept nothing"
            return f"{jobs}; `selfinstruct drops` tells why, --set patience=… allows more"
        return self._reached if ending == "budget" else ""

    def _plan_and_start(self) -> Iterator[Planned]:
        while (job := self._plan()) is not None:
            yield Planned(job)
            self._start()
        self._start()

    def _plan(self) -> Job | None:
        """Plan a job from the pool if the rules allow.

        With `ordered` that is a function of the settled state and the jobs open, not of time, and not even of being
        stopped, for another job may be settled before the run is continued.
        """
        if self.retry_only or (self._window is None and self._ending() is not None):
            return None
        room = self._has_room() if self._window is None else self._open.total() < self._window
        if not room or self._suffices(self._open):
            return None
        job = self.state.plan()
        if job is not None:
            self._ledger.plan(job)
            self._enqueue(job)
        return job

    def _has_room(self) -> bool:
        """Whether one that a new job may ask first has room that nobody waits for, and nobody has too long a queue."""
        for name, waiting in self._waiting.items():
            if waiting and len(waiting) > BACKLOG * self.doors[name].width:
                return False
        return any(door.has_room and not self._waiting[door.name] for door in self._first)

    def _first_doors(self) -> list[Door]:
        """Those that a job from the pool may ask first: all models of a role that has several."""
        stage = self.state.chain.stages[0]
        role = next(iter(stage.doors), NOBODY)
        name = door_of(self.state.config, role, {}) if role not in self.doors else role
        return [door for door in self.doors.values() if door.name.partition(":")[0] == name]

    def _start(self) -> None:
        """Perform what waits, as far as those whom it asks have room and what has begun will not suffice."""
        for waiting in self._waiting.values():
            while waiting and self._wanted(waiting[0].number) and self._may_start(waiting[0]):
                if self._tasks and not self.retry_only and self._suffices(self._begun):
                    return
                self._begin(waiting.popleft())

    def _may_start(self, job: Job) -> bool:
        first, *others = self._asks(job)
        return room_for(first, others)

    def _begin(self, job: Job) -> None:
        self._hold(job.number, self._asks(job)[0])
        self._lateness.starts(job)
        self._begun[job.stage] += 1
        self._tasks[job.number] = asyncio.create_task(self._perform(job), name=f"job {job.number}")

    def _hold(self, job: int, door: Door) -> None:
        """A job that asks nobody holds one place, until it asks again or has come back."""
        if job not in self._places:
            self._places[job] = door
            door.held += 1

    def _give_up_place(self, job: int) -> None:
        if (door := self._places.pop(job, None)) is not None:
            door.held -= 1

    def _asks(self, job: Job) -> list[Door]:
        """Whom a job asks, the first one first."""
        told = job.stage, *job.models.values()
        if told not in self._asked_in:
            config, asked = self.state.config, self._stages[job.stage].doors
            names = (door if door in OTHER_DOORS else door_of(config, door, job.models) for door in asked)
            self._asked_in[told] = [self.doors[name] for name in names] or [self.doors[NOBODY]]
        return self._asked_in[told]

    def _suffices(self, jobs: Counter[str]) -> bool:
        """Whether these jobs may be expected to bring all that is missing, those that are late left out."""
        missing = self._missing()
        enough = self._expected(jobs) >= missing
        if enough and self._counts_lateness:
            enough = self._expected(jobs - self._lateness.late()) >= missing
        return enough

    def _expected(self, jobs: Counter[str]) -> float:
        return self.state.taper.expected(jobs)

    def _missing(self) -> float:
        return float("inf") if self.state.target is None else self.state.target - self.state.tasks

    def _enqueue(self, job: Job) -> None:
        self._waiting[self._asks(job)[0].name].append(job)
        self._open[job.stage] += 1
        if self._window is not None:
            self._turns.append(job.number)

    # -- performing ---------------------------------------------------------------------------------------------------

    async def _perform(self, job: Job) -> None:
        drafts: list[Draft] = []
        error: BaseException | None = None
        attempt = 1
        if job.number in self._inherited:
            attempt += self._ledger.sessions(job.number)
            self._made[job.number] = self._ledger.intended(job.number)
        ask = Asking(job, self.state.config, self._asked, self._answer, attempt)
        try:
            drafts = await self.state.perform(job, ask)
        except asyncio.CancelledError:
            raise
        except Exception as caught:  # noqa: BLE001 - handed to the loop, which knows data from a bug
            error = caught
        self._events.put_nowait(Arrived(job, drafts, error))

    async def _answer(self, put: Put) -> Answer:
        """The stored answer to a question of a job, or a new one, which is stored before it is returned.

        Raises:
            Fault: no attempt was answered, or the call may have been made and must not be repeated.
            EndpointError: no question will be answered.
        """
        job, key = put.job, put.key
        self._give_up_place(job.number)
        answer = self._ledger.find_answer(key) if job.number in self._inherited else None
        if answer is not None:
            return answer
        began, door = time.monotonic(), self.doors[put.door]
        if isinstance(door, OtherDoor) and not door.repeatable(put):
            self._intend(put, key)
        door.at += 1
        try:
            answer = as_stored(await door.ask(put, partial(self._fault, job, key)))
        finally:
            door.at -= 1
            self._hold(job.number, door)
        seconds = time.monotonic() - began
        with self.purse.due() as counts:
            self._ledger.answer(key, job.number, put.nth, put.text, answer, seconds, role=put.door, counts=counts)
        self._events.put_nowait(Answered(job, answer, seconds, put.door))
        return answer

    def _intend(self, put: Put, key: str) -> None:
        """Note a call that must not be repeated before it is made; one that may have been made is not made again, nor
        any of a session that begins anew.

        Raises:
            Fault: `in_doubt`.
        """
        made = self._made.get(put.job.number, set())
        if key in made or (put.session and made):
            raise in_doubt(put)
        self._ledger.intend(key, put.job.number)

    def _fault(self, job: Job, key: str, fault: Fault, attempt: int) -> None:
        """An attempt brought no answer; a refusal is an answer, and stored as one."""
        if not isinstance(fault, Refused):
            with self.purse.due() as counts:
                self._ledger.fault(key, job.number, attempt, fault, counts)
        self._events.put_nowait(Faulted(job, fault, attempt))

    # -- settling -----------------------------------------------------------------------------------------------------

    def _see(self, event: Event | Arrived | Looked) -> Iterator[Event]:
        """Pass on what happened; what has arrived is settled, if it may be, and what follows is planned and started."""
        if not isinstance(event, Arrived):
            if not isinstance(event, Ended | Looked):
                yield event
            if isinstance(event, Answered | Looked):
                # The servers may have turned out to do well with more at once, or a job to be late.
                yield from self._plan_and_start()
            return
        self._tasks.pop(event.job.number, None)
        self._give_up_place(event.job.number)
        self._lateness.comes_back(event.job)
        if isinstance(event.error, EndpointError) and self._stopping is not None:
            return
        if event.error is not None and not isinstance(event.error, Fault):
            # Nothing more will succeed, or a bug: the job stays planned, and the run can be continued.
            raise event.error
        for ready in self._settleable(event):
            yield self._settle(ready)
            # After each, not after all: with `ordered` a job is planned from the pool as this one left it.
            yield from self._plan_and_start()
        # A slot is free, even if with `ordered` it was not this one's turn.
        self._start()

    def _settleable(self, arrived: Arrived) -> Iterator[Arrived]:
        """Those whose turn it is. Once a run has ended by itself, what arrives is no part of how it ended: its answers
        are stored, and it is settled when the run goes further."""
        if self._window is None:
            if self._ending() in (None, "interrupted", "budget"):
                yield arrived
            return
        self._held[arrived.job.number] = arrived
        while self._turns and self._turns[0] in self._held and self._ending() in (None, "interrupted", "budget"):
            yield self._held.pop(self._turns.popleft())

    def _settle(self, arrived: Arrived) -> Event:
        job, error = arrived.job, arrived.error
        self._open[job.stage] -= 1
        self._begun[job.stage] -= 1
        self._again.discard(job.number)
        if isinstance(error, Fault):
            self._failures += 1
            self._last_failure = str(error)
            self.state.fail(job)
            self._ledger.fail(job.number, error.kind, str(error))
            return Failed(job, error.kind, str(error))
        self._failures = 0
        outcomes, follow_ups = self.state.settle(job, arrived.drafts)
        self._ledger.settle(job, outcomes, follow_ups)
        for follow_up in follow_ups:
            self._enqueue(follow_up)
        return Settled(job, outcomes)

    # -- ending -------------------------------------------------------------------------------------------------------

    async def _drain(self) -> AsyncIterator[Event]:
        """Give the requests in flight their grace; those that reached a budget are paid, and have all the time."""
        if not self._reached:
            self._wait_at_most(self._grace)
        while any(door.sent for door in self.doors.values()) or not self._events.empty():
            # A `stop` may shorten the grace while we wait.
            left = self._until - time.monotonic()
            try:
                waiting = self._events.empty()
                event = await asyncio.wait_for(self._events.get(), left) if waiting else self._events.get_nowait()
            except TimeoutError:
                return
            for seen in self._see(event):
                yield seen

    def _wait_at_most(self, seconds: float) -> None:
        self._until = min(self._until, time.monotonic() + seconds)

    async def _cancel(self, watches: Collection[asyncio.Task[None]]) -> None:
        self._lateness.close()
        tasks = [*self._tasks.values(), *watches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()


def _metered(purse: Purse, door: str, backend: Backend) -> Backend:
    return Metered(backend, purse, door)
