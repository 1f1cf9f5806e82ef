"""How many at once, how fast: widths and paces against servers that exist only as arithmetic."""

from __future__ import annotations

import heapq
import itertools
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.backends.base import Left, Limits, Queue
from selfinstruct.backends.flow import pauses
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.pace import CREDIT, Pace
from selfinstruct.backends.flow.retry import ask
from selfinstruct.backends.flow.width import START, Width
from selfinstruct.backends.openai.headers import limits_of, seconds_of
from selfinstruct.errors import RateLimited
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Completion, Request, Sampling
from tests.support.clock import Clock

QUESTION = Request(model="m", prompt="1." * 40, sampling=Sampling(max_tokens=40))


@pytest.fixture(autouse=True)
def true_pauses(monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE", 30.0)


def simulated(width: Width, *, slots: int, answers: int, seconds: float = 1.0, sigma: float = 0.0) -> list[int]:
    """The widths while so many answers come from a server with so many slots; the rest waits in its queue."""
    rng, now, number = Random(1), 0.0, itertools.count()
    running: list[tuple[float, int, float, int]] = []
    queue: list[tuple[float, float, int]] = []
    seen = []
    for _ in range(answers):
        while len(running) + len(queue) < width.limit:
            factor = min(10.0, rng.lognormvariate(-(sigma**2) / 2, sigma))
            queue.append((now, seconds * factor, int(100 * factor)))
        while queue and len(running) < slots:
            sent_at, takes, tokens = queue.pop(0)
            heapq.heappush(running, (now + takes, next(number), sent_at, tokens))
        now, _, sent_at, tokens = heapq.heappop(running)
        width.answered(sent_at, now, tokens, len(running) + len(queue) + 1)
        seen.append(width.limit)
    return seen


def test_a_width_starts_low_and_doubles_while_that_brings_more() -> None:
    seen = simulated(Width(1024), slots=10_000, answers=6000)
    assert seen[0] == START
    assert sorted(set(seen)) == [32, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize("slots", [20, 64, 100, 256])
@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_a_width_comes_to_stand_a_little_above_the_slots_of_the_server(slots: int, sigma: float) -> None:
    seen = simulated(Width(1024), slots=slots, answers=120 * slots, sigma=sigma)
    tail = seen[len(seen) // 2 :]
    assert slots <= sum(tail) / len(tail) <= 2.4 * slots + 24
    assert sum(limit < slots for limit in tail) < 0.1 * len(tail)


@given(most=st.integers(1, 600), slots=st.integers(1, 300))
def test_a_width_is_never_more_than_the_most_nor_less_than_one(most: int, slots: int) -> None:
    assert all(1 <= limit <= most for limit in simulated(Width(most), slots=slots, answers=800))


def test_short_answers_that_take_as_long_as_long_ones_are_not_taken_for_a_slow_server() -> None:
    """As where an answer takes a time of its own, whatever its length, and the first that are asked for are long."""
    width, now = Width(256), 0.0
    while now < 20:
        tokens = 200 if now < 0.5 or int(now * 100) % 10 == 0 else 3
        now += 0.5 / width.limit
        width.answered(now - 0.5, now, tokens, width.limit, kind=512 if tokens == 200 else 3)
    assert width.limit == 256


def test_a_steady_width_never_changes() -> None:
    width = Width(4, steady=True)
    width.back_off(1.0, 1.0, 4)
    width.heard(Queue(4, 0), 2.0)
    assert set(simulated(width, slots=2, answers=500)) == {4}


def test_a_server_that_is_overloaded_is_asked_for_a_third_less_at_once_and_then_for_more_little_by_little() -> None:
    width = Width(64)
    simulated(width, slots=1000, answers=500)
    assert width.limit == 64
    width.back_off(500.0, 500.0, 64)
    assert width.limit == 44
    for sent_at in range(40):
        width.back_off(499.0 + sent_at / 100, 501.0, 44)
    assert width.limit == 44, "those that were out at the time say it again, and nothing new"
    grown = [width.limit]
    for now in range(502, 1200):
        width.answered(now - 0.5, float(now), 100, width.limit)
        grown.append(width.limit)
    assert grown == sorted(grown)
    assert max(later - before for before, later in itertools.pairwise(grown)) <= 3
    assert grown[-1] > 55


def test_before_an_answer_no_number_is_blamed() -> None:
    """How many at once are too many is only known once some were borne."""
    width = Width(256, 128)
    width.back_off(1.0, 1.0, 100, blamed=True)
    assert width.limit == 128
    width.answered(0.5, 2.0, 100, 60)
    width.back_off(2.0, 3.0, 100, blamed=True)
    assert width.limit == 99


def test_a_stray_error_is_no_sign_of_overload_and_a_fifth_of_them_is() -> None:
    def after(share: float) -> int:
        width, rng = Width(64), Random(3)
        for now in range(2000):
            if rng.random() < share:
                width.failed(now - 0.5, float(now))
            else:
                width.answered(now - 0.5, float(now), 100, width.limit)
        return width.limit

    assert after(0.05) == 64
    assert after(0.5) < 30


def test_an_overload_after_a_long_time_without_any_is_seen_as_soon_as_one_at_the_beginning() -> None:
    width = Width(64, 64)
    for now in range(100_000):
        width.answered(now - 0.5, float(now), 100, width.limit)
    before = width.limit
    for now in range(100_000, 100_060):
        width.failed(now - 0.5, float(now))
    assert width.limit < before


def test_a_server_that_tells_its_queue_has_something_waiting_and_not_much() -> None:
    width, slots = Width(1024), 48
    for now in range(60):
        queue = Queue(min(slots, width.limit), max(0, width.limit - slots))
        width.heard(queue, float(now))
    assert slots < width.limit <= slots * 1.2


# -- paces ------------------------------------------------------------------------------------------------------------


class Limited:
    """A server that takes so many requests a second, each for so long, and refuses the others at once."""

    def __init__(
        self,
        clock: Clock,
        kind: str,
        *,
        headers: bool = False,
        wait: float | None = 1.0,
        seconds: float = 0.05,
        holds: float = 20.0,
    ) -> None:
        self.model, self.tells_queue = "m", False
        self.limits: Limits | None = None
        self.taken: list[float] = []
        self.refused: list[float] = []
        self._clock, self._kind, self._headers, self._wait = clock, kind, headers, wait
        self._seconds = seconds
        self._bucket, self._holds, self._filled_at = holds, holds, clock()

    async def complete(self, request: Request) -> Completion:
        now = self._clock()
        left = self._left(now)
        if left < 1:
            self.refused.append(now)
            await self._clock.sleep(0.002)
            raise RateLimited("rate_limited", "429", retry_after=self._wait)
        self.taken.append(now)
        self._bucket -= 1
        await self._clock.sleep(self._seconds)
        if self._headers:
            reset = {"sliding": 1.0, "fixed": 1.0 - now % 1.0, "bucket": (self._holds + 1 - left) / PER_SECOND}
            most = self._holds if self._kind == "bucket" else PER_SECOND
            self.limits = Limits(Left(left - 1, reset[self._kind], most))
        return Completion(text="yes", prompt_tokens=20, completion_tokens=20)

    async def queue(self) -> Queue | None:
        return None

    async def aclose(self) -> None:
        pass

    def _left(self, now: float) -> float:
        recent = self.taken[-PER_SECOND:]
        if self._kind == "sliding":
            return PER_SECOND - sum(at > now - 1 for at in recent)
        if self._kind == "fixed":
            return PER_SECOND - sum(int(at) == int(now) for at in recent)
        self._bucket = min(self._holds, self._bucket + (now - self._filled_at) * PER_SECOND)
        self._filled_at = now
        return self._bucket


PER_SECOND = 150


async def asked_of(server: Limited, clock: Clock, requests: int, at_once: int = 64, **config: Any) -> float:
    """The seconds that so many requests take, so many at once."""
    told = BackendConfig(kind="openai", base_url="http://there/v1", concurrency=at_once, **config)
    fleet = Fleet.of(server, told, clock=clock, sleep=clock.sleep, rng=Random(1))
    left, began = iter(range(requests)), clock()

    async def worker() -> None:
        for _ in left:
            await ask(fleet, QUESTION, attempts=3, on_fault=lambda fault, attempt: None)

    await clock.run(*(worker() for _ in range(at_once)))
    return clock() - began


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
@pytest.mark.parametrize("headers", [False, True])
async def test_a_limit_of_requests_a_second_is_found_and_kept_to(kind: str, headers: bool) -> None:
    clock = Clock()
    server = Limited(clock, kind, headers=headers)
    seconds = await asked_of(server, clock, 1000)
    assert len(server.refused) < 20
    assert seconds < 1.15 * 1000 / PER_SECOND


@pytest.mark.parametrize("kind", ["sliding", "fixed", "bucket"])
async def test_of_many_at_once_few_are_refused_before_the_first_refusal_is_heard(kind: str) -> None:
    clock = Clock()
    server = Limited(clock, kind)
    await asked_of(server, clock, 256, at_once=256)
    assert len(server.refused) < 50


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(("at_once", "seconds"), [(10, 0.05), (16, 0.05), (32, 0.15), (100, 0.15), (100, 0.5)])
@pytest.mark.parametrize("kind", ["sliding", "fixed"])
async def test_a_limit_is_found_however_few_are_asked_at_once_and_whenever_its_window_begins(
    kind: str, at_once: int, seconds: float, phase: float
) -> None:
    """Few at once are refused late, when part of what they sent was in the window before. Windows of the clock's are
    the hardest: where one ends, what was taken in a second may be nearly twice the limit."""
    clock = Clock()
    clock.now += phase
    server = Limited(clock, kind, seconds=seconds)
    took = await asked_of(server, clock, 3000, at_once)
    assert len(server.refused) < 15
    assert took < (1.15 if kind == "sliding" else 1.45) * 3000 / PER_SECOND


async def test_a_first_lesson_that_was_too_strict_is_unlearnt() -> None:
    """A bucket that holds few refuses early; what it took until then says little."""
    clock = Clock()
    server = Limited(clock, "bucket")
    await asked_of(server, clock, 6000)
    last = [at for at in server.taken if at > clock() - 5]
    assert len(last) / 5 > 0.7 * PER_SECOND
    assert len(server.refused) < 120


@pytest.mark.parametrize("holds", [1, 2, 3])
@pytest.mark.parametrize("seconds", [0.05, 0.3])
async def test_a_server_that_takes_requests_one_by_one_is_asked_one_by_one(holds: int, seconds: float) -> None:
    """Of any that leave together it refuses most, after which it wants a second of silence."""
    clock = Clock()
    server = Limited(clock, "bucket", holds=holds, seconds=seconds)
    took = await asked_of(server, clock, 3000)
    last = [at for at in server.taken if at > clock() - 5]
    assert len(last) / 5 > 0.7 * PER_SECOND
    assert took < 1.8 * 3000 / PER_SECOND
    assert len(server.refused) < 90


class Crowded(Limited):
    """Takes so many at once, and refuses whatever is more."""

    PLACES = 16

    def _left(self, now: float) -> float:
        return self.PLACES - sum(at > now - self._seconds for at in self.taken[-self.PLACES :])


@pytest.mark.parametrize("wait", [1.0, None])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
async def test_a_server_that_refuses_more_than_it_does_at_once_is_kept_at_work(
    wait: float | None, seconds: float
) -> None:
    """Each burst is refused in part, and a part is taken: no reason to let it wait longer each time."""
    clock = Clock()
    server = Crowded(clock, "places", wait=wait, seconds=seconds)
    took = await asked_of(server, clock, 500)
    assert took < 1.8 * 500 * seconds / Crowded.PLACES


async def test_after_a_refusal_nothing_is_sent_before_the_server_wants_to_hear_from_us() -> None:
    clock = Clock()
    server = Limited(clock, "sliding", wait=3.0)
    await asked_of(server, clock, 400)
    first = server.refused[0]
    later = [at for at in sorted(server.taken + server.refused) if at > first + 0.003]
    assert later[0] >= first + 3.0


@pytest.mark.parametrize(("cap", "rate"), [({"rpm": 600}, 10), ({"tpm": 24_000}, 10)])
async def test_a_cap_that_was_told_is_kept_from_the_first_request_on(cap: dict[str, float], rate: float) -> None:
    clock = Clock()
    server = Limited(clock, "sliding")
    await asked_of(server, clock, 400, **cap)
    assert not server.refused
    for start in range(1000, int(clock()) - 5):
        within = sum(start <= at < start + 5 for at in server.taken)
        assert within <= 5 * rate * 1.2 + 1
    assert 400 / (clock() - 1000) > 0.8 * rate


def test_a_pause_too_short_lowers_no_rate() -> None:
    """Refused at once after a pause, the server was not asked too fast: it is only waited longer for."""
    pace = Pace()
    for count in range(100):
        pace.sent(1000.0 + count / 200, 0)
    assert pace.refused(1000.495, 1000.5, None)
    rate, waits = pace.rate, [pace.wait(1000.5, None)]
    for _ in range(3):
        now = 1000.5 + sum(waits) + len(waits)
        pace.sent(now, 0)
        assert pace.refused(now, now, None)
        waits.append(pace.wait(now, None))
    assert pace.rate == rate
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0])


@given(remaining=st.integers(0, 250), out=st.integers(0, 64), reset=st.floats(2.1, 100))
def test_what_the_headers_leave_lasts_until_there_is_more(remaining: int, out: int, reset: float) -> None:
    pace = Pace()
    pace.heard(Limits(Left(1000.0, reset)), 0, 1000.0)
    pace.heard(Limits(Left(float(remaining), reset)), out, 1000.0)
    for _ in range(5):
        pace.sent(1000.0, 0)
    assert pace.wait(1000.0, 64) == pytest.approx(max(0.0, 5 * reset / max(remaining - out, 0.5) - CREDIT))


def test_a_short_window_is_gone_through_evenly_even_where_one_ends() -> None:
    """At that instant nothing is left of the time: all is allowed again, and no more than before."""
    pace = Pace()
    pace.heard(Limits(Left(100.0, 1.0, 150.0)), 0, 1000.0)
    rate = pace.rate
    for count in range(100):
        pace.sent(1000.0 + count / 145, 0)
    for reset in (0.0, 0.9):
        pace.heard(Limits(Left(150.0, reset, 150.0)), 0, 1000.7)
        assert pace.rate == rate
        assert pace.wait(1000.7, 64) == 0


def test_what_is_left_of_a_minute_is_spread_over_it_without_a_pause_for_what_is_gone() -> None:
    pace = Pace()
    for count in range(200):
        pace.sent(1000.0 + count / 100, 0)
    pace.heard(Limits(Left(1000.0, 30.0, 6000.0)), 10, 1002.0)
    assert pace.rate == pytest.approx(33)
    assert pace.wait(1002.0, 64) == 0


def test_what_a_whole_day_has_left_is_not_spread_over_the_day() -> None:
    pace = Pace()
    pace.heard(Limits(Left(14_400.0, 86_400.0)), 0, 1000.0)
    pace.heard(Limits(Left(100.0, 86_000.0)), 1, 1000.0)
    assert pace.rate is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("0.5", 0.5), ("12", 12),
     ("1700000010", 10), ("1700000010000", 10), ("2023-11-14T22:13:40Z", 20)],
)  # fmt: skip
def test_when_a_limit_is_reset_is_read_in_every_way_that_servers_say_it(text: str, seconds: float) -> None:
    assert seconds_of(text, now=1_700_000_000.0) == pytest.approx(seconds)


