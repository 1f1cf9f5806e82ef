"""A model server that only takes its time: slots, a queue, stragglers, a limit, faults; it knows how busy it was.

    python bench/simulated.py '{"slots": 64, "prefill": 0.0001, "decode": 0.02}'

Takes `Settings` as JSON and prints its port. It speaks the OpenAI API: completions and chat. Its answers are made-up
words of real lengths in the form that the prompt asks for, and follow from the prompt alone: whoever asks the same
meets the same answer, the same time and the same stragglers. Two more addresses tell how it went:

    GET /busy     each change of the number of busy slots: when, to how many, and how many requests waited
    GET /stats    requests answered, refused and faulted, the most at once, its own CPU seconds, times of arrival

It shares the cores with whoever is measured, so little is done for a request: `cpu` in `/stats` says how much.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple
from zlib import crc32

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Settings:
    """What the server is like; seconds everywhere."""

    model: str = "sim"
    port: int = 0
    slots: int = 0
    """Requests that are worked on at once, the others wait; 0 for no limit."""
    seconds: float = 0.0
    """Time that each answer takes, however short."""
    prefill: float = 0.0
    """Time that each token of the prompt takes besides."""
    decode: float = 0.0
    """Time that each token of the answer takes besides."""
    stragglers: float = 0.0
    """Share of the prompts that take `straggler_seconds` instead."""
    straggler_seconds: float = 2.0
    """Time that a straggler takes."""
    per_second: int = 0
    """Requests that are let in, the others are answered with 429; 0 for no limit."""
    window: str = "sliding"
    """What a limit looks at: the last second (`sliding`), the present one (`fixed`), or a `bucket` that fills up."""
    burst: int = 15
    """Requests that a full bucket lets in at once."""
    places: int = 0
    """Requests that are let in while others are there, more are answered with 429; 0 for no limit."""
    retry_after: float | None = 1.0
    """What a refusal asks to wait; None says nothing."""
    limit_headers: bool = False
    """Tell the limit and what is left of it in `x-ratelimit-…`."""
    errors: float = 0.0
    """Share of requests that are answered with 500; one that is asked again has the same chances again."""
    drops: float = 0.0
    """Share of requests whose connection is closed without an answer."""
    garbage: float = 0.0
    """Share of requests whose answer breaks off."""
    hangs: float = 0.0
    """Share of requests that are never answered."""


# -- for those who measure ---------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """The number of busy slots, and of requests that waited for one, from a time on by the clock on the wall."""

    at: float
    busy: int
    waiting: int


@contextmanager
def simulated(**settings: Any) -> Iterator[str]:
    """The address of such a server, in a process of its own."""
    command = [sys.executable, __file__, json.dumps(asdict(Settings(**settings)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


def stats(url: str) -> dict[str, Any]:
    """What the server counted."""
    return orjson.loads(urllib.request.urlopen(f"{url}/stats").read())  # type: ignore[no-any-return]


def changes(url: str) -> list[Change]:
    """How busy it was, from the first request on."""
    return [Change(*change) for change in orjson.loads(urllib.request.urlopen(f"{url}/busy").read())]


def occupancy(told: list[Change], slots: int, until: float) -> float:
    """Busy slots over slots, from the first change to `until`."""
    return _mean(told, until, lambda change: change.busy) / slots


def queue(told: list[Change], until: float) -> float:
    """Requests that waited for a slot, on average, from the first change to `until`."""
    return _mean(told, until, lambda change: change.waiting)


class Use(NamedTuple):
    """How a server of so many slots was used; the drain begins when all were busy for the last time."""

    full: float
    """Seconds until all slots were busy for the first time."""
    until_drain: float
    """Busy slots over slots, from the first request to the drain."""
    once_full: float
    """Busy slots over slots, from the time when all were first busy to the drain."""
    whole: float
    """Busy slots over slots, from the first request to the last answer."""
    waiting: float
    """Requests that waited for a slot, on average until the drain."""
    seconds: float
    """Seconds from the first request to the last answer."""
    drain: float
    """Seconds of them from the drain on."""

    @classmethod
    def of(cls, told: list[Change], slots: int) -> Use:
        """From all changes of a server."""
        began, ended = told[0].at, told[-1].at
        full = [n for n, change in enumerate(told) if change.busy == slots] or [0, len(told) - 1]
        first, drain = told[full[0]].at, told[full[-1]].at
        return cls(
            first - began, occupancy(told, slots, drain), occupancy(told[full[0] :], slots, drain),
            occupancy(told, slots, ended), queue(told, drain), ended - began, ended - drain,
        )  # fmt: skip

    @property
    def cells(self) -> tuple[str, ...]:
        """Of a table, under `USED`."""
        shares = (f"{share:.1%}" for share in (self.until_drain, self.once_full, self.whole))
        return *shares, f"{self.waiting:.1f}", f"{self.full:.1f}", f"{self.seconds:.1f}", f"{self.drain:.1f}"


USED = ("busy until the drain", "once full", "with the drain", "waiting", "full after, s", "seconds", "drain, s")


def _mean(told: list[Change], until: float, value: Callable[[Change], int]) -> float:
    told = [*(change for change in told if change.at < until), Change(until, 0, 0)]
    return sum(value(now) * (then.at - now.at) for now, then in pairwise(told)) / (until - told[0].at)


# -- what it says ------------------------------------------------------------------------------------------------------

WORDS = [f"w{n}" for n in range(8000)]
WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(len(WORDS))))
"""Few words are frequent and most are rare, as in a language."""
NEXT_NUMBER = re.compile(r"\n(\d+)\.$")
WANTED = re.compile(r"Invent (\d+) more")
CHARACTERS = 4
"""Of a token, about."""


class Writer:
    """Words at random for one prompt."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._random = random.Random(crc32(prompt.encode()))

    def text(self) -> str:
        """What Self-Instruct's prompts and an evolution's judge ask for, in both dialects; else a paragraph."""
        prompt, tail = self._prompt, self._prompt[-100:]
        if "Is it classification?" in tail or "Is it a classification task?" in tail:
            return " Yes" if self._random.random() < 0.2 else " No"
        if number := NEXT_NUMBER.search(tail):
            return self._list(int(number[1]), 7).partition(".")[2]
        if wanted := WANTED.search(prompt):
            return self._list(1, int(wanted[1]))
        if "Class label" in prompt:
            return "\n".join(f"Class label: {self._words(1)}\nText: {self._words(self._length(25))}" for _ in "12")
        if "Example 1" in prompt:
            return "\n".join(self._example(n) for n in range(1, self._random.randint(1, 2) + 1))
        if "Not equal" in prompt:
            return self._random.choice(["Equal", "Not equal", "Not equal", "Not equal"])
        return self._sentence(self._random.randint(20, 60))

    def _list(self, first: int, count: int) -> str:
        return "\n".join(f"{n}. {self._sentence(max(4, self._length(16, 0.5)))}" for n in range(first, first + count))

    def _example(self, number: int) -> str:
        return f"Example {number}\nInput: {self._words(self._length(25))}\nOutput: {self._words(self._length(60))}"

    def _length(self, mean: float, sigma: float = 1.0) -> int:
        """Lognormal, and no more than ten times the mean."""
        return 1 + int(min(10, self._random.lognormvariate(-(sigma**2) / 2, sigma)) * mean)

    def _sentence(self, count: int) -> str:
        return self._words(count).capitalize() + "."

    def _words(self, count: int) -> str:
        return " ".join(self._random.choices(WORDS, cum_weights=WEIGHTS, k=count))


