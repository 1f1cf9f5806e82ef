"""A law that every recipe must keep, as a function to test one with: ours, and those of others.

drafts = assert_any_order(state, job, answer)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from selfinstruct.records import Answer, Draft, Job
from selfinstruct.run.asking import Asking, Put, as_stored, asked_of
from selfinstruct.run.state import RunState

SLOWEST = 12
"""Turns of the event loop that an answer takes at most."""


def assert_any_order(state: RunState, job: Job, answer: Callable[[Put], Answer], timings: int = 20) -> list[Draft]:
    """The drafts of a job, made again and again with the same answers in ever other orders of arrival.

    A run is a function of its answers, so a job may have several questions out at once, and which is answered first may
    decide nothing (law 1).

    Args:
        state: a run whose recipe has planned the job.
        answer: what is answered to a question; must not depend on what was asked before.
        timings: how many orders are tried, the first with answers that take no time.

    Raises:
        AssertionError: in some order the drafts, or the questions, are others.
    """
    first: tuple[list[Draft], list[str]] | None = None
    for timing in range(timings):
        found = asyncio.run(_performed(state, job, answer, timing))
        first = first or found
        assert found[1] == first[1], f"job {job.number} asks other questions when answers arrive in another order"
        assert found[0] == first[0], f"job {job.number} makes other drafts when answers arrive in another order"
    assert first is not None, "at least one order is tried"
    return first[0]


async def _performed(
    state: RunState, job: Job, answer: Callable[[Put], Answer], timing: int
) -> tuple[list[Draft], list[str]]:
    """Drafts, and the keys of all questions in the order of the alphabet."""
    rng, keys = Random(timing), list[str]()

    async def answered(put: Put) -> Answer:
        keys.append(put.key)
        for _ in range(rng.randrange(SLOWEST) if timing else 0):
            await asyncio.sleep(0)
        return as_stored(answer(put))

    drafts = await state.perform(job, Asking(job, state.config, asked_of(state.config, {}), answered))
    return drafts, sorted(keys)