def test_limits_are_read_from_headers_and_nonsense_is_passed_over() -> None:
    openai = {"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6ms",
              "x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "1m"}  # fmt: skip
    assert limits_of(openai) == Limits(Left(9, 0.006), Left(100, 60))
    theirs = {"ratelimit-remaining": "3", "ratelimit-reset": "10", "ratelimit-limit": "5"}
    assert limits_of(theirs) == Limits(Left(3, 10, 5))
    for left, reset in [
        ("many", "soon"),
        ("nan", "1s"),
        ("9", "nan"),
        ("-1", "1s"),
        ("inf", "1s"),
        ("9", "0001-01-01"),
    ]:
        assert limits_of({"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": reset}) is None
    assert limits_of({}) is None


class Busy(Limited):
    """Refuses everything for 0.4 of every 2 seconds, however little is asked."""

    def _left(self, now: float) -> float:
        return 0 if now % 2.0 < 0.4 else 100


@pytest.mark.parametrize("wait", [0.3, None])
async def test_refusals_that_have_nothing_to_do_with_the_pace_do_not_slow_it_down_for_good(wait: float | None) -> None:
    clock = Clock()
    server = Busy(clock, "sliding", wait=wait)
    seconds = await asked_of(server, clock, 4000)
    last = sum(at > clock() - 20 for at in server.taken) / 20
    assert last > 60
    assert seconds < 150
