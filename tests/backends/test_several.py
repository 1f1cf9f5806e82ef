"""Several servers for one run: how they are opened, and how they share the work."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from selfinstruct.backends import open_backend
from selfinstruct.backends.base import Several
from selfinstruct.errors import EndpointError
from selfinstruct.inputs.config import BackendConfig, build
from tests.support.processes import command, model_server
from tests.support.runs import written_seeds
from tests.support.server import ModelServer

NOBODY = "http://127.0.0.1:9/v1"


def asking(*urls: str, model: str = "") -> BackendConfig:
    return build(BackendConfig, {"kind": "openai", "base_url": list(urls), "model": model}, where="test")


def test_an_address_alone_in_a_list_is_that_address() -> None:
    assert asking("http://one/v1").base_url == "http://one/v1"
    assert asking("http://one/v1", "http://two/v1").urls == ("http://one/v1", "http://two/v1")


async def test_each_address_is_a_server_of_its_own_and_the_same_one_twice_is_one() -> None:
    with ModelServer() as one, ModelServer() as two:
        async with open_backend(asking(one.base_url, two.base_url, one.base_url), notice=print) as backend:
            assert isinstance(backend, Several)
            assert [endpoint.model for endpoint in backend.endpoints] == ["test-model"] * 2


async def test_of_several_servers_one_may_be_away_when_the_run_begins_and_that_is_said() -> None:
    notices: list[str] = []
    with ModelServer() as one:
        async with open_backend(asking(NOBODY, one.base_url), notice=notices.append) as backend:
            assert backend.model == "test-model"
    [said] = notices
    assert said.startswith(f"nothing answers at {NOBODY}")
    assert said.endswith("The others are asked; this one is tried again.")


async def test_when_none_of_several_servers_answers_that_is_an_error() -> None:
    with pytest.raises(EndpointError, match="nothing answers"):
        async with open_backend(asking(NOBODY, "http://127.0.0.1:19/v1"), notice=print):
            pass


async def test_servers_of_different_models_are_refused() -> None:
    different = pytest.raises(EndpointError, match="several addresses must serve the same model; name it with --model")
    with ModelServer() as one, ModelServer(models=("another",)) as two, different:
        async with open_backend(asking(one.base_url, two.base_url), notice=print):
            pass


def test_a_run_asks_all_of_its_servers_about_equally(tmp_path: Path) -> None:
    with model_server(latency=0.02) as one, model_server(latency=0.02) as two:
        flags = ["--seeds", written_seeds(tmp_path), "--dialect", "completion", "-n", 60, "--run", f"{tmp_path}/run/."]
        urls = ["--base-url", one.base_url, "--base-url", two.base_url]
        done = command("generate", *map(str, [*flags, *urls]))
        assert done.returncode == 0, done.stderr
        asked = Counter({"one": len(one.requests), "two": len(two.requests)})
    assert min(asked.values()) > 0.4 * asked.total()
    assert len(json.loads((tmp_path / "run/export/alpaca.json").read_text())) >= 60
    assert command("verify", f"{tmp_path}/run/.").returncode == 0


@pytest.mark.parametrize(
    "answer", [b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 2.0\n', b"", None]
)
async def test_the_queue_of_a_vllm_is_read_from_its_metrics_and_nobody_has_to_tell(answer: bytes | None) -> None:
    with ModelServer() as server:
        server.metrics = answer
        config = BackendConfig(kind="vllm", base_url=server.base_url)
        async with open_backend(config, notice=print) as backend:
            queue = await backend.queue()  # type: ignore[attr-defined]
    assert queue == ({b"": (0, 0), None: None}.get(answer, (3, 2)))
