"""How fast requests leave for one server: within what we were told, what it tells, and what its refusals teach.

Requests leave evenly (a generic cell rate algorithm), at the lowest of

    the caps       requests and tokens a minute, from the configuration
    the headers    what remains until it is reset, as `x-ratelimit-*` headers have it, once it becomes little
    the lesson     after a refusal for too many requests: as many as were taken in the last second, or minute
    a breath       never a whole width in one instant: before a refusal is heard, little more is sent

A lesson is tested after a while by going a little faster, more boldly each time that nothing happens; a refusal teaches
anew. And a server that says Retry-After hears nothing before.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime

from selfinstruct.backends.base import Limits
from selfinstruct.backends.pauses import doubled

MARGIN = 0.97
"""Share of what was taken that is asked for afterwards."""
SHORT = 2.0
"""Seconds: a server that wants us back so soon counts by the second; any other, we take it, by the minute."""
QUIET = 6.0
"""Seconds at a learnt pace before it is tested; doubles with each refusal that a test meets."""
LONGEST_QUIET = 120.0
BOLDER = 1.0
"""Seconds between one test and a bolder one."""
BOLDNESS = 0.25
"""How much faster a first test is; doubles each time that nothing happens."""
CREDIT = 0.02
"""Seconds by which a request may leave early when those before it left late."""
BREATH = 500.0
"""Requests a second that leave without any reason to be slower, where so many are out at all."""
LEAST_TOLD = 10.0
"""Requests or tokens that a short window must have for its headers to be believed at once."""
LITTLE = 0.25
"""Share of the most that ever remained, from which on what remains is spread over the time until it is reset."""
HISTORY = 60.0
"""Seconds of answers that lessons are drawn from."""


class Cells:
    """Instants at a rate: `take` reserves the next one."""

    def __init__(self) -> None:
        self._due = 0.0

    def take(self, now: float, units: float, rate: float, credit: float = CREDIT) -> float:
        """The instant at which so many units may leave, at so many a second."""
        at = max(self._due, now - credit)
        self._due = at + units / rate
        return at

    def put_back(self, units: float, rate: float) -> None:
        """Fewer units left than were taken; more, where negative."""
        self._due -= units / rate

    def hold(self, until: float) -> None:
        """Nothing before; what was reserved is void."""
        self._due = until


class Pace:
    """The pace of one server.

    Args:
        rpm, tpm: requests and tokens a minute that may not be exceeded; None knows no cap.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self._caps = rpm and rpm / 60, tpm and tpm / 60
        self._told: tuple[float | None, float | None] = None, None
        self._learnt: float | None = None
        self._most_left, self._longest = [0.0, 0.0], [0.0, 0.0]
        """The most requests, and tokens, that ever remained, and the most seconds that it ever was until more do."""
        self._seconds = 0.0
        """That an answer takes, lately; and tokens, prompt and answer together."""
        self._each = 0.0
        self._requests, self._tokens, self._breaths = Cells(), Cells(), Cells()
        self._sent: deque[tuple[float, int]] = deque()
        """Requests that left, by twentieth of a second."""
        self._lesson = 0, 1.0
        """Requests that the server took before it refused one, and the seconds in which it did."""
        self._pause = 0.0
        self._strikes = 0
        self._quiet = QUIET
        self._boldness = 0.0
        self._test_at = float("inf")
        self.holds = 0
        """How often the server asked for fewer; what was reserved before the last time is void."""
        self._held_at = float("-inf")
        self._held_until = float("-inf")

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self._caps[1] is not None or self._told[1] is not None

    def take(self, now: float, tokens: float, width: int, spread: float) -> float:
        """The instant at which a request may leave; reserved for it, until `holds` rises.

        Args:
            tokens: that it is expected to take, prompt and answer together.
            width: requests that may be out at once.
            spread: number from 0 to 1, so that requests which return from a pause do not all come at once.
        """
        at = now
        if rate := self._rate(0):
            at = self._requests.take(now, 1.0, rate)
        elif self._held_until > now:
            at = self._held_until + spread * self._pause / 4
        elif self._seconds:
            at = self._breaths.take(now, 1.0, max(2 * width / self._seconds, BREATH), credit=0.0)
        if rate := self._rate(1):
            at = max(at, self._tokens.take(now, tokens, rate))
        return max(at, self._held_until)

    def sent(self, now: float) -> None:
        """A request leaves."""
        if self._sent and now - self._sent[-1][0] < 0.05:
            self._sent[-1] = self._sent[-1][0], self._sent[-1][1] + 1
        else:
            self._sent.append((now, 1))
            while self._sent[0][0] < now - HISTORY:
                self._sent.popleft()

    def answered(self, sent_at: float, now: float, expected: float, tokens: float) -> None:
        """A request was answered, with so many tokens where so many were expected."""
        if sent_at >= self._held_at:
            self._strikes = 0
        self._seconds += 0.1 * (now - sent_at - self._seconds) if self._seconds else now - sent_at
        self._each += 0.1 * (tokens - self._each)
        if rate := self._rate(1):
            self._tokens.put_back(expected - tokens, rate)
        if now >= self._test_at and self._learnt:
            self._boldness = min(1.0, 2 * self._boldness or BOLDNESS)
            self._learnt *= 1 + self._boldness
            self._test_at = now + BOLDER

    def heard(self, limits: Limits, out: int) -> None:
        """What the headers of an answer say, while so many requests are out, which they may not know of."""
        before = self._told[0]
        self._told = (
            self._spread(0, limits.requests, limits.requests_reset, out),
            self._spread(1, limits.tokens, limits.tokens_reset, out * self._each),
        )
        if before is None and self._told[0] is not None and self._sent:
            # What has left already counts.
            self._requests.hold(self._sent[0][0] + sum(count for _, count in self._sent) / self._told[0])

    def _spread(self, which: int, left: float | None, reset: float, out: float) -> float | None:
        """A rate at which what is left lasts until there is more; None while that is much."""
        if left is None or reset <= 0:
            return None
        most = self._most_left[which] = max(self._most_left[which], left)
        longest = self._longest[which] = max(self._longest[which], reset)
        if longest <= SHORT and most > LEAST_TOLD:
            # So short a window is gone through evenly: to be early in it gains nothing.
            return MARGIN * most / longest
        sure = left - out
        return None if sure > LITTLE * most else max(sure, 0.5) / reset

    def refused(self, sent_at: float, now: float, retry_after: float | None) -> bool:
        """The server asks for fewer requests; whether it is the first of those out at the time to be told so."""
        news = sent_at >= self._held_at
        if news:
            self._strikes += 1
            self._look_back(now, retry_after or 0.0)
            self.holds += 1
            self._held_at = now
        self._learn()
        self._pause = doubled(self._strikes) if retry_after is None else retry_after
        self._held_until = max(self._held_until, now + self._pause)
        if news:
            # Once only: those that come later may have reserved anew by then.
            self._requests.hold(self._held_until)
            self._tokens.hold(self._held_until)
        return news

    def _look_back(self, now: float, wait: float) -> None:
        """How much the server took in its window before this refusal, as far as we can know the window."""
        window = 1.0 if wait <= SHORT else HISTORY
        taken = sum(count for at, count in self._sent if at > now - window)
        began = self._sent[0][0] if self._sent else now
        self._lesson = taken, max(1.0, min(window, now - began + wait))
        if self._boldness:
            self._quiet = min(LONGEST_QUIET, 2 * self._quiet)
        self._boldness, self._test_at = 0.0, now + wait + self._quiet

    def _learn(self) -> None:
        """The lesson, once more request of those that seemed taken is known to be refused."""
        taken, seconds = self._lesson
        self._lesson = max(1, taken - 1), seconds
        self._learnt = MARGIN * self._lesson[0] / seconds

    def _rate(self, which: int) -> float | None:
        """The lowest of all that is known, a second; 0 for requests, 1 for tokens."""
        known = (self._caps[which], self._told[which], None if which else self._learnt)
        return min((rate for rate in known if rate is not None), default=None)


