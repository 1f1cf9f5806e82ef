"""Backends by name: ours, other packages', and none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from selfinstruct import backends
from selfinstruct.backends import kinds, open_backend
from selfinstruct.backends.scripted import ScriptedBackend
from selfinstruct.errors import ConfigError
from selfinstruct.inputs import plugins
from selfinstruct.inputs.config import BackendConfig


@asynccontextmanager
async def open_theirs(config: BackendConfig, **_: Any) -> AsyncIterator[ScriptedBackend]:
    yield ScriptedBackend(lambda request: "theirs", model=config.model)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("theirs", f"{__name__}:open_theirs", backends.BACKENDS.group)])
    monkeypatch.setattr(plugins, "entry_points", points.select)


async def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean vllm\? known: llamacpp, openai, scripted, vllm"):
        async with open_backend(BackendConfig(kind="vlllm"), notice=print):
            pass


@pytest.mark.usefixtures("theirs")
async def test_another_package_adds_a_kind_by_an_entry_point() -> None:
    async with open_backend(BackendConfig(kind="theirs", model="m"), notice=print) as backend:
        assert backend.model == "m"
    assert kinds() == ["llamacpp", "openai", "scripted", "vllm", "theirs"]
