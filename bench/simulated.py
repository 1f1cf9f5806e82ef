"""A model server that only takes its time: slots, a time to each answer, stragglers; it knows how busy it was.

    python bench/simulated.py SLOTS SECONDS STRAGGLERS STRAGGLER_SECONDS

Prints its port. A request waits for a slot and holds it for its time. `GET /busy` returns when the number of busy slots
changed, and to what. Answers are made-up words; what the prompt asks for decides how many.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

RANKS = [1 / (rank + 3) for rank in range(8000)]


@contextmanager
def simulated(slots: int, seconds: float, stragglers: float = 0.0, straggler_seconds: float = 0.0) -> Iterator[str]:
    """The address of such a server, in a process of its own."""
    command = [sys.executable, __file__, *map(str, (slots, seconds, stragglers, straggler_seconds))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


class Server:
    """Answers and keeps count."""

    def __init__(self, slots: int, seconds: float, stragglers: float, straggler_seconds: float) -> None:
        self._free = asyncio.Semaphore(slots)
        self._seconds = seconds
        self._stragglers = stragglers
        self._straggler_seconds = straggler_seconds
        self._random = random.Random(7)
        self._busy = 0
        self._changes: list[tuple[float, int]] = []

    async def complete(self, request: web.Request) -> web.Response:
        """An answer, when a slot was free and its time has passed."""
        prompt = json.loads(await request.read())["messages"][-1]["content"]
        async with self._free:
            self._count(+1)
            slow = self._random.random() < self._stragglers
            await asyncio.sleep(self._straggler_seconds if slow else self._seconds)
            self._count(-1)
        text = self._text(prompt)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "sim", "choices": [choice], "usage": usage}
        )

    async def busy(self, request: web.Request) -> web.Response:
        """Every change of the number of busy slots, with its time."""
        return web.json_response(self._changes)

    def _count(self, change: int) -> None:
        self._busy += change
        self._changes.append((time.time(), self._busy))

    def _text(self, prompt: str) -> str:
        if "Not equal" in prompt:
            return self._random.choice(["Equal", "Not equal", "Not equal", "Not equal"])
        return self._words(self._random.randint(20, 60))

    def _words(self, count: int) -> str:
        return " ".join(f"w{n}" for n in self._random.choices(range(8000), RANKS, k=count)).capitalize() + "."


async def models(request: web.Request) -> web.Response:
    """The one model."""
    return web.json_response({"data": [{"id": "sim"}]})


async def main() -> None:
    slots, *times = sys.argv[1:]
    server = Server(int(slots), *map(float, times))
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/busy", server.busy)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
