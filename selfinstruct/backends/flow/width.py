"""How many requests one server has at once: a number that finds itself.

    doubling     from few, while twice as many bring more, round by round
    narrowing    once they do not: a quarter less, as long as nothing is lost by it
    standing     what remains; now and then an eighth more is tried
    recovering   after the server was overloaded: down by a third at once, up again little by little (AIMD)

A round lasts until as many requests have been answered as the width allows (half as many while it doubles), and enough
to tell. What counts is not how soon answers come, which gets worse long before a server is full, but how much comes:
work a second, by Little's law the width times the work done for each second that a request was away. Work is measured
in tokens, so that a round of long answers is not taken for a slow one, and each kind of request by itself, for to some
servers a short answer is as much work as a long one. What is sent just after the width has grown finds a queue that is
still short, and looks better than it is; so doubling wants a clear gain, and in all other phases a round passes before
one is measured.
A server that says how long its queue is (vLLM) is believed instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from selfinstruct.backends.base import Queue

START = 32
"""Requests at once to begin with, where nothing is said."""
LEAST_ANSWERS = 24
"""Answers that a round has at least: fewer say little."""
SLOWEST = 0.05
"""Share of a round's answers that is not counted."""
GAIN = 1.25
"""Work that twice the width must bring, relative to before, for it to be doubled again."""
LOSS = 0.95
"""Share of the most work so far that a narrower width must still bring."""
BACK_OFF = 0.7
"""Share of the width that is left when the server was overloaded."""
OVERLOADED = 0.2
"""Share of attempts that fail as an overloaded server lets them fail, from which on it is taken for one."""
FORGETS = 0.99
"""What an answer leaves of the most that was borne before."""
PATIENT_ROUNDS = 8
"""Rounds between two tries of a little more."""
OVERHEAD = 16.0
"""Tokens that reading a prompt counts for, roughly: an answer of one token is work too."""


class Answer(NamedTuple):
    """What one answer took, and how much work it was."""

    seconds: float
    work: float

    def slowness(self) -> float:
        """Seconds for a token's worth of work."""
        return self.seconds / self.work


Phase = Literal["doubling", "narrowing", "standing", "trying", "recovering"]


