"""What is asked again, when, and how often: on a clock that only the sleeps move."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from selfinstruct.backends import retry
from selfinstruct.backends.retry import PATIENCE, Throttle, ask
from selfinstruct.backends.scripted import Reply, ScriptedBackend
from selfinstruct.errors import EndpointError, Fault, RateLimited, Refused, Transient
from selfinstruct.records import Completion, Request

QUESTION = Request(model="m", prompt="1.")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Asked:
    """One question to a script of replies, with everything that came of it."""

    def __init__(self, *replies: Reply, then: Callable[[], Reply] | None = None) -> None:
        self.left = list(replies)
        self.then = then
        self.times = 0
        self.faults: list[tuple[str, int]] = []
        self.clock = Clock()
        self.throttle = Throttle(clock=self.clock, sleep=self.clock.sleep, rng=random.Random(1))

    async def answer(self, attempts: int = 3) -> Completion:
        return await ask(
            ScriptedBackend(self._reply),
            QUESTION,
            attempts=attempts,
            on_fault=lambda fault, attempt: self.faults.append((fault.kind, attempt)),
            throttle=self.throttle,
        )

    def _reply(self, request: Request) -> Reply:
        self.times += 1
        return self.left.pop(0) if self.left or self.then is None else self.then()


@pytest.fixture(autouse=True)
def true_pauses(monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 30.0)


def broken(retry_after: float | None = None) -> Fault:
    return Transient("server_error", "500", retry_after=retry_after)


def limited(retry_after: float | None = None) -> Fault:
    return RateLimited("rate_limited", "429", retry_after=retry_after)


async def test_an_answer_is_asked_for_once() -> None:
    asked = Asked("yes")
    assert (await asked.answer()).text == "yes"
    assert (asked.times, asked.faults, asked.clock.slept) == (1, [], [])


async def test_a_transient_fault_is_followed_by_another_attempt() -> None:
    asked = Asked(broken(), broken(), "yes")
    assert (await asked.answer()).text == "yes"
    assert asked.faults == [("server_error", 1), ("server_error", 2)]


async def test_after_the_last_attempt_its_own_fault_is_raised() -> None:
    asked = Asked(broken(), broken(), Transient("timeout", "the last"))
    with pytest.raises(Transient, match="the last"):
        await asked.answer(attempts=3)
    assert asked.faults[-1] == ("timeout", 3)


@pytest.mark.parametrize("final", [Refused("content_filter", "no"), EndpointError("no key"), KeyError("a bug")])
async def test_what_is_final_is_not_asked_again(final: Exception) -> None:
    asked = Asked(final, "never")
    with pytest.raises(type(final)):
        await asked.answer()
    assert asked.times == 1


async def test_pauses_stay_below_a_ceiling_that_doubles_up_to_half_a_minute() -> None:
    asked = Asked(then=broken)
    with pytest.raises(Transient):
        await asked.answer(attempts=60)
    ceilings = [min(30.0, 0.5 * 2**n) for n in range(59)]
    assert all(0 <= slept <= ceiling for slept, ceiling in zip(asked.clock.slept, ceilings, strict=True))
    assert max(asked.clock.slept) > 15


async def test_a_pause_is_never_shorter_than_the_server_wished() -> None:
    asked = Asked(broken(retry_after=9.0), "yes")
    await asked.answer()
    assert asked.clock.slept[0] >= 9.0


async def test_being_told_to_wait_is_no_failed_attempt() -> None:
    asked = Asked(*[limited(1.0)] * 20, "yes")
    assert (await asked.answer(attempts=1)).text == "yes"
    assert asked.faults == [("rate_limited", 1)] * 20


async def test_the_pause_that_a_rate_limit_asks_for_is_kept() -> None:
    asked = Asked(limited(7.0), "yes")
    await asked.answer()
    assert 7.0 <= asked.clock.now - 1000 <= 7.0 * 1.25


async def test_a_rate_limit_without_a_pause_waits_longer_each_time() -> None:
    asked = Asked(*[limited()] * 5, "yes")
    await asked.answer()
    assert asked.clock.slept == sorted(asked.clock.slept)
    assert asked.clock.slept[-1] >= 8.0


async def test_after_a_quarter_of_an_hour_without_any_answer_a_rate_limit_is_a_fault() -> None:
    asked = Asked(then=limited)
    with pytest.raises(RateLimited):
        await asked.answer()
    assert PATIENCE < asked.clock.now - 1000 < PATIENCE + 60


async def test_a_request_waits_on_while_others_of_the_run_are_answered() -> None:
    asked = Asked()

    def others_are_answered() -> Reply:
        asked.throttle.answered(asked.clock.now)
        return limited() if asked.clock.now < 1000 + 4 * PATIENCE else "at last"

    asked.then = others_are_answered
    assert (await asked.answer()).text == "at last"


async def test_one_rate_limit_holds_back_every_request_of_the_run_and_spreads_their_return() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock, sleep=clock.sleep, rng=random.Random(1))
    throttle.held(clock(), 10.0)
    began, returned = clock.now, []
    for _ in range(50):
        clock.now = began
        returned.append(await throttle.ready() - began)
    assert 10.0 <= min(returned) < max(returned) <= 12.5
    assert len(set(returned)) == 50


async def test_many_told_to_wait_at_once_lengthen_the_pause_only_once() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock, sleep=clock.sleep, rng=random.Random(1))
    sent_at = clock()
    clock.now += 0.1
    for _ in range(256):
        throttle.held(sent_at, None)
    assert await throttle.ready() - clock.now <= 0.5
    assert sum(clock.slept) <= 0.5 * 1.25
