"""Budgets: what a run may still send, decided before each attempt, and what it has spent, to the last one.

Every attempt goes through the `Purse`. It reserves what the attempt may take at most, in memory and in the ledger's
meter, before anything is sent; when the attempt is over the reservation gives way to what it took. So what is in flight
is always counted, also where the process dies. An attempt that does not fit beside those in flight waits until one of
them is over; where nothing is in flight that could make room, the budget is reached, and nothing is sent any more.

What an attempt took is what the server says, number by number. A number that it does not say, or that no request like
it can take, is the reservation; where it answered with an error, or was never reached, nothing, for that is charged
nowhere.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from selfinstruct.errors import EndpointError, Fault
from selfinstruct.inputs.config import BudgetConfig
from selfinstruct.inputs.prices import Price, Prices, cost
from selfinstruct.records import WRITER, Completion, Request, Sampling, Turn, Usage
from selfinstruct.store.ledger import Count, Ledger

PER_TURN = 16
"""Tokens at most that a server puts around each turn of a chat."""
AROUND = 64
"""Tokens at most that it puts around a prompt."""
HIDDEN = 4096
"""Tokens at most that a server is believed to put before each prompt without our knowledge."""
SHOWN_AS = 4
"""Times as many bytes that tools and schemas may have as a server shows them to the model, indented and explained."""
LONGEST_ANSWER = 32_768
"""Tokens that an answer without `max_tokens` is taken to have at most."""
MAY_BE_CHARGED = {408, 499, 504, 524}
"""Statuses of somebody on the way who did not wait for the answer, which the server may have given and charged."""
NEVER_SENT = {"connection_refused", "no_such_host", "tls"}
"""Faults of attempts that reached no server."""
STORE_EVERY = 1.0
"""Seconds after which what was spent is stored at the latest, as soon as something more is."""
NOTHING = Usage()

What = Literal["cost", "tokens", "requests", "time"]


class Cap(NamedTuple):
    """One budget."""

    what: What
    limit: float
    """US dollars, tokens, requests, or seconds."""


class Reached(NamedTuple):
    """A budget with no room for what comes next."""

    cap: Cap
    spent: float
    """What is spent of it, with what is in flight; in its unit, as its limit."""
    more: float = 0.0
    """What the next request may take at most; 0 where all is spent."""


def caps_of(budget: BudgetConfig) -> list[Cap]:
    """The budgets that are set."""
    limits: tuple[tuple[What, float | None], ...] = (
        ("cost", budget.cost), ("tokens", budget.tokens), ("requests", budget.requests), ("time", budget.time),
    )  # fmt: skip
    return [Cap(what, limit) for what, limit in limits if limit is not None]


def amount(what: What, usage: Usage, price: Price | None) -> float:
    """How much of a budget these requests to one model take; of time none."""
    if what == "cost":
        assert price is not None, "a budget of cost is refused where a price is not known"
        return price.of(usage)
    return usage.tokens if what == "tokens" else usage.requests


def standings(
    budget: BudgetConfig, spent: Mapping[str, Usage], prices: Prices, seconds: float
) -> dict[What, tuple[float, float]]:
    """Of each budget that is set how much is spent, and of how much; one of cost is left out where a price is not
    known."""
    so_far = ((cap, _so_far(cap.what, spent, prices, seconds)) for cap in caps_of(budget))
    return {cap.what: (amount, cap.limit) for cap, amount in so_far if amount is not None}


def _so_far(what: What, spent: Mapping[str, Usage], prices: Prices, seconds: float) -> float | None:
    if what == "cost":
        return cost(prices, spent.items())
    return seconds if what == "time" else sum(amount(what, usage, None) for usage in spent.values())


def exceeded(standings: Mapping[What, tuple[float, float]]) -> Reached | None:
    """The first budget of which all is spent; None if there is none."""
    for what, (spent, limit) in standings.items():
        if spent >= limit:
            return Reached(Cap(what, limit), spent)
    return None


class Charge(NamedTuple):
    """What one attempt may take at most."""

    door: str
    usage: Usage
    size: int
    """Bytes of its prompt."""


class Account:
    """What one model has spent, and what it has in flight."""

    def __init__(self, spent: Usage) -> None:
        self.spent = spent
        self.in_flight = NOTHING
        """What the attempts in flight may take at most."""
        self.due = NOTHING
        """Spent, and not yet in the ledger."""
        self.stored = NOTHING
        """What the ledger has for in flight; never less than `in_flight` and `due` together."""
        self._hidden = 0
        """The most tokens by which a prompt was longer than it has bytes."""

    def most_tokens(self, size: int) -> int:
        """How many a prompt of so many bytes has at most: a token is at least a byte, and what the server puts before
        it is as long as ever before."""
        return size + self._hidden

    def learn(self, size: int, tokens: int) -> None:
        """A prompt of so many bytes had so many tokens."""
        if tokens - size <= HIDDEN:
            self._hidden = max(self._hidden, tokens - size)


def _always(request: Request) -> bool:
    return True


class Purse:
    """What a run may still send.

    Args:
        ledger: open for writing; has what earlier sessions have spent.
        budget: what the run may take at most.
        prices: of each model, where the budget has a cost.
        doors: the models that are asked, by their names in the run.
        wanted: whether anybody still wants the answer to a request.
        resumed: models whose requests outlive the process (batches): what they had in flight will be asked again.
        on_reached: called once, with the budget that is reached.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        ledger: Ledger,
        budget: BudgetConfig,
        prices: Mapping[str, Price],
        *,
        on_reached: Callable[[Reached], None],
        doors: Collection[str] = (WRITER,),
        wanted: Callable[[Request], bool] = _always,
        resumed: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._caps = [cap for cap in caps_of(budget) if cap.what != "time"]
        self._budget = budget
        self._prices = prices
        self._resumed = resumed
        self._doors = doors
        self._wanted = wanted
        self._on_reached = on_reached
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._waiting: deque[tuple[Charge, asyncio.Future[bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._reached = False
        self._before = 0.0
        """Seconds that earlier sessions worked."""
        self._began = self._counted = clock()

    def open(self) -> None:
        """Begin a session."""
        self._ledger.go_on(self._resumed)
        meters = self._ledger.meter()
        self._accounts = {door: Account(meters[door].usage if door in meters else NOTHING) for door in self._doors}
        self._before = sum(meter.seconds for meter in meters.values())
        self._began = self._counted = self._clock()
        if over := exceeded(standings(self._budget, self.spent, self._prices, self._before)):
            self._end(over)
        elif self._budget.time is not None:
            left = self._budget.time - self._before
            self._timer = asyncio.get_running_loop().call_later(left, self._out_of_time, self._budget.time)

    def close(self) -> None:
        """Leave a session; one that has not ended is as one that was killed."""
        if self._timer is not None:
            self._timer.cancel()

    def end(self, ending: str, message: str) -> None:
        """End a session, in which nothing is in flight any more."""
        seconds = self._lap()
        counts = [Count(door, account.due, 0.0, NOTHING) for door, account in self._accounts.items()]
        self._ledger.end(ending, message, [*counts, Count(next(iter(self._accounts)), NOTHING, seconds)])

    @property
    def spent(self) -> dict[str, Usage]:
        """By model, what all sessions have spent; what is in flight is not."""
        return {door: account.spent for door, account in self._accounts.items()}

    def asking(self, door: str) -> int:
        """Attempts at a model that are in flight."""
        return self._accounts[door].in_flight.requests if door in self._accounts else 0

    @property
    def seconds(self) -> float:
        """Worked in all sessions."""
        return self._before + self._clock() - self._began

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def admit(self, door: str, request: Request) -> Charge | None:
        """Reserve what an attempt may take at most, as soon as it fits; None where nothing may be sent any more, or
        nobody wants the answer."""
        if self._reached or not self._wanted(request):
            return None
        account, size = self._accounts[door], size_of(request)
        charge = Charge(door, Usage(1, account.most_tokens(size), 0, longest_answer(request.sampling)), size)
        if self._in_the_way(charge) is None:
            self._send(charge)
            return charge
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((charge, turn))
        self._look()
        if not await turn:
            return None
        if self._wanted(request):
            return charge
        self._land(charge, NOTHING)
        return None

    def answered(self, charge: Charge, completion: Completion) -> None:
        """An attempt was answered."""
        most, prompt, written = charge.usage, completion.prompt_tokens, completion.completion_tokens
        self._accounts[charge.door].learn(charge.size, prompt)
        if not 0 < prompt <= most.prompt_tokens:
            prompt, cached = most.prompt_tokens, 0
        else:
            cached = max(0, min(completion.cached_tokens, prompt))
        if not 0 < written <= most.completion_tokens:
            written = most.completion_tokens
        self._land(charge, Usage(1, prompt, cached, written))

    def failed(self, charge: Charge, error: BaseException) -> None:
        """An attempt brought no answer."""
        self._land(charge, Usage(1) if charged_nothing(error) else charge.usage)

    @contextmanager
    def due(self) -> Iterator[list[Count]]:
        """What is to be stored in this block, beside the answer or the fault: what was spent, once in a while, for
        until then it counts as in flight; of requests that outlive the process, at once."""
        now = self._clock() - self._counted >= STORE_EVERY
        counts = [
            self._count(door, account)
            for door, account in self._accounts.items()
            if account.due.requests and (now or door in self._resumed)
        ]
        yield counts
        self._stored(counts)

    def _count(self, door: str, account: Account) -> Count:
        """All that is due, and twice of what is in flight, so that most of what is sent next is covered already."""
        return Count(door, account.due, self._lap(), account.in_flight.plus(account.in_flight))

    def _stored(self, counts: Iterable[Count]) -> None:
        """The ledger has them. Not before: where it cannot be written, nothing may seem covered that is not."""
        for count in counts:
            account = self._accounts[count.role]
            account.due, account.stored = account.due.minus(count.usage), count.in_flight

    def _send(self, charge: Charge) -> None:
        account = self._accounts[charge.door]
        account.in_flight = account.in_flight.plus(charge.usage)
        if not account.stored.covers(account.in_flight.plus(account.due)):
            counts = [self._count(charge.door, account)]
            self._ledger.charge(counts)
            self._stored(counts)

    def _land(self, charge: Charge, took: Usage) -> None:
        account = self._accounts[charge.door]
        account.in_flight = account.in_flight.minus(charge.usage)
        account.spent = account.spent.plus(took)
        account.due = account.due.plus(took)
        if self._waiting:
            self._look()

    # -- the budget ---------------------------------------------------------------------------------------------------

    def _in_the_way(self, charge: Charge) -> Cap | None:
        """The budget that an attempt does not fit into beside those in flight."""
        for cap in self._caps:
            more = amount(cap.what, charge.usage, self._prices.get(charge.door))
            if self._spent(cap) + self._in_flight(cap) + more > cap.limit:
                return cap
        return None

    def _look(self) -> None:
        """Let those that wait have their turn, first come, first served, as far as they fit."""
        while self._waiting and not self._reached:
            charge, turn = self._waiting[0]
            cap = None if turn.done() else self._in_the_way(charge)
            if cap is not None:
                # A request that was sent stays sent; of what the others may take at most, some may come back.
                if cap.what == "requests" or not any(account.in_flight.requests for account in self._accounts.values()):
                    more = amount(cap.what, charge.usage, self._prices.get(charge.door))
                    self._end(Reached(cap, self._spent(cap) + self._in_flight(cap), more))
                break
            self._waiting.popleft()
            if not turn.done():
                self._send(charge)
                turn.set_result(True)

    def _end(self, end: Reached) -> None:
        """Send nothing more."""
        self._reached = True
        self._on_reached(end)
        self._turn_away()

    def _turn_away(self) -> None:
        for _, turn in self._waiting:
            if not turn.done():
                turn.set_result(False)
        self._waiting.clear()

    def _out_of_time(self, limit: float) -> None:
        if not self._reached:
            self._end(Reached(Cap("time", limit), self.seconds))

    def _spent(self, cap: Cap) -> float:
        return sum(amount(cap.what, account.spent, self._prices.get(door)) for door, account in self._accounts.items())

    def _in_flight(self, cap: Cap) -> float:
        return sum(
            amount(cap.what, account.in_flight, self._prices.get(door)) for door, account in self._accounts.items()
        )

    def _lap(self) -> float:
        """Seconds since the last that were counted."""
        before, self._counted = self._counted, self._clock()
        return self._counted - before


# -- what an attempt may take, and took -------------------------------------------------------------------------------


def size_of(request: Request) -> int:
    """Bytes that a prompt may have at most, with what a server puts around it: and so, tokens."""
    size = AROUND + sum(map(_size_of_turn, request.messages))
    if request.prompt is not None:
        size += _bytes(request.prompt)
    # Models are shown the tools, and by some servers the schema; in further fields there may be anything.
    shown = [tool.model_dump_json() for tool in request.tools]
    shown += [json.dumps(more) for more in (request.answer_schema, request.sampling.extra) if more]
    return size + SHOWN_AS * sum(map(_bytes, shown))


def _size_of_turn(turn: Turn) -> int:
    calls = (_bytes(call.model_dump_json()) for call in turn.calls)
    return PER_TURN + _bytes(turn.content) + SHOWN_AS * sum(calls)


def longest_answer(sampling: Sampling) -> int:
    """Tokens that an answer may have at most, all of them together where several are asked for; a further field of the
    body wins, as it does when it is sent."""
    told = [sampling.extra.get(name) for name in ("max_completion_tokens", "max_tokens")]
    limits: list[object] = [tokens for tokens in told if tokens is not None]
    # Anything else that stands for a limit means none: -1 is what llama.cpp calls it.
    longest = max(
        tokens if type(tokens) is int and tokens > 0 else LONGEST_ANSWER for tokens in limits or [sampling.max_tokens]
    )
    several = [count for name in ("n", "best_of") if type(count := sampling.extra.get(name)) is int]
    return longest * max(1, *several, 1)


def charged_nothing(error: BaseException) -> bool:
    """Whether an attempt that met this was surely not charged: the server said no, or was not reached."""
    if isinstance(error, Fault):
        status = error.status or 0
        return error.kind in NEVER_SENT or (status >= 400 and status not in MAY_BE_CHARGED)
    return isinstance(error, EndpointError)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
