"""The engine: plan, perform, judge, settle; yields events and prints nothing.

There is no barrier. Up to `concurrency` jobs are performed at once; each is judged and settled in one transaction as
soon as it has arrived, and what follows from it is planned then. Two rules decide all else:

    which arrived job may be settled next   any, in the order of arrival; with `ordered` only the lowest number not
    yet settled when the next may be planned            while fewer are open than may be in flight; with `ordered`,
    than the window

and both orders are numbered in the ledger, so that a run is a function of its answers (`replay.verify`). Resuming is no
feature: a job that was planned and not settled is performed again, and what it was answered before comes from the
ledger.

Towards the target the engine tapers: nothing is started once what is in flight may be expected to suffice. When the
last task is kept no request starts any more; those in flight may still arrive, for `grace` seconds, and are stored
for a larger target.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Literal, NamedTuple

from pydantic import JsonValue

from selfinstruct.backends.base import Backend
from selfinstruct.backends.retry import Throttle, ask
from selfinstruct.errors import EndpointError, Fault, Refused, UserError
from selfinstruct.records import Completion, Draft, Job, Outcome, Rendered, Request, Sampling
from selfinstruct.runs import RunState
from selfinstruct.store.keys import answer_key, canonical
from selfinstruct.store.ledger import Ledger

Ending = Literal["complete", "interrupted", "exhausted", "barren", "failing"]
"""Why a run ended: the target is reached; it was told to stop; nothing more can be planned; too many jobs in a row kept
nothing, or failed."""


class Planned(NamedTuple):
    """A job was numbered and stored."""

    job: Job


class Answered(NamedTuple):
    """A model answered and the answer is stored; `seconds` from asking to answer, retries included."""

    job: Job
    completion: Completion
    seconds: float


class Faulted(NamedTuple):
    """An attempt brought no answer; another may follow."""

    job: Job
    fault: Fault
    attempt: int


class Settled(NamedTuple):
    """A job was judged and stored."""

    job: Job
    outcomes: list[Outcome]


class Failed(NamedTuple):
    """A job failed and is stored as such."""

    job: Job
    kind: str
    message: str


class Ended(NamedTuple):
    """The run is over for now."""

    ending: Ending
    tasks: int
    message: str = ""


Event = Planned | Answered | Faulted | Settled | Failed | Ended


class Arrived(NamedTuple):
    """A job came back: with drafts, with the fault that ended it, or with an error that ends the run."""

    job: Job
    drafts: list[Draft]
    error: BaseException | None


class Engine:
    """Drives one run until its target, or until it is told to stop.

        engine = Engine(state, ledger, backend, model="smollm2")
        async with aclosing(engine.run()) as events:
            async for event in events: ...

    Args:
        state: the run as settled so far.
        ledger: open for writing.
        model: the name that requests carry.
        grace: seconds that requests in flight are still given when the run ends.
        retry_only: perform what is open and plan nothing from the pool (`retry`).
    """

    def __init__(
        self,
        state: RunState,
        ledger: Ledger,
        backend: Backend,
        *,
        model: str,
        grace: float = 0.0,
        retry_only: bool = False,
        throttle: Throttle | None = None,
    ) -> None:
        self.state = state
        config = state.config.backend
        self._ledger = ledger
        self._backend = backend
        self._model = model
        self._attempts = config.attempts
        self._extra = config.extra
        self._concurrency = config.concurrency or 1
        self._window = state.config.window if state.config.ordered else None
        self._grace = grace
        self.retry_only = retry_only
        self._throttle = throttle or Throttle()
        self._events: asyncio.Queue[Event | Arrived] = asyncio.Queue()
        self._waiting: deque[Job] = deque()
        """Planned, not yet started."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._flying: Counter[str] = Counter()
        """Stages of the jobs being performed."""
        self._open: Counter[str] = Counter()
        """Stages of the jobs planned and not yet settled."""
        self._held: dict[int, Arrived] = {}
        """With `ordered`: arrived, but not yet its turn."""
        self._turns: deque[int] = deque()
        """With `ordered`: the numbers of open jobs, the next to be settled first."""
        self._failures = 0
        """Jobs that failed in a row."""
        self._last_failure = ""
        self._stopping: Ending | None = None

    @property
    def in_flight(self) -> int:
        """Jobs that are being performed."""
        return len(self._tasks)

    def stop(self) -> None:
        """Start nothing more; what is in flight is given its grace. A second call ends the grace."""
        if self._stopping is not None:
            self._grace = 0.0
        self._stopping = self._stopping or "interrupted"
        self._events.put_nowait(Ended("interrupted", self.state.tasks))

    async def run(self) -> AsyncGenerator[Event, None]:
        """Everything that happens, as it happens; the last event is `Ended`.

        Raises:
            EndpointError: no further request can succeed; what was answered is stored, and the run can be continued.
            RunError: the ledger cannot be written.
        """
        for stored in self._ledger.jobs("planned"):
            self._enqueue(stored.job)
        try:
            async for event in self._work():
                yield event
            ending = self._ending() or "exhausted"
            async for event in self._drain(ending):
                yield event
            yield Ended(ending, self.state.tasks, self._explain(ending))
        except EndpointError:
            # Others may be in flight that were sent while all was well.
            async for event in self._drain("interrupted"):
                yield event
            raise
        finally:
            await self._cancel()

    async def _work(self) -> AsyncIterator[Event]:
        for planned in self._plan_and_start():
            yield planned
        while self._ending() is None and (self._tasks or self._held or not self._events.empty()):
            async for event in self._next():
                yield event

    # -- what is next
    # ------------------------------------------------------------------------------------------------------

    def _ending(self) -> Ending | None:
        if self.state.complete and not (self.retry_only and self._open.total()):
            return "complete"
        if self._stopping is not None:
            return self._stopping
        if self._failures >= self.state.config.patience:
            return "failing"
        return "barren" if self.state.barren >= self.state.config.patience else None

    def _explain(self, ending: Ending) -> str:
        if ending == "failing":
            return f"the last {self._failures} jobs failed, most recently: {self._last_failure}"
        if ending == "barren":
            jobs = f"the last {self.state.barren} jobs kept nothing"
            return f"{jobs}; `selfinstruct drops` tells why, --set patience=… allows more"
        return ""

    def _plan_and_start(self) -> Iterator[Planned]:
        while (job := self._plan()) is not None:
            yield Planned(job)
            self._start()
        self._start()

    def _plan(self) -> Job | None:
        """Plan a job from the pool if the rules allow; a function of the settled state and the jobs open, not of
        time."""
        if self.retry_only or self._open.total() >= (self._window or self._concurrency):
            return None
        if self._expected(self._open) >= self._missing():
            return None
        job = self.state.plan()
        if job is not None:
            self._ledger.plan(job)
            self._enqueue(job)
        return job

    def _start(self) -> None:
        """Perform what waits, as far as slots are free and what is in flight will not suffice."""
        while self._waiting and len(self._tasks) < self._concurrency:
            if self._tasks and self._expected(self._flying) >= self._missing() and not self.retry_only:
                return
            job = self._waiting.popleft()
            self._flying[job.stage] += 1
            self._tasks[job.number] = asyncio.create_task(self._perform(job), name=f"job {job.number}")

    def _expected(self, jobs: Counter[str]) -> float:
        return sum(count * self.state.value(stage) for stage, count in jobs.items() if count)

    def _missing(self) -> float:
        return float("inf") if self.state.target is None else self.state.target - self.state.tasks

    def _enqueue(self, job: Job) -> None:
        self._waiting.append(job)
        self._open[job.stage] += 1
        if self._window is not None:
            self._turns.append(job.number)

    # -- performing
    # --------------------------------------------------------------------------------------------------------

    async def _perform(self, job: Job) -> None:
        drafts: list[Draft] = []
        error: BaseException | None = None
        try:
            drafts = await self.state.recipe.perform(job, Asking(job, self._model, self._extra, self._answer))
        except asyncio.CancelledError:
            raise
        except Exception as caught:  # noqa: BLE001 - handed to the loop, which knows data from a bug
            error = caught
        self._events.put_nowait(Arrived(job, drafts, error))

    async def _answer(self, job: Job, request: Request, text: str, nth: int) -> Completion:
        """The stored answer to a request of a job, or a new one, which is stored before it is returned.

        Raises:
            Transient: no attempt was answered.
            EndpointError: no request will be.
        """
        key = answer_key(job.number, text, nth)
        completion = self._ledger.completion(key)
        if completion is None:
            began = time.monotonic()
            completion = await self._ask(job, request, key)
            seconds = time.monotonic() - began
            self._ledger.answer(key, job.number, nth, text, completion, seconds)
            self._events.put_nowait(Answered(job, completion, seconds))
        return completion

    async def _ask(self, job: Job, request: Request, key: str) -> Completion:
        def on_fault(fault: Fault, attempt: int) -> None:
            if not isinstance(fault, Refused):
                self._ledger.fault(key, job.number, attempt, fault)
            self._events.put_nowait(Faulted(job, fault, attempt))

        try:
            completion = await ask(
                self._backend, request, attempts=self._attempts, on_fault=on_fault, throttle=self._throttle
            )
        except Refused as refusal:
            # Final, so it is an answer: stored, and not asked again.
            return Completion(text=_storable(str(refusal)), finish_reason="refused", refused=refusal.kind)
        text = _storable(completion.text)
        return completion if text == completion.text else completion.model_copy(update={"text": text})

    # -- settling
    # ----------------------------------------------------------------------------------------------------------

    async def _next(self) -> AsyncIterator[Event]:
        """Wait for whatever comes, and settle what may be settled."""
        event = await self._events.get()
        if not isinstance(event, Arrived):
            if not isinstance(event, Ended):
                yield event
            return
        self._landed(event)
        for arrived in self._settleable(event):
            yield self._settle(arrived)
            if self._ending() is not None:
                return
            # After each, not after all: with `ordered` a job is planned from the pool as this one left it.
            for planned in self._plan_and_start():
                yield planned

    def _landed(self, arrived: Arrived) -> None:
        self._tasks.pop(arrived.job.number, None)
        self._flying[arrived.job.stage] -= 1
        error = arrived.error
        if error is not None and not isinstance(error, Fault):
            # Nothing more will succeed, or a bug: the job stays planned, and the run can be continued.
            raise error

    def _settleable(self, arrived: Arrived) -> Iterator[Arrived]:
        if self._window is None:
            yield arrived
            return
        self._held[arrived.job.number] = arrived
        while self._turns and self._turns[0] in self._held:
            yield self._held.pop(self._turns.popleft())

    def _settle(self, arrived: Arrived) -> Event:
        job, error = arrived.job, arrived.error
        self._open[job.stage] -= 1
        if isinstance(error, Fault):
            self._failures += 1
            self._last_failure = str(error)
            self.state.fail(job)
            self._ledger.fail(job.number, error.kind, str(error))
            return Failed(job, error.kind, str(error))
        self._failures = 0
        outcomes, follow_ups = self.state.settle(job, arrived.drafts)
        self._ledger.settle(job.number, outcomes, follow_ups)
        for follow_up in follow_ups:
            self._enqueue(follow_up)
        return Settled(job, outcomes)

    # -- ending
    # ------------------------------------------------------------------------------------------------------------

    async def _drain(self, ending: Ending) -> AsyncIterator[Event]:
        """Give what is in flight its grace: answers are stored, and settled too unless the target is reached."""
        began = time.monotonic()
        while self._tasks or not self._events.empty():
            # A second `stop` ends the grace while we wait.
            left = began + self._grace - time.monotonic()
            try:
                event = await asyncio.wait_for(self._events.get(), max(0.0, left))
            except TimeoutError:
                return
            if isinstance(event, Arrived):
                for settled in self._late(event, settle=ending != "complete"):
                    yield settled
            elif not isinstance(event, Ended):
                yield event

    def _late(self, arrived: Arrived, *, settle: bool) -> Iterator[Event]:
        """What becomes of a job that arrives when the run is ending."""
        self._tasks.pop(arrived.job.number, None)
        self._flying[arrived.job.stage] -= 1
        if isinstance(arrived.error, UserError) or not settle:
            return
        if arrived.error is not None and not isinstance(arrived.error, Fault):
            raise arrived.error
        for ready in self._settleable(arrived):
            yield self._settle(ready)
            if self.state.complete:
                return
            # With `ordered` what is planned next depends on nothing but what is settled, not on being stopped here.
            while self._window is not None and (job := self._plan()) is not None:
                yield Planned(job)

    async def _cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()