# -- headers ----------------------------------------------------------------------------------------------------------

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_REQUESTS = ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}", "x-ratelimit-{}", "ratelimit-{}")
_TOKENS = ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}")


def limits_of(headers: Mapping[str, str]) -> Limits | None:
    """What the headers say is left, in the dialects of OpenAI, Anthropic and the IETF draft; None when they do not."""
    requests, tokens = _left(headers, _REQUESTS), _left(headers, _TOKENS)
    return None if requests is None and tokens is None else Limits(*(requests or (None, 0.0)), *(tokens or (None, 0.0)))


def _left(headers: Mapping[str, str], names: tuple[str, ...]) -> tuple[float, float] | None:
    for name in names:
        remaining, reset = headers.get(name.format("remaining")), headers.get(name.format("reset"))
        if remaining is not None and reset is not None:
            try:
                return float(remaining), seconds_of(reset)
            except ValueError:
                continue
    return None


def seconds_of(text: str, *, now: float | None = None) -> float:
    """Seconds from `6m0s`, `20ms`, `1.5`, an instant in seconds or milliseconds since 1970, or an ISO date.

    Raises:
        ValueError: it is none of these.
    """
    now = time.time() if now is None else now
    if parts := _DURATION.findall(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        value = float(text)
    except ValueError:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    if value > 1e11:
        value /= 1000
    return max(0.0, value - now) if value > 1e9 else value
