"""How fast requests leave for one server: within what we were told, what it tells, and what its refusals teach.

Requests leave one by one and evenly (a leaky bucket), at the lowest of

    the caps       requests and tokens a minute, from the configuration
    the headers    what remains until it is reset, as `x-ratelimit-*` headers have it, once it becomes little
    the lesson     after a refusal for too many requests: as many as were taken in the last second, or minute

Until one of them is known, the first requests are spread out, so that an early refusal costs few of them. After a quiet
time the lesson grows step by step, until a refusal ends that; any other refusal lowers it by a tenth, but never below
half of what was kept up. Where the first request after a pause is refused, the pause was too short, and nothing is
learnt. A server that says Retry-After hears nothing before.

Whatever a server says makes us slower, never faster than we would be without, and for no longer than it said.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from itertools import takewhile

from selfinstruct.backends.base import LONGEST_WAIT, Left, Limits
from selfinstruct.backends.flow.pauses import doubled

SHORT, MINUTE = 2.0, 60.0
"""Seconds of a Retry-After up to which a server is taken to count by the second, and the window of any other server."""
MARGIN = 0.97
"""Share of a limit that is asked for."""
LITTLE = 0.25
"""Share of a limit in the headers, from which on what remains is spread over the time until it is reset."""
LOWER, LEAST = 0.9, 0.5
"""What one refusal leaves of a learnt rate, and the share of the highest one so far that all refusals leave of it."""
STEP, QUIET = 0.05, 10.0
"""How much faster a learnt rate becomes in half a window, and windows without a refusal before it grows at all."""
RAMP, AT_ONCE = 500.0, 64
"""Requests a second while nothing is known of a server, and those that leave together before its first answer."""
LONG = 10.0
"""Seconds from which on a person is told that the server lets us wait."""
CREDIT = 0.02
"""Seconds of a rate that may leave at once, when those before left late."""
SLACK = 1.25
"""Times as many requests at once as a rate needs, for answers do not come evenly."""


class Limit:
    """A limit on requests or on tokens: what we were told of it, and a bucket out of which what left lately leaks.

    Args:
        cap: so many a minute may not be exceeded; None knows no cap.
    """

    def __init__(self, cap: float | None) -> None:
        self.cap = cap and cap / 60
        """The most a second that the configuration allows; None knows no cap."""
        self._told: float | None = None
        """The rate at which what the headers leave lasts until there is more; None while that is much."""
        self._told_until = math.inf
        """The instant at which there is more, and that rate means nothing any more."""
        self._most = 0.0
        """The most that ever remained."""
        self.window = 0.0
        """The most seconds that it ever was until more remained."""
        self.level = 0.0
        """What has left and not leaked out yet."""
        self._at = 0.0
        """The instant of that level."""

    @property
    def rate(self) -> float | None:
        """The most a second, where that is known."""
        return _lowest(self.cap, self._told)

    def hear(self, left: Left | None, out: float, now: float) -> None:
        """Take in what the headers leave, while so much is out that they may not know of.

        What a day has left is taken at once, for nobody would wait so long.
        """
        self._told = None if left is None or left.reset > LONGEST_WAIT else self._spread(left, out)
        # The rate of a short window holds for the next one too.
        self._told_until = now + left.reset if left and self.window > SHORT else math.inf

    def expire(self, now: float) -> None:
        """Forget what the headers left, once there is more."""
        if now >= self._told_until:
            self._told, self._told_until = None, math.inf

    def silence(self, now: float) -> float:
        """Seconds until there is more, where the headers left hardly anything; else 0."""
        return self._told_until - now if self._told and self._told * LONG < 1 else 0.0

    def _spread(self, left: Left, out: float) -> float | None:
        self._most = max(self._most, left.amount, left.most)
        self.window = max(self.window, left.reset)
        if 0 < self.window <= SHORT:
            # So short a window is gone through evenly: to be early in it gains nothing.
            return MARGIN * max(1.0, self._most) / self.window
        sure = left.amount - out
        return None if sure > LITTLE * self._most or not left.reset else max(sure, 0.5) / left.reset

    def fill(self, level: float, now: float) -> None:
        """Take it that so much has left by now."""
        self.level, self._at = level, now

    def wait(self, now: float, rate: float, credit: float = CREDIT) -> float:
        """Seconds until more may leave, at a rate that may be another each time."""
        self.fill(max(0.0, self.level - rate * (now - self._at)), now)
        return max(0.0, self.level / rate - credit)


class Lesson:
    """The rate that the refusals of one server taught."""

    def __init__(self) -> None:
        self.rate: float | None = None
        """Requests a second; None before the first refusal."""
        self.window = 1.0
        """Seconds in which the server counts requests, as far as can be told."""
        self.credit = CREDIT
        """Seconds of the rate that may leave at once; 0 for a server that took only one."""
        self.grows_at = math.inf
        """The instant from which on the rate may grow."""
        self._quiet = QUIET
        """Windows without a refusal before the rate grows; four times as many each time that it grew too high."""
        self._step = STEP
        """How much faster the next step makes the rate."""
        self._before = 0.0
        """The rate before the last step; 0 while it does not grow."""
        self._highest = 0.0
        """The highest rate that was kept up, or refused without having grown; 0 while the first lesson stands."""

    @property
    def lowest(self) -> bool:
        """Whether refusals lower the rate no further."""
        return self.rate is not None and self.rate <= LEAST * self._highest

    def refused(self, taken: int, until: float, *, news: bool) -> None:
        """Learn from a refusal: so many were taken in the window before it, and until then nothing is sent.

        Args:
            news: it is the first refusal of those that were out at the time.
        """
        known = MARGIN * taken / self.window
        if not self._highest and not (news and self.rate):
            # Where not even the first requests were all taken, it was a bucket that holds few, and may fill up fast.
            self._step, self._quiet = (1.0, 1.0) if taken < AT_ONCE else (STEP, QUIET)
            self.rate, self.credit = known or None, min(CREDIT, max(0, taken - 1) / RAMP)
        elif news and self.rate:
            self._highest = max(self._highest, self._before or self.rate)
            # A window of the clock's may take twice its limit in a second: then it refuses what that taught, and again.
            lower = min(self._before, known) if self._before else LOWER * self.rate
            self._quiet = min(self._quiet * (4 if self._before else 1), LONGEST_WAIT)
            self.rate, self._step, self._before = max(lower, LEAST * self._highest), STEP, 0.0
        self.grows_at = until + self._quiet * self.window

    def grow(self, rate: float) -> None:
        """Try more than a rate that was kept up."""
        self._before, self._highest = rate, max(self._highest, rate)
        self.rate = rate * (1 + self._step)


class Pace:
    """The pace of one server.

    Args:
        rpm, tpm: requests and tokens a minute that may not be exceeded; None knows no cap.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self._requests, self._tokens = Limit(rpm), Limit(tpm)
        """What was told of requests and of tokens, and how many left lately."""
        self._lesson = Lesson()
        """What refusals taught."""
        self._sent: deque[float] = deque()
        """Instants of the last minute at which requests left that were not refused."""
        self._seconds = 0.0
        """Seconds that an answer takes, lately."""
        self._each = 0.0
        """Tokens that a request takes, lately, prompt and answer together."""
        self._held_at = self._held_until = -math.inf
        """The instants at which the last pause began and at which it is over."""
        self._strikes = 0
        """Pauses in a row after which the first request was refused."""

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self._tokens.rate is not None

    @property
    def needs(self) -> int:
        """Requests that must be out at once for what was learnt to be kept up; 0 where nothing was."""
        return math.ceil(SLACK * (self._lesson.rate or 0.0) * self._seconds)

    @property
    def blameless(self) -> bool:
        """Whether it is not our pace that is refused: no pause is long enough, or going slower has not helped."""
        return self._strikes > 1 or self._lesson.lowest

    @property
    def rate(self) -> float | None:
        """Requests a second that may leave, where that is known."""
        return _lowest(self._requests.rate, self._lesson.rate)

    def wait(self, now: float, width: int | None) -> float:
        """Seconds until the next request may leave, as far as is known now.

        Args:
            width: requests that may be out at once, where it is still found out how many; None spreads out nothing.
        """
        self._requests.expire(now)
        self._tokens.expire(now)
        wait = self._held_until - now
        rate, credit = self._leaving(width)
        if rate:
            wait = max(wait, self._requests.wait(now, rate, credit))
        if rate := self._tokens.rate:
            wait = max(wait, self._tokens.wait(now, rate))
        return wait

    def silence(self, now: float) -> float:
        """Seconds for which the server wants to hear nothing, or hardly anything, by its own word."""
        return max(self._held_until - now, self._requests.silence(now), self._tokens.silence(now))

    def _leaving(self, width: int | None) -> tuple[float | None, float]:
        """Requests a second that leave, and the seconds of them that may leave at once."""
        if width is None or self._lesson.rate or self._requests.cap:
            return self.rate, self._lesson.credit
        ramp, credit = (2 * width / self._seconds, 0.0) if self._seconds else (0.0, AT_ONCE / RAMP)
        told, ramp = self.rate, max(ramp, RAMP)
        return (told, self._lesson.credit) if told and told < ramp else (ramp, credit)

    def sent(self, now: float, tokens: float) -> None:
        """A request leaves, which is expected to take so many tokens, prompt and answer together."""
        self._requests.level += 1
        self._tokens.level += tokens
        self._sent.append(now)
        while self._sent[0] < now - MINUTE:
            self._sent.popleft()

    def answered(self, sent_at: float, now: float, expected: float, tokens: float) -> None:
        """A request was answered, with so many tokens where so many were expected."""
        self._seconds += 0.1 * (now - sent_at - self._seconds) if self._seconds else now - sent_at
        self._each += 0.1 * (tokens - self._each)
        self._tokens.level += tokens - expected
        lesson, seconds = self._lesson, self._lesson.window / 2
        if lesson.rate and now >= lesson.grows_at:
            lesson.grows_at = now + seconds
            # A rate that is not made use of says nothing of a higher one.
            if self._left(now - seconds, now) >= lesson.rate * seconds / 2:
                lesson.grow(lesson.rate)

    def heard(self, limits: Limits, out: int, now: float) -> None:
        """What the headers of an answer say, while so many requests are out, which they may not know of."""
        unknown, requests = self.rate is None, self._requests
        requests.hear(limits.requests, out, now)
        self._tokens.hear(limits.tokens, out * self._each, now)
        if unknown and requests.rate:
            # What leaked out at no known rate had left all the same. Where the window is long, what it has left tells.
            requests.fill(self._left(now - requests.window, now) if requests.window <= SHORT else 0.0, now)

    def refused(self, sent_at: float, now: float, retry_after: float | None) -> bool:
        """The server asks for fewer requests; whether it is the first of those out at the time to be told so."""
        news, lesson = sent_at > self._held_at, self._lesson
        again = news and not self._left(self._held_until, sent_at)
        with suppress(ValueError):
            self._sent.remove(sent_at)
        if news:
            self._strikes, self._held_at = 1 + again * self._strikes, now
            self._requests.level = self._tokens.level = 0.0
        wait = max(doubled(self._strikes), min(retry_after or 0.0, LONGEST_WAIT))
        self._held_until = max(self._held_until, now + wait)
        if not again:
            # With each refusal of those out at the time, fewer turn out to have been taken.
            if not lesson.rate:
                lesson.window = MINUTE if retry_after and retry_after > SHORT else 1.0
            taken = self._left(self._held_at - lesson.window, self._held_at)
            lesson.refused(taken, self._held_until, news=news)
        return news

    def _left(self, since: float, until: float) -> int:
        """Requests that left from one instant on and before another, without those refused."""
        return sum(at < until for at in takewhile(lambda at: at >= since, reversed(self._sent)))


def _lowest(*rates: float | None) -> float | None:
    return min((rate for rate in rates if rate is not None), default=None)
