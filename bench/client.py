"""What one request costs us: backend and retries, beside the least that anybody could do.

    python bench/client.py [--requests 4000] [--in-flight 256] [--latency 0.05]

A simulated server in a process of its own answers after 50 ms. All ways are measured in the same run, in turns, and the
best turn of each counts; CPU is this process's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp
from simulated import simulated

from selfinstruct.backends import open_backend
from selfinstruct.backends.flow.fleet import Fleet
from selfinstruct.backends.flow.retry import ask
from selfinstruct.backends.openai.wire import body_of
from selfinstruct.errors import Fault
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Request, Sampling

REQUEST = Request(
    model="bench",
    prompt="Come up with a series of tasks:\n\n" + "1. Name a river that flows through two countries.\n" * 9,
    sampling=Sampling(max_tokens=1024, temperature=0.7, top_p=0.5, presence_penalty=2.0, stop=("\n\n", "\n16")),
)
TURNS = 3

One = Callable[[], Awaitable[object]]


class Cost(NamedTuple):
    """What a request cost."""

    per_second: float
    cpu_ms: float


async def measure(one: One, requests: int, in_flight: int) -> Cost:
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await one()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return Cost(requests / (time.perf_counter() - began), 1000 * (time.process_time() - cpu) / requests)


async def compare(url: str, requests: int, in_flight: int) -> dict[str, Cost]:
    def ignore(fault: Fault, attempt: int) -> None:
        raise fault

    config = BackendConfig(kind="openai", base_url=f"{url}/v1")
    connector = aiohttp.TCPConnector(limit=0)
    async with open_backend(config, notice=print) as backend, aiohttp.ClientSession(connector=connector) as session:
        fleet = Fleet.of(backend, config)

        async def bare() -> object:
            async with session.post(f"{url}/v1/completions", json=body_of(REQUEST, "")) as answer:
                return (await answer.json())["choices"][0]["text"]

        async def retried() -> object:
            return await ask(fleet, REQUEST, attempts=5, on_fault=ignore)

        ways: dict[str, One] = {
            "bare aiohttp": bare,
            "backend": lambda: backend.complete(REQUEST),
            "backend + retries": retried,
        }
        turns = [{name: await measure(one, requests, in_flight) for name, one in ways.items()} for _ in range(TURNS)]
    return {name: min((turn[name] for turn in turns), key=lambda cost: cost.cpu_ms) for name in ways}


def main() -> None:
    parser = argparse.ArgumentParser(description="What one request costs us.")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS")
    options = parser.parse_args()
    with simulated(model="bench", seconds=options.latency) as url:
        costs = asyncio.run(compare(url, options.requests, options.in_flight))
    print(f"{options.requests} requests, {options.in_flight} in flight, {1000 * options.latency:.0f} ms each\n")
    print("| way | requests/s | CPU ms a request | over bare |")
    print("|---|---:|---:|---:|")
    bare = costs["bare aiohttp"].cpu_ms
    for name, cost in costs.items():
        print(f"| {name} | {cost.per_second:,.0f} | {cost.cpu_ms:.2f} | {cost.cpu_ms - bare:+.2f} |")


if __name__ == "__main__":
    main()
