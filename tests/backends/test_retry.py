"""What is asked again, when, and how often: on a clock that only the sleeps move."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from selfinstruct.backends.base import Several
from selfinstruct.backends.flow import pauses
from selfinstruct.backends.flow.circuit import PATIENCE, PROBES, TRIP
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.retry import ask
from selfinstruct.backends.scripted import Reply, ScriptedBackend
from selfinstruct.errors import EndpointError, Fault, RateLimited, Refused, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Completion, Request
from tests.support.clock import Clock

QUESTION = Request(model="m", prompt="1.")


class Asked:
    """Questions to a script of replies, with everything that came of them."""

    def __init__(self, *replies: Reply, then: Callable[[], Reply] | None = None, **config: Any) -> None:
        self.left = list(replies)
        self.then = then
        self.times = 0
        self.faults: list[tuple[str, int]] = []
        self.clock = Clock()
        told = BackendConfig(kind="openai", base_url="http://there/v1", **config)
        self.fleet = fleet(self.clock, ScriptedBackend(self._reply), config=told)

    async def answer(self, attempts: int = 3) -> Completion:
        return (await self.answers(1, attempts))[0]

    async def answers(self, questions: int, attempts: int = 3) -> list[Completion]:
        """The answers to so many questions asked at once."""

        def on_fault(fault: Fault, attempt: int) -> None:
            self.faults.append((fault.kind, attempt))

        asked = (ask(self.fleet, QUESTION, attempts=attempts, on_fault=on_fault) for _ in range(questions))
        return await self.clock.run(*asked)

    def _reply(self, request: Request) -> Reply:
        self.times += 1
        return self.left.pop(0) if self.left or self.then is None else self.then()


def fleet(clock: Clock, *backends: ScriptedBackend, config: BackendConfig | None = None) -> Fleet:
    config = config or BackendConfig(kind="openai", base_url="http://there/v1")
    asked = backends[0] if len(backends) == 1 else Several(backends)
    return Fleet.of(asked, config, clock=clock, sleep=clock.sleep, rng=random.Random(1))


@pytest.fixture(autouse=True)
def true_pauses(monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE", 30.0)


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


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_after_the_last_attempt_its_own_fault_is_raised(attempts: int) -> None:
    asked = Asked(*[broken()] * (attempts - 1), Transient("timeout", "the last"), "never")
    with pytest.raises(Transient, match="the last"):
        await asked.answer(attempts=attempts)
    assert asked.faults[-1] == ("timeout", attempts)


@pytest.mark.parametrize("final", [Refused("content_filter", "no"), EndpointError("no key"), KeyError("a bug")])
@pytest.mark.parametrize("before", [0, 1])
async def test_what_is_final_is_not_asked_again(final: Exception, before: int) -> None:
    asked = Asked(*[broken()] * before, final, "never")
    with pytest.raises(type(final)):
        await asked.answer()
    assert asked.times == before + 1
    assert asked.fleet.flows[0].in_flight == 0


async def test_pauses_stay_below_a_ceiling_that_doubles_up_to_half_a_minute() -> None:
    # Now and then somebody else is answered, so that the circuit stays closed.
    asked = Asked()

    def others_are_answered() -> Reply:
        asked.fleet.flows[0].circuit.answered()
        return broken()

    asked.then = others_are_answered
    with pytest.raises(Transient):
        await asked.answer(attempts=60)
    ceilings = [min(30.0, 0.5 * 2**n) for n in range(59)]
    assert all(0 <= slept <= ceiling for slept, ceiling in zip(asked.clock.slept, ceilings, strict=True))
    assert max(asked.clock.slept) > 15


@pytest.mark.parametrize("before", [0, 1])
async def test_a_pause_is_never_shorter_than_the_server_wished(before: int) -> None:
    asked = Asked(*[broken()] * before, broken(retry_after=9.0), "yes")
    await asked.answer()
    assert asked.clock.slept[before] >= 9.0


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
    assert asked.clock.now - 1000 >= 0.5 + 1 + 2 + 4 + 8


async def test_after_a_quarter_of_an_hour_without_any_answer_a_rate_limit_is_a_fault() -> None:
    asked = Asked(then=limited)
    with pytest.raises(RateLimited):
        await asked.answer()
    assert PATIENCE < asked.clock.now - 1000 < PATIENCE + 60
    assert asked.fleet.given_up == "no answer for 15 minutes, only this: 429"


async def test_a_request_waits_on_while_others_of_the_run_are_answered() -> None:
    asked = Asked()

    def others_are_answered() -> Reply:
        asked.fleet.flows[0].answered_at = asked.clock.now
        return limited() if asked.clock.now < 1000 + 4 * PATIENCE else "at last"

    asked.then = others_are_answered
    assert (await asked.answer()).text == "at last"


async def test_a_server_that_only_fails_is_given_up_after_some_probes_with_its_commonest_words() -> None:
    asked = Asked(Transient("timeout", "too slow"), then=broken)
    with pytest.raises(Transient):
        await asked.answer(attempts=1000)
    assert asked.times == TRIP + PROBES
    assert asked.fleet.given_up == "13 attempts in a row failed, most often so: 500"


async def test_a_server_that_lets_every_request_run_out_of_time_is_given_up_within_the_hour() -> None:
    asked = Asked()

    def in_vain() -> Reply:
        asked.clock.now += 600
        return Transient("timeout", "no answer in time")

    asked.then = in_vain
    with pytest.raises(Transient):
        await asked.answer(attempts=1000)
    assert asked.clock.now - 1000 < 3600
    assert asked.fleet.given_up == "5 attempts in a row failed, most often so: no answer in time"


async def test_while_a_server_is_gone_requests_take_turns_at_probing_it() -> None:
    asked = Asked(then=lambda: broken() if asked.clock.now < 1006 else "back")
    answers = await asked.answers(12, attempts=20)
    assert [answer.text for answer in answers] == ["back"] * 12
    attempts = [attempt for _, attempt in asked.faults]
    assert max(attempts) <= 3, "one request has spent the attempts that all could share"


async def test_a_dead_server_among_several_is_routed_around_and_tried_again() -> None:
    clock, dead = Clock(), list[float]()

    def dying(request: Request) -> Reply:
        dead.append(clock.now)
        return broken() if clock.now < 1060 else "back"

    both = fleet(clock, ScriptedBackend(dying), ScriptedBackend(lambda request: "alive"))
    answers = list[str]()

    async def worker() -> None:
        while clock.now < 1100:
            answers.append((await ask(both, QUESTION, attempts=9, on_fault=lambda fault, attempt: None)).text)
            await clock.sleep(0.5)

    await clock.run(*(worker() for _ in range(4)))
    assert set(answers) == {"alive", "back"}
    tried = [at for at in dead if at < 1060]
    assert len(tried) < 20, "asked again and again though it was dead"
    assert dead[-1] > 1090, "not asked again when it was back"


async def test_the_least_loaded_of_several_servers_is_asked_next() -> None:
    clock = Clock()
    both = fleet(clock, ScriptedBackend(lambda request: "a"), ScriptedBackend(lambda request: "b"))
    turns = [await both.turn(QUESTION) for _ in range(8)]
    assert [flow.in_flight for flow in both.flows] == [4, 4]
    for turn in turns:
        turn.abandoned()
    assert [flow.in_flight for flow in both.flows] == [0, 0]


async def test_a_place_is_given_to_those_who_wait_in_their_order() -> None:
    asked = Asked(concurrency=1)
    first, order = await asked.fleet.turn(QUESTION), list[int]()

    async def wait(number: int) -> None:
        turn = await asked.fleet.turn(QUESTION)
        order.append(number)
        turn.abandoned()

    waiting = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    waiting[2].cancel()
    first.abandoned()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 3, 4]
    assert asked.fleet.flows[0].in_flight == 0


async def test_one_rate_limit_holds_back_every_request_of_the_run() -> None:
    asked = Asked(then=lambda: "yes")
    first = await asked.fleet.turn(QUESTION)
    first.failed(limited(10.0))
    began = asked.clock.now
    await asked.answers(50)
    assert asked.clock.now - began >= 10.0
