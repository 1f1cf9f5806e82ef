"""How long to wait after something failed once, twice, three times."""

from __future__ import annotations

FIRST_PAUSE = 0.5
"""Seconds that the pause after a first failure is drawn from; doubles with each further one."""
LONGEST_PAUSE = 30.0
"""Seconds at which pauses stop doubling."""


def doubled(times: int) -> float:
    """The longest pause, in seconds, after the first, second, third … time."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - 1, 64))
