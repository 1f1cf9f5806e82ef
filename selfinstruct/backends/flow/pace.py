"""How fast requests leave for one server: within what we were told, what it tells, and what its refusals teach.

Requests leave one by one and evenly (a leaky bucket), at the lowest of

    the caps       requests and tokens a minute, from the configuration
    the headers    what remains until it is reset, as `x-ratelimit-*` headers have it, once it becomes little
    the lesson     after a refusal for too many requests: as many as were taken in the last second, or minute
    a breath       never a great width in one instant: before a refusal is heard, little more is sent

A lesson is tested after a while by going a little faster, more boldly each time that nothing happens; a refusal teaches
anew. One that is met well below what the server took before teaches nothing: then it is not our pace that it refuses.
And a server that says Retry-After hears nothing before.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile

from selfinstruct.backends.base import LONGEST_WAIT, Left, Limits
from selfinstruct.backends.flow.pauses import doubled

MARGIN = 0.97
"""Share of what was taken that is asked for afterwards."""
SHORT = 2.0
"""Seconds: a server that wants us back so soon counts by the second; any other, we take it, by the minute."""
SURE = 0.9
"""Share of the most that the server ever took, below which a refusal has another reason than our pace."""
STEP, STEPS = 0.8, 3
"""What is left of a pace that is refused without having been tested, and how often one is lowered so."""
LEAST_TAKEN = 4
"""Requests that a server must have taken before its first refusal for anything to be learnt from it."""
SLOW = 1.0
"""Requests a second to begin anew with where it was so again: such a server wants them one by one, or few at once."""
FEW = 10
"""Requests below which what left in a second is too few to be counted: the pace itself says it better."""
BRIEF = 0.2
"""Seconds since a pause, within which nothing can be learnt from how much was sent."""
QUIET = 10.0
"""Seconds at a learnt pace before it is tested; doubles with each test from which nothing came."""
LONGEST_QUIET = 120.0
EARLY, SMALL = 0.2, 50
"""Seconds in which a first refusal comes early, and requests that are few: then it was a bucket that holds little, and
its lesson is tested soon."""
SOON = 0.5
"""Seconds until then."""
BOLDER = 0.5
"""Seconds between one test and a bolder one."""
USED = 0.5
"""Share of a learnt pace that must have left lately for anything to come of a test."""
BOLDNESS = 0.25
"""How much faster a first test is; doubles each time that nothing happens."""
CREDIT = 0.02
"""Seconds of a rate that may leave at once, when those before left late."""
BREATH = 500.0
"""Requests a second that leave without any reason to be slower, where so many are out at all."""
AT_ONCE = 64
"""Requests that leave before the first breath, for as long as nothing was answered."""
LEAST_TOLD = 10.0
"""Requests or tokens that a short window must have for its headers to be believed at once."""
LITTLE = 0.25
"""Share of the most that ever remained, from which on what remains is spread over the time until it is reset."""
SLACK = 1.25
"""Times as many requests at once as a pace needs, for answers do not come evenly."""
GRAIN = 0.01
"""Seconds in which what leaves is counted together."""
HISTORY = 60.0
"""Seconds of answers that lessons are drawn from."""


class Bucket:
    """What left lately, leaking out at a rate that may change at any moment; more may leave when it is empty."""

    def __init__(self) -> None:
        self.level = 0.0
        self._at = 0.0

    def fill(self, level: float, now: float) -> None:
        """So much has left by now."""
        self.level, self._at = level, now

    def wait(self, now: float, rate: float, credit: float = CREDIT) -> float:
        """Seconds until it is as good as empty, at so many a second."""
        self.level = max(0.0, self.level - rate * (now - self._at))
        self._at = now
        return max(0.0, self.level / rate - credit)


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
        self._requests, self._tokens, self._breaths = Bucket(), Bucket(), Bucket()
        self._sent: deque[tuple[float, int]] = deque()
        """Requests that left, by `GRAIN`."""
        self._lesson = 0, 1.0
        """Requests that the server took before it refused one, and the seconds in which it did,"""
        self._lesson_at = 0.0
        """up to the instant at which that one had left."""
        self._bounds = 0.0, float("inf")
        """Between which that lesson may be."""
        self._before = 0.0
        """The learnt pace before it was tested."""
        self._most_taken = 0.0
        """The most requests a second that it took before it refused one."""
        self._strikes = 0
        self._resumed_at = float("-inf")
        """When the last pause was over, before the present one."""
        self._strict = False
        """Whether twice too few were taken for anything to be learnt: then requests must not leave together."""
        self._steps, self._firm = 0, 0.0
        """Steps down since the last test, and the pace before them."""
        self._quiet = QUIET
        self._boldness = 0.0
        self._test_at = float("inf")
        self._early: float | None = None
        """When the first pause is over, where it came early."""
        self._held_at = float("-inf")
        self._held_until = float("-inf")
        self._unasked = False
        """Whether the pause is our own doing, for the server named none."""

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self._caps[1] is not None or self._told[1] is not None

    @property
    def needs(self) -> int:
        """Requests that must be out at once for what was learnt to be kept up; 0 where nothing was."""
        return math.ceil(SLACK * self._learnt * self._seconds) if self._learnt and not self.blameless else 0

    @property
    def blameless(self) -> bool:
        """Whether going slower has not helped: then it is not our pace that is refused."""
        return self._steps > STEPS

    @property
    def rate(self) -> float | None:
        """Requests a second that may leave, where that is known."""
        return self._rate(0)

    def wait(self, now: float, width: int | None) -> float:
        """Seconds until the next request may leave, as far as is known now.

        Args:
            width: requests that may be out at once, where it is still found out how many; None needs no breath.
        """
        wait = self._held_until - now
        if rate := self._rate(0):
            wait = max(wait, self._requests.wait(now, rate, 0.0 if self._strict else CREDIT))
        elif width is not None:
            wait = max(wait, self._breath(now, width))
        if rate := self._rate(1):
            wait = max(wait, self._tokens.wait(now, rate))
        return wait

    def _breath(self, now: float, width: int) -> float:
        if not self._seconds:
            return self._breaths.wait(now, BREATH, credit=AT_ONCE / BREATH)
        return self._breaths.wait(now, max(2 * width / self._seconds, BREATH), credit=0.0)

    def sent(self, now: float, tokens: float) -> None:
        """A request leaves, which is expected to take so many tokens, prompt and answer together."""
        self._requests.level += 1
        self._breaths.level += 1
        self._tokens.level += tokens
        at = _grain(now)
        if self._sent and self._sent[-1][0] == at:
            self._sent[-1] = at, self._sent[-1][1] + 1
        else:
            self._sent.append((at, 1))
            while self._sent[0][0] < now - HISTORY:
                self._sent.popleft()

    def answered(self, sent_at: float, now: float, expected: float, tokens: float) -> None:
        """A request was answered, with so many tokens where so many were expected."""
        if sent_at >= self._held_at:
            self._strikes = 0
        elif sent_at >= self._resumed_at:
            # Not all that was sent after the last pause was refused: that one was long enough.
            self._strikes = min(1, self._strikes)
            if self._unasked:
                self._held_until = min(self._held_until, self._held_at + doubled(1))
        self._seconds += 0.1 * (now - sent_at - self._seconds) if self._seconds else now - sent_at
        self._each += 0.1 * (tokens - self._each)
        self._tokens.level += tokens - expected
        if now >= self._test_at and self._learnt:
            self._test_at = now + BOLDER
            seconds = max(BOLDER, 2 / self._learnt)
            if self._left_within(now, seconds) >= USED * self._learnt * seconds:
                self._go_faster(self._learnt)

    def _go_faster(self, pace: float) -> None:
        """Test a pace that is kept up: a step bolder each time."""
        # A server that takes requests one by one has taken those of a test by the next; others may still add up.
        self._before = self._before if self._boldness and not self._strict else pace
        self._steps = 0
        self._boldness = min(1.0, 2 * self._boldness or BOLDNESS)
        self._learnt = pace * (1 + self._boldness)

    def heard(self, limits: Limits, out: int, now: float) -> None:
        """What the headers of an answer say, while so many requests are out, which they may not know of."""
        unknown = self._rate(0) is None
        self._told = (
            self._spread(0, limits.requests, out),
            self._spread(1, limits.tokens, out * self._each),
        )
        if unknown and self._told[0] is not None:
            # What leaked out at no known rate had left all the same. Where the window is long, what it has left tells.
            window = self._longest[0]
            self._requests.fill(self._left_within(now, window) if window <= SHORT else 0.0, now)

    def _spread(self, which: int, left: Left | None, out: float) -> float | None:
        """A rate at which what is left lasts until there is more; None while that is much, or where nobody would wait
        so long: what a day has left is taken at once."""
        if left is None or left.reset > LONGEST_WAIT:
            return None
        most = self._most_left[which] = max(self._most_left[which], left.amount, left.most)
        longest = self._longest[which] = max(self._longest[which], left.reset)
        if 0 < longest <= SHORT and most > LEAST_TOLD:
            # So short a window is gone through evenly: to be early in it gains nothing.
            return MARGIN * most / longest
        sure = left.amount - out
        return None if sure > LITTLE * most or not left.reset else max(sure, 0.5) / left.reset

    def refused(self, sent_at: float, now: float, retry_after: float | None) -> bool:
        """The server asks for fewer requests; whether it is the first of those out at the time to be told so."""
        news = sent_at > self._held_at
        pause = doubled(self._strikes + news) if retry_after is None else retry_after
        if news:
            self._strict = self._strict or (self._learnt is None and self._held_at > float("-inf"))
            self._strikes += 1
            self._resumed_at = self._held_until
            self._look_back(sent_at, now, retry_after or 0.0)
            self._held_at = now
            self._requests.level = self._tokens.level = 0.0
        if _grain(sent_at) <= self._lesson_at:
            self._learn()
        self._unasked = retry_after is None
        self._held_until = max(self._held_until, now + pause)
        return news

    def _look_back(self, sent_at: float, now: float, wait: float) -> None:
        """How much the server took in its window before it met what it refused, as far as we can know the window."""
        window = 1.0 if wait <= SHORT else HISTORY
        began = self._sent[0][0] if self._sent else now
        seconds = max(1.0, min(window, now - began + wait))
        if window == 1.0:
            # In a pause nothing was there to be taken.
            seconds -= min(1.0, max(0.0, self._held_until - max(sent_at - 1.0, self._held_at)))
        # What left since then was not yet there to be counted, however long the refusal was on its way.
        self._lesson_at = _grain(sent_at)
        self._lesson = self._left_within(self._lesson_at, window), seconds
        if self._learnt is None or self._boldness:
            self._test_at = now + wait + self._quiet
        self._early = now + wait if self._learnt is None and (now - began < EARLY or self._strict) else None
        self._bounds = self._weigh(seconds, now + wait)
        self._boldness = 0.0

    def _weigh(self, seconds: float, until: float) -> tuple[float, float]:
        """Between which paces the lesson of a refusal may be; in so many seconds it was that something was taken, and
        until then nothing is sent."""
        few = self._learnt is not None and self._lesson[0] < FEW
        taken = self._learnt if few and self._learnt else self._lesson[0] / max(seconds, BRIEF)
        most, self._most_taken = self._most_taken, max(self._most_taken, taken)
        if self._learnt is None:
            return 0.0, float("inf")
        if self._boldness:
            # It was our test: back to before, or to what turned out to be possible.
            better = few or taken < SURE * most or MARGIN * taken > (1 + BOLDNESS / 2) * self._before
            self._quiet = QUIET if better else min(LONGEST_QUIET, 2 * self._quiet)
            unsure = (few or taken < SURE * most) and not self._strict
            return (min(self._learnt, MARGIN * most) if unsure else self._before), float("inf")
        pace = self._learnt if seconds < BRIEF and not self._strict else self._step(self._learnt, until)
        return pace, pace

    def _step(self, pace: float, until: float) -> float:
        """The pace after a refusal that no test has called for: in a window of the clock's, about the last second of
        one and the first of the next may have been taken for one. Where some steps down do not help, it is not our pace
        that is refused."""
        if self._steps >= STEPS:
            self._steps = STEPS + 1
            return self._firm
        self._firm = self._firm if self._steps else pace
        self._steps += 1
        self._test_at = max(self._test_at, until + QUIET)
        return STEP * pace

    def _learn(self) -> None:
        """The lesson, once more request of those that seemed taken is known to be refused."""
        taken, seconds = self._lesson
        self._lesson = max(1, taken - 1), seconds
        low, high = self._bounds
        if self._early is not None:
            self._test_at = self._early + (SOON if self._lesson[0] < SMALL else self._quiet)
        if low or self._lesson[0] >= LEAST_TAKEN:
            self._learnt = min(high, max(low, MARGIN * self._lesson[0] / max(seconds, BRIEF)))
        else:
            self._learnt = SLOW if self._strict and seconds <= 1.0 else None

    def _left_within(self, until: float, seconds: float) -> int:
        """Requests that left in so many seconds until an instant."""
        since = takewhile(lambda sent: sent[0] > until - seconds, reversed(self._sent))
        return sum(count for at, count in since if at <= until)

    def _rate(self, which: int) -> float | None:
        """The lowest of all that is known, a second; 0 for requests, 1 for tokens."""
        known = (self._caps[which], self._told[which], None if which else self._learnt)
        return min((rate for rate in known if rate is not None), default=None)


def _grain(now: float) -> float:
    """The instant as those are noted at which requests leave."""
    return round(now / GRAIN) * GRAIN


# -- headers ----------------------------------------------------------------------------------------------------------
