"""Real vLLM on the CPU, started through our own backend: `make test-vllm`.

`tests/vllm/install.py` makes its environment; without it every test here fails and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.local.vllm import LOG, PYTHON
from selfinstruct.errors import EndpointError, Refused
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Request, Sampling, Turn
from selfinstruct.store.ledger import Ledger
from tests.vllm import install

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

CONFIG = BackendConfig(
    kind="vllm", model=str(install.WEIGHTS), concurrency=32, context=2048, server_args=("--enforce-eager",)
)
ENVIRONMENT = {PYTHON: str(install.PYTHON), "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
FEW = Sampling(max_tokens=8, temperature=0.0)


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    assert (install.WEIGHTS / "config.json").exists(), "no .venv-vllm: run python tests/vllm/install.py"


@pytest.fixture(autouse=True)
def where_vllm_is(monkeypatch: pytest.MonkeyPatch, bare_environment: None) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vllm(environment: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    """One server for the whole file; its log is printed when a test fails."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        began = time.monotonic()
        async with open_backend(CONFIG, folder=folder, notice=print) as backend:
            print(f"vLLM was up after {time.monotonic() - began:.0f} s")
            backend.folder = folder  # type: ignore[attr-defined]
            yield backend


def base_url(backend: Backend) -> str:
    """Where the server that we started listens, as its log has it."""
    log = (backend.folder / LOG).read_text()  # type: ignore[attr-defined]
    found = re.search(r"http://127\.0\.0\.1:\d+", log)
    assert found, log
    return f"{found[0]}/v1"


def metric(backend: Backend, name: str) -> float:
    with urllib.request.urlopen(base_url(backend).replace("/v1", "/metrics")) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}\{{.*\}} (\S+)$", text, re.MULTILINE))


async def test_it_completes(vllm: Backend) -> None:
    answer = await vllm.complete(Request(model=vllm.model, prompt="1. Name a river.\n2.", sampling=FEW))
    assert (answer.completion_tokens, answer.finish_reason) == (8, "length")
    assert answer.prompt_tokens > 5
    assert answer.text.strip()


async def test_it_chats_and_keeps_to_a_schema(vllm: Backend) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    turns = (Turn(role="user", content="Is water wet? Answer as JSON."),)
    sampling = Sampling(max_tokens=40, temperature=0.0)
    answer = await vllm.complete(Request(model=vllm.model, messages=turns, sampling=sampling, answer_schema=schema))
    assert list(json.loads(answer.text)) == ["yes"]


async def test_a_prefix_that_many_prompts_share_is_computed_once(vllm: Backend) -> None:
    prefix = "Task: Sort the numbers.\nIs it classification? No\n\n" * 40
    hits = metric(vllm, "vllm:prefix_cache_hits_total")
    answers = []
    for number in range(4):
        prompt = f"{prefix}Task: Number {number}.\nIs it classification?"
        answers.append(await vllm.complete(Request(model=vllm.model, prompt=prompt, sampling=FEW)))
    assert metric(vllm, "vllm:prefix_cache_hits_total") - hits > 2 * answers[0].prompt_tokens
    assert [answer.cached_tokens > 0.7 * answer.prompt_tokens for answer in answers[1:]] == [True] * 3


async def test_many_at_once_are_all_answered(vllm: Backend) -> None:
    request = Request(model=vllm.model, prompt="1. Name a river.\n2.", sampling=FEW)
    answers = await asyncio.gather(*(vllm.complete(request) for _ in range(100)))
    assert {answer.completion_tokens for answer in answers} == {8}


async def test_a_prompt_that_does_not_fit_its_context_is_refused_as_too_long(vllm: Backend) -> None:
    with pytest.raises(Refused) as caught:
        await vllm.complete(Request(model=vllm.model, prompt="word " * 3000, sampling=FEW))
    assert caught.value.kind == "prompt_too_long"


async def test_one_that_is_running_is_attached_to_and_left_running(vllm: Backend) -> None:
    attached = BackendConfig(kind="vllm", base_url=base_url(vllm))
    async with open_backend(attached, notice=print) as backend:
        assert backend.model == vllm.model
        assert (await backend.complete(Request(model="", prompt="1.", sampling=FEW))).text
    assert (await vllm.complete(Request(model="", prompt="1.", sampling=FEW))).text


async def test_a_model_that_it_does_not_serve_is_answered_with_the_one_it_does(vllm: Backend) -> None:
    attached = BackendConfig(kind="vllm", base_url=base_url(vllm), model="Qwen/Qwen3-8B")
    with pytest.raises(EndpointError, match=r"no model 'Qwen/Qwen3-8B'; it serves .*smollm2"):
        async with open_backend(attached, notice=print):
            pass
    with pytest.raises(EndpointError, match=r"no model 'gpt-9'; it serves .*smollm2"):
        await vllm.complete(Request(model="gpt-9", prompt="1.", sampling=FEW))