Answer = Callable[[Job, Request, str, int], Awaitable[Completion]]
"""Finds or fetches the answer to a job's request; takes its canonical text and how often it was asked before."""

LEAST_TOKENS = 64
"""Below this length of an answer, shortening it further is no cure for a prompt that is too long."""


class Asking:
    """The `generate` that a job is performed with.

    Numbers what the job asks. A request that the server finds too long is asked again with room for half the answer,
    down to `LEAST_TOKENS`; after that the refusal is the recipe's to deal with.
    """

    def __init__(self, job: Job, model: str, extra: dict[str, JsonValue], answer: Answer) -> None:
        self._job = job
        self._model = model
        self._extra = extra
        self._answer = answer
        self._asked: Counter[str] = Counter()

    async def __call__(
        self, prompt: Rendered, sampling: Sampling, *, answer_schema: dict[str, JsonValue] | None = None
    ) -> Completion:
        """The answer to a prompt; see `Generate`."""
        while True:
            try:
                return await self._once(prompt, sampling, answer_schema)
            except Refused as refusal:
                room = (sampling.max_tokens or 0) // 2
                if refusal.kind != "prompt_too_long" or room < LEAST_TOKENS:
                    raise
                sampling = sampling.model_copy(update={"max_tokens": room})

    async def _once(self, prompt: Rendered, sampling: Sampling, schema: dict[str, JsonValue] | None) -> Completion:
        request, text = make_request(self._model, prompt, sampling, self._extra, schema)
        nth = self._asked[text]
        self._asked[text] += 1
        completion = await self._answer(self._job, request, text, nth)
        if completion.refused is not None:
            raise Refused(completion.refused, completion.text)
        return completion


def make_request(
    model: str,
    prompt: Rendered,
    sampling: Sampling,
    extra: dict[str, JsonValue],
    answer_schema: dict[str, JsonValue] | None,
) -> tuple[Request, str]:
    """A request and its canonical text, which is what answers are stored under."""
    if extra:
        sampling = sampling.model_copy(update={"extra": {**extra, **sampling.extra}})
    plain = isinstance(prompt, str)
    request = Request(
        model=model,
        prompt=prompt if plain else None,
        messages=() if isinstance(prompt, str) else prompt,
        sampling=sampling,
        answer_schema=answer_schema,
    )
    return request, canonical(request.model_dump(mode="json", exclude_defaults=True))


def _storable(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate, which JSON can smuggle in, becomes the replacement
    character."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if not text.isascii() else text
