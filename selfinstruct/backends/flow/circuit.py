"""Whether a server is asked at all: a circuit breaker.

    closed   requests pass
    open     too many in a row failed: none passes until a pause is over, which doubles each time
    probing  one has passed; if it is answered all pass again, else the next pause begins

So a server that is restarted costs the requests that were out, and one more now and then, instead of every attempt of
every job. When so many probes in a row have failed, or all for so long, that nothing speaks for its return, it is given
up.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from selfinstruct.backends.flow.pauses import doubled
from selfinstruct.errors import Fault

TRIP = 5
"""Attempts that must fail in a row for the circuit to open."""
PROBES = 8
"""Probes that must fail in a row for the server to be given up: a minute and a half of pauses."""
PATIENCE = 15 * 60.0
"""Seconds of nothing but failures after which it is given up sooner: each probe of a server that only lets us wait for
its answer may take ten minutes."""


class Circuit:
    """The circuit to one server."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._failures: Counter[str] = Counter()
        """Of those in a row, by what they say."""
        self._failing_since = 0.0
        """When the first of them failed."""
        self._given_up = False
        self._probes = 0
        self._probing = False
        self.opens_at: float | None = None
        """While it is open: when the next probe may pass."""

    @property
    def given_up(self) -> bool:
        """Whether nothing speaks for the server's return."""
        return self._given_up

    @property
    def verdict(self) -> str:
        """How often it failed in a row, and how most often."""
        [(message, _)] = self._failures.most_common(1)
        return f"{self._failures.total()} attempts in a row failed, most often so: {message}"

    def passes(self, now: float) -> bool:
        """Whether a request may be sent now."""
        return self.opens_at is None or (not self._probing and now >= self.opens_at)

    def sent(self) -> None:
        """A request was sent; while the circuit is open it is the probe."""
        self._probing = self.opens_at is not None

    def answered(self) -> None:
        """A request was answered, be it by a refusal: somebody is there."""
        if self._failures:
            self._failures.clear()
        self._probes, self._probing, self._given_up, self.opens_at = 0, False, False, None

    def failed(self, fault: Fault, now: float, *, probe: bool) -> bool:
        """A request failed; whether the circuit has been opened by it, or stays open for another pause."""
        if not self._failures:
            self._failing_since = now
        self._failures[str(fault)] += 1
        if probe:
            self._probes += 1
            self._probing = False
        elif self.opens_at is not None or self._failures.total() < TRIP:
            # Of those that were out when it opened no one says anything new.
            return False
        self._given_up = self._probes >= PROBES or now - self._failing_since > PATIENCE
        self.opens_at = now + doubled(self._probes + 1) * self._rng.uniform(0.5, 1.0)
        return True

    def abandoned(self) -> None:
        """The probe was called back before anything came of it."""
        self._probing = False
