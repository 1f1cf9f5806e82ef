"""What deciding alone costs: the scenarios of serve.py in time that passes only while everybody waits.

    python bench/virtual.py [stragglers|limit|slots|all]

The run is whole (engine, fleet, recipe, filters, ledger) and the server is that of `simulated.py`, asked without HTTP.
Computing takes no time here. So the figures are the same on any machine, however busy, and show what is lost by
decisions: how soon the number of requests in flight is found, what a limit teaches, how a run ends.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from serve import LIMIT, SLOTS, STRAGGLERS, WINDOWS
from simulated import USED, Change, Settings, Simulation, Use
from tables import row, spread, table
from work import Done, drive, self_instruct

from selfinstruct.backends.base import Left, Limits
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.errors import RateLimited
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.records import Completion, Request
from selfinstruct.run.told import read

LIMITS: dict[str, dict[str, Any]] = {
    **{name: {**LIMIT, **window} for name, window in WINDOWS.items()},
    "bucket of one": {**LIMIT, "window": "bucket", "burst": 1},
    "16 at once, 2 s each": {"places": 16, "seconds": 2.0, "retry_after": 1.0},
    "the same, without Retry-After": {"places": 16, "seconds": 2.0, "retry_after": None},
}
"""Settings of servers that refuse, by what the table calls them."""
HOP = 0.001
"""Seconds that a request is on its way, and its answer."""


class Timeless(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still, except when there is nothing to do but wait: then it jumps."""

    def __init__(self) -> None:
        super().__init__(Impatient(self))
        self.now = 1000.0

    def time(self) -> float:
        """Seconds by that clock."""
        return self.now


class Impatient(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits no longer than it takes to set the clock."""

    def __init__(self, loop: Timeless) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        """What is ready now."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


class Near:
    """A backend on a simulation."""

    model = "sim"
    tells_queue = False
    limits: Limits | None = None

    def __init__(self, simulation: Simulation, retry_after: float | None) -> None:
        self._simulation = simulation
        self._retry_after = retry_after
        self.asked: list[Request] = []
        """All that came and were let in, in their order."""

    async def complete(self, request: Request) -> Completion:
        """See `Backend.complete`."""
        await asyncio.sleep(HOP)
        let_in = self._simulation.arrive()
        if told := self._simulation.left():
            most, remaining, reset = told
            self.limits = Limits(Left(remaining, reset, most))
        if not let_in:
            await asyncio.sleep(HOP)
            raise RateLimited("rate_limited", "too many requests", status=429, retry_after=self._retry_after)
        self.asked.append(request)
        said = self._simulation.say(request.prompt or "", request.sampling.max_tokens)
        await self._simulation.work(said.seconds)
        await asyncio.sleep(HOP)
        return Completion(
            text=said.text, finish_reason=said.finish_reason, model=self.model,
            prompt_tokens=said.prompt_tokens, completion_tokens=said.completion_tokens,
        )  # fmt: skip

    async def queue(self) -> None:
        """See `Telling.queue`: it does not tell."""

    async def aclose(self) -> None:
        """See `Backend.aclose`."""


class Ran(NamedTuple):
    """A run, and the server that it met."""

    done: Done
    server: Simulation
    asked: list[Request]


def run(settings: dict[str, Any], tasks: int, in_flight: int | None, luck: int = 0) -> Ran:
    """A run of Self-Instruct on a server with these settings."""
    told = read(build(RunConfig, self_instruct("http://127.0.0.1:1", tasks, in_flight, luck), where="bench"))

    async def work(loop: Timeless) -> Ran:
        simulation = Simulation(Settings(**settings), loop.time)
        backend = Near(simulation, settings.get("retry_after"))
        clocks = (
            mock.patch("time.monotonic", loop.time),
            mock.patch.object(Fleet, "of", partial(Fleet.of, clock=loop.time)),
        )
        with tempfile.TemporaryDirectory() as folder, clocks[0], clocks[1]:
            return Ran(await drive(told, backend, Path(folder), clock=loop.time), simulation, backend.asked)

    return _timeless(work)


def loop_of(settings: dict[str, Any], asked: list[Request], in_flight: int) -> tuple[float, Simulation]:
    """The same requests again, as the bare loop would send them: seconds, and the server that it met."""

    async def work(loop: Timeless) -> tuple[float, Simulation]:
        simulation, began = Simulation(Settings(**settings), loop.time), loop.time()
        backend, left = Near(simulation, None), iter(asked)

        async def worker() -> None:
            for request in left:
                await backend.complete(request)

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return loop.time() - began, simulation

    return _timeless(work)


def _timeless(work: Callable[[Timeless], Coroutine[Any, Any, Any]]) -> Any:
    loop = Timeless()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()


# -- scenarios ---------------------------------------------------------------------------------------------------------


def stragglers(turns: int = 10, tasks: int = 900, in_flight: int = 64) -> None:
    """As `serve.stragglers`; luck decides who is slow, and when."""
    table("requests", "bare loop, s", "last kept task, s", "of bare", "last answer, s", "of bare")
    kept_of, ended_of = [], []
    for luck in range(turns):
        done, _, asked = run(STRAGGLERS, tasks, in_flight, luck)
        seconds, _ = loop_of(STRAGGLERS, asked, in_flight)
        kept = done.kept - done.began
        kept_of.append(kept / seconds)
        ended_of.append(done.seconds / seconds)
        cells = f"{seconds:.2f}", f"{kept:.2f}", f"{kept_of[-1]:.2f}", f"{done.seconds:.2f}", f"{ended_of[-1]:.2f}"
        row(f"{done.requests:,}", *cells)
    row("median", "", "", spread(kept_of), "", spread(ended_of))


def limit(tasks: int = 450, in_flight: int = 64) -> None:
    """As `serve.limit`, and servers that take requests only one by one, or only few at once."""
    table("limit", "requests", "seconds", "of ideal", "refused")
    for name, settings in LIMITS.items():
        done, server, _ = run(settings, tasks, in_flight)
        refused = server.counts["refused"]
        per_second = settings.get("per_second") or settings["places"] / settings["seconds"]
        share = refused / (refused + done.requests)
        row(
            name,
            f"{done.requests:,}",
            f"{done.seconds:.2f}",
            f"{done.seconds * per_second / done.requests:.2f}",
            f"{share:.1%}",
        )


def slots(tasks: int = 3000) -> None:
    """As `serve.slots`."""
    size = SLOTS["slots"]
    table("in flight", "requests", *USED)
    for in_flight in (size, None):
        done, server, asked = run(SLOTS, tasks, in_flight)
        row(f"ours, {in_flight or 'finds itself'}", f"{done.requests:,}", *_used(server, size))
        if in_flight:
            row(f"bare, {size}", f"{len(asked):,}", *_used(loop_of(SLOTS, asked, size)[1], size))


def _used(server: Simulation, size: int) -> tuple[str, ...]:
    return Use.of([Change(*change) for change in server.changes], size).cells


def main() -> None:
    parser = argparse.ArgumentParser(description="What deciding alone costs.")
    parser.add_argument("scenario", nargs="?", default="all", choices=["stragglers", "limit", "slots", "all"])
    chosen = parser.parse_args().scenario
    for name, scenario in (("stragglers", stragglers), ("limit", limit), ("slots", slots)):
        if chosen in (name, "all"):
            scenario()


if __name__ == "__main__":
    main()
