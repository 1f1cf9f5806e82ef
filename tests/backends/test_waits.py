"""Waits whose length a server sets: read in bounds, told at once, kept for no longer than is meant, and never shorter
than our own."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfinstruct.backends.base import LONGEST_WAIT, LONGEST_WISH, Left, Limits
from selfinstruct.backends.flow import pauses
from selfinstruct.backends.flow.fleet import SOON, Fleet
from selfinstruct.backends.flow.pace import AT_ONCE, Pace
from selfinstruct.backends.flow.retry import ask
from selfinstruct.backends.openai.boundary import error_of, read_error
from selfinstruct.backends.openai.headers import LONGEST, limits_of, retry_after, seconds_of
from selfinstruct.backends.openai.server import Server
from selfinstruct.backends.scripted import Reply, ScriptedBackend
from selfinstruct.errors import EndpointError, Fault, RateLimited, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Completion, Request, Sampling
from tests.support.clock import Clock

HERE = Server("http://host/v1", "KEY")
QUESTION = Request(model="m", prompt="1." * 40, sampling=Sampling(max_tokens=40))
THEN = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture(autouse=True)
def true_pauses(monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE", 30.0)


# -- what is read -----------------------------------------------------------------------------------------------------

WISHES: dict[str, float | None] = {
    "0": 0.0, "-0": 0.0, "-1": 0.0, "-1.5s": 0.0, "+3": 3.0, " 7 ": 7.0, "1.5": 1.5, ".5": 0.5, "00012": 12.0,
    "7s": 7.0, "250ms": 0.25, "1m30s": 90.0, "2 s": 2.0, "1H": 3600.0, "500us": 0.0005, "500µs": 0.0005, "9ns": 9e-9,
    "86400": 86_400.0, "1d": 86_400.0,
    "99999999999999999999": None, "9" * 400: None, "1e400": None, "1e3": None, "inf": None, "-inf": None, "nan": None,
    "infinity": None, "99999d": None, "9" * 20 + "d": None, "0x10": None, "1_000": None, "٣": None, "": None, "-": None,
    "soon": None, "in 5s": None, "5s!": None, "5,5": None, "null": None, "true": None, "[]": None,
    "Wed, 21 Oct 2015 07:28:30 GMT": 30.0, "Wed, 21 Oct 2015 07:27:30 GMT": 0.0,
    "Wed, 21 Oct 2015 09:28:30 +0200": 30.0, "Wed, 21 Oct 2015 07:28:30 -0000": 30.0,
    "2015-10-21T07:28:30Z": 30.0, "2015-10-21T07:28:30": 30.0, "1445412510": 30.0, "1445412510000": 30.0,
    "1445412510000000": 30.0,
    "Wed, 21 Oct 20159999999999999999 07:28:30 GMT": None, "Wed, 21 Oct 9999 07:28:30 GMT": None,
    "Wed, 99 Oct 2015 07:28:30 GMT": None, "Wed, 21 Oct 2015 99:99:99 GMT": None, "Thu, 01 Jan 1970 00:00:00 GMT": None,
    "Wed, 21 Oct 2015 07:28:30 +9999": None, "0001-01-01": None, "0001-01-01T00:00:00+14:00": None,
    "9999-12-31T23:59:59-14:00": None,
}  # fmt: skip


@pytest.mark.parametrize("text", WISHES)
def test_a_wish_is_seconds_or_absent(text: str) -> None:
    """Every form that servers write, and every one that means nothing."""
    wish, read = WISHES[text], retry_after({"retry-after": text, "date": THEN})
    assert read == (wish if wish is None else pytest.approx(wish))
    assert seconds_of(text, now=1_445_412_480.0) == read


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "nan", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-5", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "9" * 30}, None),
        ({"retry-after-ms": "9" * 19}, None),
        ({"retry-after": THEN, "date": "nonsense"}, None),
        ({"retry-after": THEN, "date": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"}, None),
    ],
)
def test_milliseconds_are_read_first(headers: dict[str, str], wish: float | None) -> None:
    """And a clock of the server's that is none is not reckoned by."""
    assert retry_after(headers) == wish