def prompt_of(body: dict[str, Any]) -> str:
    """What a request asks; of a chat its last turn."""
    if "prompt" in body:
        return str(body["prompt"])
    said = body["messages"][-1]["content"] if body["messages"] else ""
    return said if isinstance(said, str) else "".join(part.get("text", "") for part in said)


# -- whom it lets in ---------------------------------------------------------------------------------------------------


class Window:
    """So many requests in a window of a second: the last one, or with `fixed` the one that the clock is in."""

    def __init__(self, size: int, *, fixed: bool) -> None:
        self._size = size
        self._fixed = fixed
        self._times: deque[float] = deque()

    def admit(self, now: float) -> bool:
        begin = float(int(now)) if self._fixed else now - 1
        while self._times and self._times[0] < begin:
            self._times.popleft()
        if len(self._times) >= self._size:
            return False
        self._times.append(now)
        return True

    def left(self, now: float) -> tuple[int, int, float]:
        """The limit, what is left of it, and seconds until all of it is."""
        return self._size, self._size - len(self._times), 1 - now % 1 if self._fixed else self._times[-1] + 1 - now


class Bucket:
    """A bucket of tokens that fills up at a rate; a request takes one."""

    def __init__(self, rate: int, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = float(burst), 0.0

    def admit(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def left(self, now: float) -> tuple[int, int, float]:
        """As of a window."""
        return self._burst, int(self._tokens), (self._burst - self._tokens) / self._rate


# -- how it answers ----------------------------------------------------------------------------------------------------

FAULTS = ("errors", "drops", "garbage", "hangs")


class Said(NamedTuple):
    """An answer, and what it takes."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Simulation:
    """The server without its HTTP: who is let in, what is said, and when; keeps count.

    Args:
        clock: the time that everything is noted with.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._free = asyncio.Semaphore(settings.slots or 1 << 30)
        self._limit: Window | Bucket | None = None
        if settings.per_second and settings.window == "bucket":
            self._limit = Bucket(settings.per_second, settings.burst)
        elif settings.per_second:
            self._limit = Window(settings.per_second, fixed=settings.window == "fixed")
        self._chances = [getattr(settings, name) for name in FAULTS]
        self._random = random.Random(7)
        self._busy = self._waiting = 0
        self.most = 0
        """Requests at once, at most; those that wait for a slot among them."""
        self.changes: list[tuple[float, int, int]] = []
        """Each a `Change`."""
        self.arrivals: list[float] = []
        self.counts: Counter[str] = Counter(dict.fromkeys(("answered", "refused", *FAULTS), 0))

    def arrive(self) -> bool:
        """A request is here; whether it is let in."""
        now = self._clock()
        self.arrivals.append(now)
        crowded = 0 < self._settings.places <= self._busy + self._waiting
        let_in = not crowded and (self._limit is None or self._limit.admit(now))
        self.counts["refused"] += not let_in
        return let_in

    def left(self) -> tuple[int, int, float] | None:
        """The limit, what is left of it, and seconds until all of it is; None where that is not told."""
        return self._limit.left(self._clock()) if self._limit and self._settings.limit_headers else None

    def fault(self) -> str:
        """What goes wrong with a request, mostly "" for nothing."""
        if not sum(self._chances):
            return ""
        fault = self._random.choices((*FAULTS, ""), weights=(*self._chances, 1 - sum(self._chances)))[0]
        if fault:
            self.counts[fault] += 1
        return fault

    def say(self, prompt: str, room: int | None) -> Said:
        """The answer to a prompt, cut where there is only room for so many tokens."""
        text, reason = Writer(prompt).text(), "stop"
        asked, said = len(prompt) // CHARACTERS, 1 + len(text) // CHARACTERS
        if room and said > room:
            text, said, reason = text[: CHARACTERS * room], room, "length"
        s = self._settings
        seconds = s.seconds + s.prefill * asked + s.decode * said
        if crc32(prompt.encode()) < s.stragglers * 2**32:
            seconds = s.straggler_seconds
        return Said(text, reason, asked, said, seconds)

    async def work(self, seconds: float) -> None:
        """Wait for a slot and hold it that long."""
        self._waiting += 1
        self.most = max(self.most, self._busy + self._waiting)
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        self._count(+1)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._count(-1)
            self._free.release()
        self.counts["answered"] += 1

    def _count(self, change: int) -> None:
        self._busy += change
        self.changes.append((self._clock(), self._busy, self._waiting))


BODIES = {
    "/v1/completions": b'{"id":"sim","object":"text_completion","created":1,"model":%b,"choices":[{"index":0,"text":%b,'
    b'"logprobs":null,"finish_reason":"%b"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}',
    "/v1/chat/completions": b'{"id":"sim","object":"chat.completion","created":1,"model":%b,"choices":[{"index":0,'
    b'"message":{"role":"assistant","content":%b},"finish_reason":"%b"}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}',
}


class Server:
    """A simulation that speaks HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = orjson.dumps(settings.model)
        self._simulation = Simulation(settings)
        self._cpu = time.process_time()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        """The answer to anything."""
        if request.path in BODIES:
            return await self._complete(request)
        told: dict[str, Callable[[], Any]] = {
            "/v1/models": lambda: {"object": "list", "data": [{"id": self._settings.model, "object": "model"}]},
            "/health": dict,
            "/busy": lambda: self._simulation.changes,
            "/stats": self._stats,
        }
        if request.path not in told:
            return _json({"error": {"message": f"no {request.path} here", "type": "not_found"}}, status=404)
        return _json(told[request.path]())

    async def _complete(self, request: web.BaseRequest) -> web.Response:
        content = await request.read()
        if not self._simulation.arrive():
            return self._refuse()
        headers, body = self._headers(), orjson.loads(content)
        said = self._simulation.say(prompt_of(body), body.get("max_tokens") or body.get("max_completion_tokens"))
        tokens = said.prompt_tokens, said.completion_tokens, said.prompt_tokens + said.completion_tokens
        answer = BODIES[request.path] % (self._model, orjson.dumps(said.text), said.finish_reason.encode(), *tokens)
        if fault := self._simulation.fault():
            return await self._fail(fault, answer, request)
        await self._simulation.work(said.seconds)
        return web.Response(body=answer, content_type="application/json", headers=headers)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        if (told := self._simulation.left()) is None:
            return {}
        limit, left, reset = told
        return {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{1000 * max(0.0, reset):.0f}ms",
        }

    def _refuse(self) -> web.Response:
        headers = self._headers()
        if self._settings.retry_after is not None:
            headers["Retry-After"] = f"{self._settings.retry_after:g}"
        error = {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}
        return _json({"error": error}, status=429, headers=headers)

    async def _fail(self, fault: str, answer: bytes, request: web.BaseRequest) -> web.Response:
        if fault == "hangs":
            await asyncio.Event().wait()
        if fault == "drops" and request.transport is not None:
            request.transport.abort()
        if fault == "garbage":
            return web.Response(body=answer[: len(answer) // 2], content_type="application/json")
        return _json({"error": {"message": "something broke", "type": "server_error"}}, status=500)

    def _stats(self) -> dict[str, Any]:
        told, cpu = self._simulation, time.process_time() - self._cpu
        return {**told.counts, "most": told.most, "cpu": cpu, "arrivals": told.arrivals}


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, headers=headers, content_type="application/json")


async def main() -> None:
    settings = Settings(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))
    # Whoever goes away before the answer gives the slot back, as with real servers.
    server = web.Server(Server(settings), handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", settings.port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