async def test_one_that_cannot_start_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"model": str(tmp_path / "nothing")})
    with pytest.raises(EndpointError) as caught:
        async with open_backend(config, folder=tmp_path, notice=print):
            pass
    assert "ended before it was ready" in str(caught.value)
    assert str(tmp_path / LOG) in str(caught.value)
    assert "\n" not in str(caught.value)


def selfinstruct(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, run in a folder as a person would."""
    command = [sys.executable, "-m", "selfinstruct", *arguments]
    env = os.environ | ENVIRONMENT | {"PYTHONPATH": str(install.HERE.parents[1])}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


async def test_a_run_generates_on_it_from_prompts_whose_prefixes_it_has_cached(vllm: Backend, tmp_path: Path) -> None:
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    before = [metric(vllm, name) for name in names]
    options = ("--backend", "vllm", "--base-url", base_url(vllm), "--concurrency", "16", "-n", "10", "--run", "run")
    done = await asyncio.to_thread(selfinstruct, tmp_path, "generate", *options)
    assert done.returncode == 0, done.stderr
    hits, queries = (metric(vllm, name) - then for name, then in zip(names, before, strict=True))
    print(f"{done.stderr}{hits:.0f} of {queries:.0f} prompt tokens came from the prefix cache")
    assert hits > 0.5 * queries > 0
    assert (
        len({row["instruction"] for row in json.loads((tmp_path / "outputs/run/export/alpaca.json").read_text())}) == 10
    )
    verified = await asyncio.to_thread(selfinstruct, tmp_path, "verify", "run")
    assert verified.returncode == 0, verified.stdout


async def test_an_evolution_goes_to_its_end_on_it(vllm: Backend, tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "seeds" / "tasks.jsonl").read_text(encoding="utf-8").splitlines()[:8]
    (tmp_path / "tasks.jsonl").write_text("\n".join(shipped), encoding="utf-8")
    short = ("--answer-tokens", "96", "--set", "recipe.answer.max_tokens=96")
    options = ("--backend", "vllm", "--base-url", base_url(vllm), "--concurrency", "16", "--rounds", "2", *short)
    done = await asyncio.to_thread(selfinstruct, tmp_path, "evolve", "tasks.jsonl", *options)
    assert done.returncode == 0, done.stderr
    told = await asyncio.to_thread(selfinstruct, tmp_path, "status", "tasks-evolved", "--json")
    facts = json.loads(told.stdout)
    print(told.stdout)
    with Ledger.open(tmp_path / "outputs" / "tasks-evolved") as ledger:
        roots = ledger.count("seeds")
    assert facts["state"] == "complete"
    assert facts["jobs"]["evolve settled"] == 2 * roots
    assert sum(one["drafts"] - one["kept"] for one in facts["drafts"]) == sum(drop["count"] for drop in facts["drops"])
    verified = await asyncio.to_thread(selfinstruct, tmp_path, "verify", "tasks-evolved")
    assert verified.returncode == 0, verified.stdout


async def test_generate_starts_it_keeps_its_log_in_the_run_and_stops_it(tmp_path: Path) -> None:
    options = ("--backend", "vllm", "--model", str(install.WEIGHTS), "--concurrency", "16", "-n", "2", "--run", "run")
    settings = ("--set", "backend.context=2048", "--set", 'backend.server_args=["--enforce-eager"]')
    done = await asyncio.to_thread(selfinstruct, tmp_path, "generate", *options, *settings)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "outputs" / "run" / LOG).read_text()
    [address] = set(re.findall(r"http://127\.0\.0\.1:\d+", log))
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health")


STARTER = """
    import asyncio, sys
    from pathlib import Path
    from selfinstruct.backends import open_backend
    from selfinstruct.inputs.config import BackendConfig

    async def main():
        config = BackendConfig.model_validate_json(sys.argv[1])
        async with open_backend(config, folder=Path(sys.argv[2]), notice=lambda line: None):
            print("up", flush=True)
            await asyncio.to_thread(sys.stdin.readline)

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["closed", "killed"])
async def test_it_is_gone_when_we_are(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(STARTER), CONFIG.model_dump_json(), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(install.HERE.parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as starter:
        assert starter.stdin
        assert starter.stdout
        assert starter.stdout.readline() == b"up\n", (tmp_path / LOG).read_text()
        started = descendants(starter.pid)
        assert len(started) >= 3, "the watcher, vLLM's front and its engine"
        if how == "killed":
            starter.send_signal(signal.SIGKILL)
        else:
            starter.stdin.close()
    deadline = time.monotonic() + 30
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(started) == []


def descendants(pid: int) -> list[int]:
    """All processes that a process started, and theirs, from the parents that /proc names."""
    parents = {other: int(status[1]) for other, status in processes().items()}
    found = [pid]
    for one in found:
        found += [other for other, parent in parents.items() if parent == one]
    return found[1:]


def alive(pids: list[int]) -> list[int]:
    """Those that still run; one that only waits to be buried does not."""
    running = processes()
    return [pid for pid in pids if pid in running and running[pid][0] != "Z"]


def processes() -> dict[int, list[str]]:
    """State and parent, and what follows them in /proc, of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    return found
