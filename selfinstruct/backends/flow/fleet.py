"""Who is asked next, and when: all servers of a run, each with its width, its pace and its circuit.

    fleet = Fleet.of(backend, config)
    turn = await fleet.turn(request)         # the least loaded server that may be asked, as soon as one may be
    turn.answered(await turn.complete(request))

`retry.ask` is what asks. A server that is overloaded, limits its rate or is gone is seen here once for all requests of
the run, so that one refusal holds all others back, and a dead server is routed around and tried again.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from selfinstruct.backends.base import Backend, Several, Telling
from selfinstruct.backends.flow.capacity import widest
from selfinstruct.backends.flow.circuit import PATIENCE, Circuit
from selfinstruct.backends.flow.pace import LONG, Pace
from selfinstruct.backends.flow.width import START, Width
from selfinstruct.errors import Fault, RateLimited, Refused
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Completion, Request

SOON = 0.0005
"""Seconds that no timer is worth."""
LONGEST_NAP = 1.0
"""Seconds after which whoever waits for its instant looks whether it has come closer."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the queue of a server that tells."""
CHARACTERS_PER_TOKEN = 4.0
"""Of a prompt, roughly, where tokens a minute are limited."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Flow:
    """One server as the fleet sees it.

    Args:
        live: it answers requests one by one; otherwise they are gathered into files, and neither a pace nor a failed
            line says anything of how much it bears.
    """

    def __init__(
        self, backend: Backend, width: Width, pace: Pace, circuit: Circuit, now: float, *, live: bool = True
    ) -> None:
        self.backend = backend
        self.live = live
        self.telling = backend if isinstance(backend, Telling) else None
        self.width = width
        self.pace = pace
        self.circuit = circuit
        self.gate = asyncio.Lock()
        """Held by the next request to leave, while it waits for its instant."""
        self.in_flight = 0
        """Requests that have a place: sent, or waiting for their instant."""
        self.sent = 0
        """Requests that are with the server."""
        self.turns = 0
        """Places given so far."""
        self.answered_at = now
        self.silent_until = now
        """The instant up to which a person knows that it lets us wait."""
        self._leaves: asyncio.Future[None] | None = None
        self._expected: dict[int | None, float] = {}
        """Tokens of an answer with so much room, on average."""

    @property
    def breadth(self) -> int | None:
        """Its width, where that is not settled from the beginning."""
        return None if self.width.steady else self.width.limit

    def load(self) -> tuple[float, int]:
        """How full it is, from 0 to 1; among equals, how often it has been asked."""
        return self.in_flight / self.width.limit, self.turns

    def has_room(self, now: float) -> bool:
        """Whether a request may be given a place."""
        return self.in_flight < self.width.limit and self.circuit.passes(now)

    async def somebody_leaves(self) -> None:
        """Wait until a request that is with the server is no longer."""
        self._leaves = asyncio.get_running_loop().create_future()
        await self._leaves

    def leave(self, *, sent: bool) -> None:
        """A place is given back."""
        self.sent -= sent
        self.in_flight -= 1
        if self._leaves and not self._leaves.done():
            self._leaves.set_result(None)

    def expects(self, request: Request) -> float:
        """Tokens that a request may take, prompt and answer together, where it matters."""
        if not self.pace.counts_tokens:
            return 0.0
        prompt = request.prompt or "".join(turn.content for turn in request.messages)
        room = request.sampling.max_tokens
        return len(prompt) / CHARACTERS_PER_TOKEN + self._expected.get(room, (room or 512) / 2)

    def took(self, request: Request, answer: Completion, expected: float) -> float:
        """Tokens that an answered request took, as expected where the server does not count; the next of its kind is
        expected to be like it."""
        if not (answer.prompt_tokens and answer.completion_tokens):
            return expected
        room = request.sampling.max_tokens
        before = self._expected.get(room, float(answer.completion_tokens))
        self._expected[room] = before + 0.05 * (answer.completion_tokens - before)
        return answer.prompt_tokens + answer.completion_tokens


class Turn:
    """One attempt at one request: a place with a server; give it back with `answered`, `failed` or `abandoned`."""

    def __init__(self, fleet: Fleet, flow: Flow, request: Request) -> None:
        self._fleet = fleet
        self._flow = flow
        self._request = request
        self._expected = flow.expects(request)
        self._sent_at = 0.0
        self._probe = flow.circuit.opens_at is not None

    @property
    def complete(self) -> Callable[[Request], Awaitable[Completion]]:
        """See `Backend.complete`."""
        return self._flow.backend.complete

    async def come(self) -> Self:
        """Wait for the instant at which it may be sent."""
        fleet, flow, pace = self._fleet, self._flow, self._flow.pace
        async with flow.gate:
            while flow.live:
                if (wait := pace.wait(fleet.clock(), flow.breadth)) > SOON:
                    fleet.tell_silence(flow)
                    # What is known may be another in a moment.
                    await fleet.sleep(min(wait, LONGEST_NAP))
                elif flow.sent >= flow.width.limit:
                    # It has become narrower since there was a place.
                    await flow.somebody_leaves()
                else:
                    break
            self._sent_at = fleet.clock()
            pace.sent(self._sent_at, self._expected)
        flow.sent += 1
        return self

    def answered(self, answer: Completion) -> None:
        """The server answered."""
        flow, now = self._flow, self._fleet.clock()
        if flow.telling and (limits := flow.telling.limits):
            flow.pace.heard(limits, flow.sent, now)
        tokens = flow.took(self._request, answer, self._expected)
        flow.pace.answered(self._sent_at, now, self._expected, tokens)
        kind = self._request.sampling.max_tokens
        flow.width.answered(self._sent_at, now, answer.completion_tokens, flow.sent, kind)
        self._was_heard(now)

    def failed(self, fault: Fault) -> None:
        """The attempt brought no answer."""
        flow, now = self._flow, self._fleet.clock()
        if isinstance(fault, Refused) or not flow.live:
            self._was_heard(now)
        elif isinstance(fault, RateLimited):
            pace = flow.pace
            if pace.refused(self._sent_at, now, fault.retry_after):
                flow.width.back_off(self._sent_at, now, flow.sent, pace.needs, blamed=pace.blameless)
            self._fleet.told_to_wait(flow, fault, now)
            self._was_heard(now, answered=False)
        else:
            if fault.kind == "timeout" or (fault.status or 0) >= 500:
                flow.width.failed(self._sent_at, now)
            reopened = flow.circuit.failed(fault, now, probe=self._probe)
            self._leave(sent=True)
            if reopened:
                self._fleet.opened(flow)

    def abandoned(self) -> None:
        """Nothing came of it, and that says nothing of the server."""
        if self._probe:
            self._flow.circuit.abandoned()
        self._leave(sent=self._sent_at > 0)

    def _was_heard(self, now: float, *, answered: bool = True) -> None:
        if answered:
            self._flow.answered_at = now
        self._flow.circuit.answered()
        self._leave(sent=True)

    def _leave(self, *, sent: bool) -> None:
        self._flow.leave(sent=sent)
        self._fleet.hand_out()


class Fleet:
    """All servers that one run asks the same of.

    Args:
        flows: one for each server.
        clock: seconds that never run backwards.
        sleep: waits that many seconds.
        notice: is told where a server lets us wait for long.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        notice: Notice | None = None,
    ) -> None:
        self.flows = flows
        self._notice = notice
        self._told_until = -math.inf
        """The instant up to which a person knows that what failed is tried again later."""
        self.clock = clock
        self.sleep = sleep
        self.given_up = ""
        """Why no server is asked any more; "" while one is."""
        self._waiting: deque[asyncio.Future[Flow]] = deque()
        self._timers: set[asyncio.Task[None]] = set()

    @classmethod
    def of(
        cls,
        backend: Backend,
        config: BackendConfig,
        *,
        around: Callable[[Backend], Backend] = lambda one: one,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        notice: Notice | None = None,
        rng: random.Random | None = None,
    ) -> Self:
        """The servers behind a backend, each under its share of what the configuration allows.

        Args:
            around: what is put around each of them, such as a meter.
        """
        backends = backend.endpoints if isinstance(backend, Several) else (backend,)
        rng, share = rng or random.Random(), len(backends)
        most, steady = widest(config)
        rpm, tpm = (cap and cap / share for cap in (config.rpm, config.tpm))
        flows = [
            Flow(
                around(one),
                Width(max(1, most // share), config.concurrency or START, steady=steady),
                Pace(rpm, tpm),
                Circuit(rng),
                clock(),
                live=not config.batch,
            )
            for one in backends
        ]
        return cls(flows, clock=clock, sleep=sleep, notice=notice)

    @property
    def width(self) -> int:
        """Requests that may be with all servers together; at least one, even while none is there."""
        return max(1, sum(flow.width.limit for flow in self.flows if flow.circuit.opens_at is None))

    @property
    def told(self) -> str:
        """What holds requests back beside their number, for a person; "" where nothing does."""
        away = sum(flow.circuit.opens_at is not None for flow in self.flows)
        now = self.clock()
        silence = max((flow.pace.silence(now) for flow in self.flows), default=0.0)
        rates = [rate for flow in self.flows if (rate := flow.pace.rate) is not None]
        parts = [f"{away} of {len(self.flows)} servers away" if len(self.flows) > 1 else "server away"] if away else []
        parts += [f"told to wait {silence:.0f} s"] if silence >= LONG else []
        return ", ".join([*parts, *([f"{sum(rates):,.3g}/s at most"] if rates else [])])

    @property
    def tells_queues(self) -> bool:
        """Whether it is worth watching its queues."""
        return any(flow.telling and flow.telling.tells_queue for flow in self.flows)

    async def turn(self, request: Request) -> Turn:
        """A place with the least loaded server that may be asked, when it is time to send.

        A fleet that has been given up hands out turns at once: whoever asks through it has ended by then.
        """
        flow = None if self._waiting else self._choose()
        flow = self._place(flow) if flow else await self._wait()
        turn = Turn(self, flow, request)
        if self.given_up:
            return turn
        try:
            return await turn.come()
        except BaseException:
            turn.abandoned()
            raise

    def hand_out(self) -> None:
        """Give places that are free to those who wait, in their order."""
        while self._waiting and (flow := self._choose()):
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(self._place(flow))

    def opened(self, flow: Flow) -> None:
        """A circuit is open: somebody is let through when its pause is over, unless all have been given up."""
        if all(one.circuit.given_up for one in self.flows):
            self.give_up(flow.circuit.verdict)
            return
        timer = asyncio.ensure_future(self._reopen(flow))
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)

    def told_to_wait(self, flow: Flow, fault: Fault, now: float) -> None:
        """A server wants us to wait, again; one that has not answered for long will not."""
        if now - max(one.answered_at for one in self.flows) > PATIENCE:
            self.give_up(f"no answer for {PATIENCE / 60:.0f} minutes, only this: {fault}")

    def tell_silence(self, flow: Flow) -> None:
        """Tell a person, once, that a server lets us wait for long."""
        now = self.clock()
        if (silence := flow.pace.silence(now)) >= LONG and now >= flow.silent_until:
            flow.silent_until = now + silence
            self._say(f"{flow.backend.model}: its server wants hardly anything for {silence:.0f} s, as it says itself")

    def tell_pause(self, fault: Fault, seconds: float) -> None:
        """Tell a person, once for all who wait at the time, that a server which failed lets them wait for long."""
        now = self.clock()
        if seconds >= LONG and now >= self._told_until:
            self._told_until = now + seconds
            self._say(f"{fault}: trying again in {seconds:.0f} s, as the server wishes")

    def _say(self, line: str) -> None:
        if self._notice:
            self._notice(line)

    def give_up(self, why: str) -> None:
        """No server will be asked any more: let go of all who wait."""
        self.given_up = self.given_up or why
        self.hand_out()

    def close(self) -> None:
        """Forget what is waited for."""
        for timer in self._timers:
            timer.cancel()

    async def watch_queues(self) -> None:
        """Ask servers that tell how long their queues are, again and again; for the life of a run."""
        while True:
            queues = [(flow, flow.telling and await flow.telling.queue()) for flow in self.flows]
            for flow, queue in queues:
                if queue:
                    flow.width.heard(queue, self.clock())
            self.hand_out()
            await self.sleep(LOOK_EVERY)

    def _choose(self) -> Flow | None:
        if self.given_up:
            return self.flows[0]
        now = self.clock()
        return min((flow for flow in self.flows if flow.has_room(now)), key=Flow.load, default=None)

    def _place(self, flow: Flow) -> Flow:
        flow.in_flight += 1
        flow.turns += 1
        flow.circuit.sent()
        return flow

    async def _wait(self) -> Flow:
        waiter: asyncio.Future[Flow] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                flow = waiter.result()
                flow.circuit.abandoned()
                flow.in_flight -= 1
                self.hand_out()
            raise

    async def _reopen(self, flow: Flow) -> None:
        opens_at = flow.circuit.opens_at
        if opens_at is not None:
            await self.sleep(max(0.0, opens_at - self.clock()))
            self.hand_out()
