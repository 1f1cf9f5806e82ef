"""What one request costs on its whole way, recipe, client, parse, filters, ledger, beside a bare aiohttp loop.

    python bench/pipeline.py [--tasks 2000] [--in-flight 256] [--latency 0.05]

A local server in a process of its own answers Self-Instruct's three kinds of prompts with made-up text of the usual
lengths. CPU is this process's alone. A second run, under the profiler, tells where it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import aiohttp

from selfinstruct.backends import open_backend
from selfinstruct.config import RunConfig, build
from selfinstruct.engine import Answered, Engine
from selfinstruct.runs import RunState, begin, read

SERVER = """
import asyncio, json, random, sys
from aiohttp import web

random.seed(7)
RANKS = [1 / (rank + 3) for rank in range(8000)]

def words(count):
    return " ".join("w%d" % n for n in random.choices(range(8000), RANKS, k=count))

def instruction():
    return words(random.randint(7, 22)).capitalize() + "."

def text(prompt):
    tail = prompt[-40:]
    if "Is it classification?" in tail:
        return " Yes" if random.random() < 0.2 else " No"
    if tail.rstrip().endswith("9."):
        return " " + "\\n".join((f"{n}. " if n > 9 else "") + instruction() for n in range(9, 16))
    if "Class label" in prompt:
        return f"Class label: {words(1)}\\nText: {words(20)}\\nClass label: {words(1)}\\nText: {words(20)}"
    return "\\n".join(f"Example {n}\\nInput: {words(25)}\\nOutput: {words(40)}" for n in (1, 2))

async def complete(request):
    prompt = json.loads(await request.read())["prompt"]
    await asyncio.sleep(float(sys.argv[1]))
    answer = text(prompt)
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(answer) // 4}
    choice = {"index": 0, "text": answer, "logprobs": None, "finish_reason": "stop"}
    return web.json_response({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "bench",
                              "choices": [choice], "usage": usage})

async def models(request):
    return web.json_response({"data": [{"id": "davinci"}]})

async def main():
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/completions", complete)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

AREAS = {
    "client (openai, aiohttp, ssl, json)": ("openai", "httpx", "aiohttp", "yarl", "multidict", "backends/", "json/"),
    "ledger (sqlite, canonical JSON)": ("store/", "sqlite"),
    "filters (ROUGE index, validity)": ("filters/", "numpy", "rapidfuzz", "text.py"),
    "recipe (render, parse, records)": (
        "recipes/",
        "prompts.py",
        "parse.py",
        "jinja2",
        "pydantic",
        "records.py",
        "<template>",
    ),
    "engine": ("engine.py", "runs.py", "random.py"),
    "event loop": ("asyncio", "selectors.py", "tenacity"),
}


class Cost(NamedTuple):
    """What a request cost."""

    requests: int
    per_second: float
    cpu_ms: float


async def bare(url: str, requests: int, in_flight: int) -> Cost:
    """The least that anybody could do: post and read the text."""
    prompt = "1. Name a river that flows through two countries.\n" * 8 + "9."
    body = {"model": "davinci", "prompt": prompt, "max_tokens": 1024, "temperature": 0.7}
    left = iter(range(requests))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{url}/v1/completions", json=body) as answer:
                (await answer.json())["choices"][0]["text"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(session) for _ in range(in_flight)))
    return _cost(requests, began, cpu)


async def whole(url: str, tasks: int, in_flight: int, folder: Path) -> Cost:
    """A run of Self-Instruct from its first plan to its last settlement."""
    backend = {"kind": "openai", "base_url": f"{url}/v1", "model": "davinci", "concurrency": in_flight}
    told = read(build(RunConfig, {"n": tasks, "backend": backend}, where="bench"))
    async with open_backend(told.config.backend, notice=print) as server:
        with begin(folder, told, server.model) as ledger:
            state = RunState.load(ledger, told.config)
            engine = Engine(state, ledger, server, model=server.model)
            answers = 0
            began, cpu = time.perf_counter(), time.process_time()
            async with aclosing(engine.run()) as events:
                async for event in events:
                    answers += isinstance(event, Answered)
            return _cost(answers, began, cpu)


def _cost(requests: int, began: float, cpu: float) -> Cost:
    return Cost(requests, requests / (time.perf_counter() - began), 1000 * (time.process_time() - cpu) / requests)


def shares(profile: cProfile.Profile) -> Counter[str]:
    """Seconds by area of the code, by where a function stands."""
    found: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name == "<method 'poll' of 'select.epoll' objects>":
            continue
        place = f"{path} {name}"
        area = next((area for area, marks in AREAS.items() if any(mark in place for mark in marks)), "other")
        found[area] += own
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What one request costs on its whole way.")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS")
    options = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(options.latency)], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            ours = asyncio.run(whole(url, options.tasks, options.in_flight, Path(one)))
            least = asyncio.run(bare(url, ours.requests, options.in_flight))
            profile = cProfile.Profile()
            profile.enable()
            asyncio.run(whole(url, options.tasks // 4, options.in_flight, Path(two)))
            profile.disable()
    finally:
        server.kill()
    print(f"{ours.requests} requests, {options.in_flight} in flight, {1000 * options.latency:.0f} ms each\n")
    print("| way | requests/s | CPU ms a request | of bare |")
    print("|---|---:|---:|---:|")
    for name, cost in (("bare aiohttp loop", least), ("whole pipeline", ours)):
        print(f"| {name} | {cost.per_second:,.0f} | {cost.cpu_ms:.2f} | {cost.cpu_ms / least.cpu_ms:.1f} × |")
    print("\n| where it goes | share |\n|---|---:|")
    spent = shares(profile)
    for area, seconds in spent.most_common():
        print(f"| {area} | {seconds / spent.total():.0%} |")


if __name__ == "__main__":
    main()
