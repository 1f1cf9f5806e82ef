"""What befalls each request at a server that is not well, and the accounts of both sides."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfinstruct.backends.openai.wire import body_of
from selfinstruct.records import Request
from selfinstruct.store.ledger import Ledger
from tests.support.server import Body, ModelServer, Reply, dropped, error, hang, status, text, trickle, truncated

Answer = Callable[[Body], str | Reply]

GARBAGE = status(200, b"\x00\xff {not json")
ILLS: dict[str, tuple[float, Reply]] = {
    "500": (0.05, error(500, "as it pleases the server")),
    "dropped": (0.01, dropped()),
    "truncated": (0.01, truncated()),
    "garbage": (0.02, GARBAGE),
    "hangs": (0.01, hang()),
}
"""What goes wrong, by name: for which share of requests, and what is answered."""
SLOWNESS: dict[str, tuple[float, Reply]] = {"slow": (0.04, trickle(0.1)), "fast": (0.2, trickle(0.0005))}
"""Answers byte by byte: for longer than the timeout of the tests, and not for so long."""
GOLDEN = (5**0.5 - 1) / 2


class Fates:
    """Answers, and what befalls requests instead, in shares that hold for few requests as well as for many.

    What comes for the first time draws the multiples of the golden ratio, modulo one, in the order of coming; so does
    what comes for the second, and so on. No draws lie more evenly: of 150 an ill with a share of 1% befalls at least
    one, whatever is asked and in whichever order, where draws by chance would spare them all in one run of five.

    Args:
        answer: what a request is answered that nothing befalls.
        ills: see `ILLS`.
    """

    def __init__(self, answer: Callable[[Body], str], ills: dict[str, tuple[float, Reply]]) -> None:
        self._answer = answer
        self._ills = ills
        self._come = Counter[str]()
        self._coming = Counter[int]()
        """How many have come so often, by how often."""
        self.drawn = Counter[str]()
        """What befell requests, by name; "" for nothing."""

    def __call__(self, body: Body) -> Reply:
        asked = canonical(body)
        self._come[asked] += 1
        attempt = self._come[asked]
        self._coming[attempt] += 1
        name, reply = self._draw(self._coming[attempt] * GOLDEN % 1)
        self.drawn[name] += 1
        said = text(self._answer(body))
        # What trickles is the answer.
        return replace(said, how=reply.how, delay=reply.delay) if reply and reply.how == "trickle" else reply or said

    def _draw(self, draw: float) -> tuple[str, Reply | None]:
        for name, (share, reply) in self._ills.items():
            if draw < share:
                return name, reply
            draw -= share
        return "", None


class Bursts:
    """Answers, but again and again refuses all requests for a while.

    Args:
        answer: to those in between.
        refusal: what the others are answered.
        every: seconds from one burst to the next.
        long: seconds that a burst takes.
    """

    def __init__(self, answer: Callable[[Body], str], refusal: Reply, *, every: float = 2.0, long: float = 0.4) -> None:
        self._answer = answer
        self._refusal = refusal
        self._every = every
        self._long = long
        self._began = time.monotonic()
        self.refused = 0

    def __call__(self, body: Body) -> str | Reply:
        if (time.monotonic() - self._began) % self._every < self._long:
            self.refused += 1
            return self._refusal
        return self._answer(body)


def canonical(body: Any) -> str:
    return json.dumps(body, sort_keys=True)


class Accounts:
    """How often each request was asked, by the ledger and by the servers.

    Args:
        run: the folder of the run.
        servers: all that it asked.
    """

    def __init__(self, run: Path, *servers: ModelServer) -> None:
        self.received = Counter(canonical(request.body) for server in servers for request in server.requests)
        """By the servers, by what was asked."""
        with Ledger.open(run) as ledger:
            requests = {key: question for _, key, _, _, question, _ in ledger.asked()}
            faults = ledger.query("SELECT key, count(*), sum(kind <> 'rate_limited') FROM faults GROUP BY key")
        self.failed = {key: attempts for key, _, attempts in faults}
        """By the ledger, by key: attempts that brought no answer; to be told to wait is none."""
        self._answered = set(requests)
        self._asked = Counter({key: count for key, count, _ in faults}) + Counter(requests.keys())
        self._bodies = {key: canonical(body_of(Request(**json.loads(told)), "")) for key, told in requests.items()}

    def told(self) -> Counter[str]:
        """By the ledger, by what was asked; of what was never answered it knows only the key."""
        told = Counter[str]()
        for key, times in self._asked.items():
            told[self._bodies.get(key, key)] += times
        return told

    def balance(self) -> None:
        """Each request was received as often as the ledger has answers and faults of it."""
        told = self.told()
        known = set(self._bodies.values())
        assert {body: times for body, times in self.received.items() if body in known} == {
            body: times for body, times in told.items() if body in known
        }
        assert sorted(times for body, times in self.received.items() if body not in known) == sorted(
            times for body, times in told.items() if body not in known
        )

    def cover(self) -> None:
        """No request was received more often than that: of those that were under way to a server that went away it is
        not known whether they came."""
        told = self.told()
        known = set(self._bodies.values())
        assert all(self.received[body] <= told[body] for body in known)
        assert self.received.total() <= told.total()

    def keep_to(self, attempts: int) -> None:
        """Nothing was tried more often than so many times."""
        for key, failed in self.failed.items():
            assert failed + (key in self._answered) <= attempts, key
