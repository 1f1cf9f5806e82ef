"""Tokens a second that a run draws from a real vLLM, beside what vLLM's own benchmark client draws from it.

    python bench/vllm_client.py --vllm-python .venv-vllm/bin/python --model .venv-vllm/smollm2-135m-instruct \
        [--tasks 30] [--in-flight 32] [--clients 8 16 32 64]

One server. First a run of Self-Instruct, then the very requests of that run out of its ledger, in the order in which
they were sent, each with as many tokens to generate as it was answered with, by `vllm.benchmarks.serve` at several
widths, then the run again. The client knows one way of drawing tokens, so all stages of the run are given the same
one. It reads its answers as streams, which a run does not; a bare loop over the same requests, without streams, stands
beside it. The prefix cache is emptied before each.

Tokens are those that vLLM counted. Of each also the rate until nine tenths of its tokens were there: what comes after
is the drain, in which nobody can keep a server full.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from real_vllm import GENERATED, Server, arguments, backend_of, served

from selfinstruct.inputs.config import RunConfig, Tree, build
from selfinstruct.run.engine import Engine, World
from selfinstruct.run.folder import begin
from selfinstruct.run.state import RunState
from selfinstruct.run.told import read

ALIKE: Tree = {"temperature": 0.7, "top_p": 0.5, "presence_penalty": 2.0, "frequency_penalty": 0.0}
CLIENT = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
EVERY = 0.5
"""Seconds between two looks at vLLM's counter."""
DRAIN = 0.1
"""Share of the tokens that come last."""


class Rate(NamedTuple):
    """How fast tokens came."""

    tokens: float
    seconds: float
    before_drain: float
    """Tokens a second until the drain."""
    load: float
    said: float | None = None
    """What the client itself reports, tokens a second."""

    @property
    def per_second(self) -> float:
        return self.tokens / self.seconds


async def timed(server: Server, work: Awaitable[Any]) -> Rate:
    """Do some work on a server whose cache is empty, and watch its counter."""
    server.forget()
    [before] = await asyncio.to_thread(server.counters, GENERATED)
    began, seen = time.perf_counter(), [(0.0, 0.0)]

    async def look() -> None:
        [now] = await asyncio.to_thread(server.counters, GENERATED)
        seen.append((time.perf_counter() - began, now - before))

    async def watch() -> None:
        while True:
            await asyncio.sleep(EVERY)
            await look()

    watching = asyncio.create_task(watch())
    try:
        await work
    finally:
        watching.cancel()
    await look()
    tokens = seen[-1][1]
    # Work may begin and end with what is no generation, such as loading a tokenizer: time runs while tokens come.
    began_at = max(at for at, count in seen if count == 0)
    ended_at = min(at for at, count in seen if count == tokens)
    drained_at, most = next((at, count) for at, count in seen if count >= (1 - DRAIN) * tokens)
    return Rate(tokens, ended_at - began_at, most / (drained_at - began_at), os.getloadavg()[0])


async def ours(server: Server, tree: Tree, folder: Path) -> list[dict[str, Any]]:
    """A run of Self-Instruct to its end; returns its requests in the order of sending."""
    told = read(build(RunConfig, tree, where="bench"))
    folder.mkdir()
    with begin(folder, told, {"writer": server.backend.model}) as ledger:
        engine = Engine(RunState.load(ledger, told), ledger, World({"writer": server.backend}))
        async with aclosing(engine.run()) as events:
            async for _ in events:
                pass
        answers = ledger.query("SELECT question, completion_tokens FROM answers ORDER BY at - seconds")
    return [{"prompt": json.loads(request)["prompt"], "output_tokens": tokens} for request, tokens in answers if tokens]


async def bare(server: Server, requests: Sequence[dict[str, Any]], width: int) -> None:
    """The least that anybody could do: post and wait, so many at a time."""
    left = iter(requests)

    async def worker(session: aiohttp.ClientSession) -> None:
        for request in left:
            body = {"model": server.backend.model, "prompt": request["prompt"], "ignore_eos": True, **ALIKE}
            body["max_tokens"] = request["output_tokens"]
            async with session.post(f"{server.url}/v1/completions", json=body) as answer:
                await answer.read()

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        await asyncio.gather(*(worker(session) for _ in range(width)))


async def theirs(server: Server, requests: Path, width: int, python: str, result: Path) -> None:
    """The same requests by vLLM's own client."""
    drawing = [f"--{name.replace('_', '-')}={value}" for name, value in ALIKE.items()]
    command = [
        *(python, "-c", CLIENT, "--backend=openai", "--endpoint=/v1/completions", f"--base-url={server.url}"),
        *(f"--model={server.backend.model}", "--dataset-name=custom", f"--dataset-path={requests}"),
        *("--custom-output-len=-1", "--num-prompts=-1", "--disable-shuffle", "--skip-chat-template", "--ignore-eos"),
        "--ready-check-timeout-sec=0",
        *("--disable-tqdm", "--save-result", f"--result-filename={result}", f"--max-concurrency={width}", *drawing),
    ]
    log = result.with_suffix(".log")
    with log.open("w") as out:
        done = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=subprocess.STDOUT)
        if await done.wait():
            raise SystemExit(f"vLLM's client failed:\n{log.read_text()[-2000:]}")


def row(name: str, rate: Rate, best: float) -> str:
    said = f"{rate.said:.1f}" if rate.said else ""
    cells = (name, f"{rate.tokens:,.0f}", f"{rate.seconds:.0f}", f"{rate.per_second:.1f}", said)
    return (
        "| "
        + " | ".join((*cells, f"{rate.before_drain:.1f}", f"{rate.before_drain / best:.2f}", f"{rate.load:.1f}"))
        + " |"
    )


async def compare(options: argparse.Namespace) -> None:
    config = backend_of(options)
    stages = dict.fromkeys(("sampling", "classify", "input_first", "output_first"), ALIKE)
    tree = {"n": options.tasks, "patience": 10**6, "recipe": {"name": "self-instruct", **stages},
            "backend": config.model_dump(exclude_none=True)}  # fmt: skip
    rates: dict[str, Rate] = {}
    with tempfile.TemporaryDirectory() as scratch:
        async with served(config, options.vllm_python) as server:
            requests: list[dict[str, Any]] = []

            async def run(name: str) -> None:
                requests[:] = await ours(server, tree, Path(scratch) / name)

            async def measure(name: str, work: Awaitable[Any]) -> None:
                rates[name] = await timed(server, work)
                print(f"{name}: {rates[name].per_second:.1f} tokens/s", flush=True)

            await measure("a run", run("run"))
            path = Path(scratch) / "requests.jsonl"
            path.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
            for width in options.clients:
                name, result = f"vLLM's client, {width} at once", Path(scratch) / f"{width}.json"
                await measure(name, theirs(server, path, width, options.vllm_python, result))
                rates[name] = rates[name]._replace(said=json.loads(result.read_text())["output_throughput"])
            widest = max(options.clients)
            await measure(f"bare loop, {widest} at once", bare(server, requests, widest))
            await measure("a run, again", run("again"))
    best = max(rate.before_drain for name, rate in rates.items() if name.startswith("vLLM"))
    print(f"\n{options.tasks} tasks, {len(requests)} requests\n")
    print("| | tokens | seconds | tokens/s | as its client reports | until the drain | of its best | load |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, rate in rates.items():
        print(row(name, rate, best))


def main() -> None:
    parser = arguments("Tokens a second that a run draws from a real vLLM, beside vLLM's own client.")
    parser.add_argument("--tasks", type=int, default=30, help="of the run (30)")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 16, 32, 64], help="widths of vLLM's client")
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
