"""One piece of work done twice: by a run of ours from its first plan to its last answer, and by a bare aiohttp loop.

The loop posts the very requests that the run asked, in the order in which it asked them, so that both meet the same
answers and the same stragglers. It does nothing with an answer but read its text, and nothing about a fault.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.openai.wire import body_of
from selfinstruct.cli.session import seldom_collected
from selfinstruct.inputs.config import RunConfig, Tree, build
from selfinstruct.records import Request
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.events import Answered, Event
from selfinstruct.run.folder import begin
from selfinstruct.run.state import RunState
from selfinstruct.run.told import Told, read
from selfinstruct.store.ledger import Ledger

GRACE = 60.0
"""Seconds that requests in flight are given at the end: all are waited for, as the loop waits for all."""


class Done(NamedTuple):
    """How it went; times in seconds by the clock on the wall."""

    requests: int
    began: float
    kept: float
    """When the last task was kept."""
    ended: float
    """When the last answer had come."""
    cpu: float
    """Seconds, of this process alone."""

    @property
    def seconds(self) -> float:
        """From the beginning to the last answer."""
        return self.ended - self.began

    @property
    def cpu_ms(self) -> float:
        """Of a request."""
        return 1000 * self.cpu / self.requests


See = Callable[[Event, RunState], object]
"""Is told each event of a run, and the state after it."""


def look_away(event: Event, state: RunState) -> None:
    """A `See` that does nothing."""


async def ours(tree: Tree, folder: Path, see: See = look_away) -> Done:
    """A run in `folder` with these settings."""
    told = read(build(RunConfig, tree, where="bench"))
    async with open_backend(told.config.backend, notice=print) as backend:
        return await drive(told, backend, folder, see)


async def drive(
    told: Told, backend: Backend, folder: Path, see: See = look_away, *, clock: Callable[[], float] = time.time
) -> Done:
    """A run in `folder` with an open backend."""
    with begin(folder, told, {"writer": backend.model}) as ledger:
        state = RunState.load(ledger, told)
        engine = Engine(state, ledger, World({"writer": backend}), grace=GRACE)
        answers, kept = 0, 0.0
        began, cpu = clock(), time.process_time()
        with seldom_collected():
            async with aclosing(engine.run()) as events:
                async for event in events:
                    answers += isinstance(event, Answered)
                    kept = kept or (clock() if state.complete else 0.0)
                    see(event, state)
        return Done(answers, began, kept or clock(), clock(), time.process_time() - cpu)


def self_instruct(url: str, tasks: int, in_flight: int | None, luck: int = 0) -> Tree:
    """Settings of a run of Self-Instruct on a simulated server; without `in_flight` it finds its own number. `luck`
    decides what is asked, and so who straggles."""
    backend = {"kind": "openai", "base_url": f"{url}/v1", "model": "sim", "dialect": "completion"}
    return {"n": tasks, "seed": luck, "backend": backend | ({"concurrency": in_flight} if in_flight else {})}


def asked(folder: Path) -> list[dict[str, Any]]:
    """The bodies of the requests that a run was answered, in the order in which they were asked."""
    with Ledger.open(folder) as ledger:
        rows = ledger.query("SELECT question FROM answers ORDER BY at - seconds")
    return [body_of(Request.model_validate(json.loads(request)), "") for (request,) in rows]


async def bare(url: str, bodies: Iterable[dict[str, Any]], in_flight: int) -> Done:
    """The least that anybody could do: post, read the text; told to wait, wait and post again."""
    left = iter(bodies)
    answers = 0

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal answers
        for body in left:
            while not await post(session, body):
                pass
            answers += 1

    async def post(session: aiohttp.ClientSession, body: dict[str, Any]) -> str:
        path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        async with session.post(url + path, json=body) as answer:
            said = await answer.json()
        if answer.status == 429:
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
            return ""
        choice = said["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began, cpu = time.time(), time.process_time()
        await asyncio.gather(*(worker(session) for _ in range(in_flight)))
        return Done(answers, began, time.time(), time.time(), time.process_time() - cpu)