class Width:
    """The width of one server, from what its answers say.

    Args:
        most: never more than this.
        start: so many to begin with.
        steady: the width never changes.
    """

    def __init__(self, most: int, start: int = START, *, steady: bool = False) -> None:
        self.most = most
        self.limit = most if steady else min(start, most)
        self._phase: Phase = "doubling"
        self.steady = steady
        self._first: dict[int | None, float] = {}
        """Seconds that a token's worth of work took at first, for each kind of requests."""
        self._best = 0.0
        """The most work a second that a round has brought."""
        self._narrower = self._wider = self.limit
        self._ceiling = most
        """Where the server was first overloaded, of late."""
        self._backed_off_at = float("-inf")
        self._rounds = 0
        self._queued = False
        self._attempts = self._failures = 0
        self._borne = 0.0
        """The most requests that were out when one of them was answered, of late."""
        self._begin(float("-inf"), settled=True)

    def answered(self, sent_at: float, now: float, tokens: int, at_once: int, kind: int | None = None) -> None:
        """A request of this kind, sent at `sent_at`, was answered with so many tokens, while `at_once` were out."""
        self._count()
        self._borne = max(at_once, FORGETS * self._borne)
        if self.steady or self._queued or at_once < 0.8 * self.limit:
            # Sent with so few others that it says nothing of the width.
            return
        if sent_at < self._began and (self._phase == "doubling" or not self._settled):
            # Sent before the width was what it is now. Later those are counted too: without them a round would lack
            # its longest answers, and see more of a queue than there is.
            return
        self._round.setdefault(kind, []).append(Answer(max(now - sent_at, 1e-6), tokens + OVERHEAD))
        if sum(map(len, self._round.values())) < self._enough():
            return
        if self._settled:
            self._end_round(now)
        else:
            self._begin(now, settled=True)

    def failed(self, sent_at: float, now: float) -> None:
        """A request met what an overloaded server does to requests: an error of its own, or no answer in time."""
        self._count()
        self._failures += 1
        if self._attempts >= LEAST_ANSWERS and self._failures > OVERLOADED * self._attempts:
            self.back_off(sent_at, now, self.limit)

    def _count(self) -> None:
        """Count an attempt; of those long ago half is forgotten, again and again."""
        self._attempts += 1
        if self._attempts >= max(2 * self.limit, 2 * LEAST_ANSWERS):
            self._attempts, self._failures = self._attempts // 2, self._failures // 2

    def back_off(self, sent_at: float, now: float, at_once: int, needed: int = 0, *, blamed: bool = False) -> None:
        """The server wants less, while `at_once` are out: said once for all of them.

        Where far fewer are out than might be, it is not their number that is too high; nor where as many are needed to
        keep up a pace that the server is known to bear. But where nothing else is left to be `blamed`, and not as many
        were out when one was answered, one of them was too many.
        """
        few = at_once <= (self._borne or at_once) if blamed else at_once < self.limit / 2
        if self.steady or sent_at < self._backed_off_at or few:
            return
        self._backed_off_at = now
        if blamed:
            limit = self._ceiling = min(self.limit, at_once - 1)
        else:
            limit = max(int(BACK_OFF * self.limit), min(needed, self.limit))
            self._ceiling = self.limit if self._phase != "recovering" else max(self._ceiling, self.limit)
        self._phase, self._rounds, self._attempts, self._failures = "recovering", 0, 0, 0
        self._set(limit, now)

    def heard(self, queue: Queue, now: float) -> None:
        """The server's own word: keep something waiting, and no more than a few."""
        self._queued = not self.steady
        if self.steady:
            return
        enough = max(2, queue.running // 16)
        if queue.waiting == 0 and queue.running >= 0.9 * self.limit:
            self._set(max(2 * self.limit if self._phase == "doubling" else 0, self.limit + enough), now)
        elif queue.waiting > 2 * enough:
            self._phase = "standing"
            self._set(max(self.limit - (queue.waiting - enough), queue.running), now)

    # -- rounds -------------------------------------------------------------------------------------------------------

    def _end_round(self, now: float) -> None:
        rate = self.limit / self._slowness()
        step = {
            "doubling": self._double,
            "narrowing": self._narrow,
            "standing": self._stand,
            "trying": self._judge_try,
            "recovering": self._recover,
        }[self._phase]
        best, self._best = self._best, max(self._best, rate)
        phase, limit = self._phase, step(rate, best)
        same = self._phase == phase and limit == self.limit
        self._set(limit, now, settled=same or self._phase == "doubling")

    def _slowness(self) -> float:
        """Seconds that the work of this round took for one that it would have taken at first. A kind of requests that
        is new is taken to be as slow as the others."""
        known = [
            Answer(seconds, work * self._first[kind])
            for kind, answers in self._round.items()
            if kind in self._first
            for seconds, work in answers
        ]
        slowness = _slowness(known) if known else 1.0
        for kind in self._round.keys() - self._first.keys():
            self._first[kind] = _slowness(self._round[kind]) / slowness
        return slowness

    def _double(self, rate: float, best: float) -> int:
        if rate > GAIN * best:
            self._phase = "doubling" if self.limit < self.most else "standing"
            return 2 * self.limit
        self._phase, self._best = "narrowing", 0.0
        return self.limit

    def _narrow(self, rate: float, best: float) -> int:
        if rate >= LOSS * best:
            self._wider = self.limit
            return int(0.75 * self.limit)
        self._phase, self._rounds = "standing", 0
        return self._wider

    def _stand(self, rate: float, best: float) -> int:
        # What was best grows stale: a server may have become slower, or answers longer.
        self._best = 0.5 * (best + rate)
        self._rounds += 1
        if self._rounds < PATIENT_ROUNDS or self.limit >= self.most:
            return self.limit
        self._phase, self._narrower = "trying", self.limit
        return self.limit + max(1, self.limit // 8)

    def _judge_try(self, rate: float, best: float) -> int:
        self._phase, self._rounds = "standing", 0
        return self.limit if rate > best / LOSS else self._narrower

    def _recover(self, rate: float, best: float) -> int:
        if self.limit >= 0.95 * self._ceiling:
            self._phase, self._rounds = "standing", 0
            return self.limit
        return self.limit + max(1, self.limit // 20)

    def _set(self, limit: int, now: float, *, settled: bool = False) -> None:
        self.limit = max(1, min(limit, self.most))
        self._begin(now, settled=settled)

    def _begin(self, now: float, *, settled: bool) -> None:
        self._began, self._settled = now, settled
        self._round: dict[int | None, list[Answer]] = {}
        """By kind."""

    def _enough(self) -> int:
        """Answers that make a round."""
        if self._phase == "doubling":
            return max(LEAST_ANSWERS // 2, self.limit // 2)
        return self.limit if self._phase == "recovering" else max(LEAST_ANSWERS, self.limit)


def _slowness(answers: Collection[Answer]) -> float:
    """Seconds for a token's worth of work; the slowest left out, for one among few makes a server look half as fast."""
    counted = sorted(answers, key=Answer.slowness)[: max(1, int((1 - SLOWEST) * len(answers)))]
    return sum(answer.seconds for answer in counted) / sum(answer.work for answer in counted)