SAID = (
    st.text(max_size=30)
    | st.sampled_from(list(WISHES))
    | st.from_regex(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?(ns|us|ms|s|m|h|d)?", fullmatch=True)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} (Jan|Feb) [0-9]{1,25} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True)
    | st.floats().map(str)
    | st.integers().map(str)
)
NAMES = ("remaining", "reset", "limit")


@given(wish=SAID, milliseconds=SAID, date=SAID, left=st.tuples(SAID, SAID, SAID), tokens=st.tuples(SAID, SAID, SAID))
@example(wish="9" * 20, milliseconds="", date="", left=("0", "9" * 20 + "d", "0"), tokens=("", "", ""))
def test_whatever_headers_say_is_read_in_bounds(
    wish: str, milliseconds: str, date: str, left: tuple[str, ...], tokens: tuple[str, ...]
) -> None:
    """No text ends in anything but a number within reason, or nothing."""
    headers = {"retry-after": wish, "retry-after-ms": milliseconds, "date": date}
    read = retry_after(headers)
    assert read is None or 0 <= read <= LONGEST
    for kind, said in (("requests", left), ("tokens", tokens)):
        headers |= {f"x-ratelimit-{name}-{kind}": text for name, text in zip(NAMES, said, strict=True)}
    for one in limits_of(headers) or ():
        if one is not None:
            assert 0 <= one.reset <= LONGEST
            assert all(0 <= number < 1e21 for number in (one.amount, one.most))


# -- how long is waited -----------------------------------------------------------------------------------------------


class Waiting:
    """Requests to a server that answers as told, on a clock that only sleeps move; what a person was told, and when."""

    def __init__(self, reply: Reply, **config: Any) -> None:
        self.clock, self.sent = Clock(), list[float]()
        self.told: list[tuple[float, str]] = []
        self.reply = reply
        told = BackendConfig(kind="openai", base_url="http://there/v1", **config)
        self.fleet = Fleet.of(
            ScriptedBackend(self._answer), told, clock=self.clock, sleep=self.clock.sleep, rng=random.Random(1),
            notice=lambda line: self.told.append((self.clock.now - 1000, line)),
        )  # fmt: skip

    def _answer(self, request: Request) -> Reply:
        self.sent.append(self.clock.now - 1000)
        return self.reply

    async def until_given_up(self, at_once: int = 40, attempts: int = 5) -> float:
        """The seconds until none of those asked at once waits any more."""

        async def one() -> None:
            with pytest.raises(Fault):
                await ask(self.fleet, QUESTION, attempts=attempts, on_fault=lambda fault, attempt: None)

        await self.clock.run(*(one() for _ in range(at_once)))
        return self.clock.now - 1000


def limited(wish: float | None) -> Reply:
    return RateLimited("rate_limited", "429", status=429, retry_after=wish)


@pytest.mark.parametrize("wish", [0.0, 1e-9, 0.001, 0.4, math.nan, -5.0])
async def test_no_refusal_makes_us_faster_than_silence(wish: float) -> None:
    """A server that says to come again at once is left alone for as long as one that says nothing."""
    silent, hasty = Waiting(limited(None)), Waiting(limited(wish))
    await silent.until_given_up()
    await hasty.until_given_up()
    assert len(hasty.sent) <= len(silent.sent)
    assert hasty.sent[-1] >= silent.sent[-1]


@pytest.mark.parametrize("wish", [61.0, 3600.0, 86_400.0, 1e20, math.inf])
@pytest.mark.parametrize("at_once", [1, 3, 40])
async def test_a_failure_that_wishes_for_a_day_is_over_in_minutes(wish: float, at_once: int) -> None:
    """And the person knows from the first one on."""
    waiting = Waiting(Transient("server_error", "500: tired", status=500, retry_after=wish))
    assert await waiting.until_given_up(at_once) < LONGEST_WAIT
    assert waiting.told[0] == (0.0, "500: tired: trying again in 60 s, as the server wishes")
    assert len(waiting.told) < 10


@pytest.mark.parametrize("status", [408, 409, 500, 502, 504, 529])
@pytest.mark.parametrize("wish", ["86400", "1d", "9999999", "Wed, 21 Oct 2015 23:28:00 GMT"])
def test_the_wish_of_a_failure_is_bounded_where_it_is_read(status: int, wish: str) -> None:
    """So that batches wait no longer either."""
    headers = {"retry-after": wish, "date": THEN}
    fault = error_of(read_error(status, headers, b"", HERE), HERE)
    assert isinstance(fault, Transient)
    assert fault.retry_after == LONGEST_WISH


@pytest.mark.parametrize("status", [429, 503])
def test_a_limit_that_wishes_for_a_day_stops_the_run(status: int) -> None:
    """Nobody would wait so long."""
    said = read_error(status, {"retry-after": "1d"}, b"", HERE)
    with pytest.raises(EndpointError, match="asks to wait 1440 minutes"):
        raise error_of(said, HERE)


async def test_a_limit_that_wishes_for_minutes_is_told_at_once() -> None:
    """And each time once."""
    waiting = Waiting(limited(600.0))
    await waiting.until_given_up(at_once=1)
    at, line = waiting.told[0]
    assert at < 1
    assert line.endswith("its server wants hardly anything for 600 s, as it says itself")
    assert len(waiting.told) == len({at for at, _ in waiting.told}) <= 3


# -- what headers leave -----------------------------------------------------------------------------------------------


def leaving(pace: Pace, seconds: float, width: int | None = 64) -> list[float]:
    """The instants at which requests leave in so many seconds when as many as may do."""
    now, sent = 1000.0, list[float]()
    while now < 1000.0 + seconds and len(sent) < 5_000:
        if (wait := pace.wait(now, width)) > SOON:
            now += min(wait, 1.0)
        else:
            pace.sent(now, 0)
            sent.append(now)
    return sent


@pytest.mark.parametrize("reset", [3.0, 60.0, 899.0])
@pytest.mark.parametrize("before", [0, 1, 30, 500])
def test_what_headers_leave_holds_until_there_is_more(reset: float, before: int) -> None:
    """However much left before: when the window ends, what it had left means nothing."""
    pace = Pace()
    for _ in range(before):
        pace.sent(1000.0, 0)
    pace.heard(Limits(Left(1000.0, reset, 1000.0)), 0, 1000.0)
    pace.heard(Limits(Left(0.0, reset, 1000.0)), before, 1000.0)
    sent = leaving(pace, reset + 5)
    assert len([at for at in sent if at < 1000 + reset]) <= 2
    assert len([at for at in sent if at >= 1000 + reset]) > 100


EXTREMES = [0.0, 1e-300, 1e-9, 0.001, 0.5, 1.0, 1e6, 1e15, 1e20]


@given(
    amount=st.sampled_from(EXTREMES),
    reset=st.sampled_from([*EXTREMES, 2.0, 3.0, 899.0, 900.0, LONGEST]),
    most=st.sampled_from(EXTREMES),
    rpm=st.sampled_from([None, 60.0]),
)
@example(amount=0.0, reset=1.0, most=0.0, rpm=60.0)
@example(amount=1e20, reset=1e-300, most=1e20, rpm=None)
def test_no_header_makes_us_faster_or_stops_us_for_good(
    amount: float, reset: float, most: float, rpm: float | None
) -> None:
    """Neither a cap nor the pace at the beginning is exceeded because a server says that there is room."""
    pace = Pace(rpm)
    pace.heard(Limits(Left(amount, reset, most)), 0, 1000.0)
    sent = leaving(pace, 1.0)
    assert len(sent) <= (2 if rpm else AT_ONCE + 501)
    # After an hour at the latest, whatever was said.
    assert pace.wait(1000.0 + 3600, 64) < 5


@pytest.mark.parametrize(
    "answer",
    [
        Completion(text="x"),
        Completion(text="x", prompt_tokens=20),
        Completion(text="x", completion_tokens=20),
        Completion(text="x", prompt_tokens=20, completion_tokens=20),
    ],
    ids=["nothing", "no answer", "no prompt", "both"],
)
async def test_a_cap_of_tokens_is_kept_where_a_server_does_not_count(answer: Completion) -> None:
    """What is not told counts as what was expected."""
    waiting = Waiting(answer, tpm=6_000)

    async def one() -> None:
        await ask(waiting.fleet, QUESTION, attempts=1, on_fault=lambda fault, attempt: None)

    await waiting.clock.run(*(one() for _ in range(400)))
    assert 400 * 40 / (waiting.clock.now - 1000) < 1.2 * 6_000 / 60
