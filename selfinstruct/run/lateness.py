"""Which of the jobs in flight are late: out for so much longer than their like that nothing is expected of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable

from selfinstruct.records import Job

LATE = 3.0
"""How many times as long as others of its stage a job may take before it is late, and not counted on any more."""
LATE_AT_LEAST = 0.5
"""Seconds before which no job is late: that much any may be held up."""
LOOK_EVERY = 0.25
"""Seconds between two looks at what is late, where it matters."""


class Lateness:
    """The time that the jobs of each stage take.

    Args:
        look: called when it is time to look again, after somebody has looked.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._started: dict[int, tuple[str, float]] = {}
        """Stage of each job in flight, and when it was started."""
        self._took: dict[str, float] = {}
        """Seconds that a job of each stage took, on average, lately."""
        self._late: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        """Of the next look; until it fires `_late` holds."""

    def starts(self, job: Job) -> None:
        """A job is started."""
        self._started[job.number] = job.stage, time.monotonic()

    def comes_back(self, job: Job) -> None:
        """A job has come back."""
        stage, started = self._started.pop(job.number)
        seconds = time.monotonic() - started
        self._took[stage] = self._took.get(stage, seconds) + 0.1 * (seconds - self._took.get(stage, seconds))

    def late(self) -> Counter[str]:
        """The stages of the jobs that are late, as of the last look; there is another one soon."""
        if self._timer is None:
            now = time.monotonic()
            self._late = Counter(stage for stage, started in self._started.values() if now > started + self._due(stage))
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._again)
        return self._late

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self, stage: str) -> float:
        """Seconds after which a job is late."""
        return max(LATE_AT_LEAST, LATE * self._took.get(stage, math.inf))

    def _again(self) -> None:
        self._timer = None
        self._look()
