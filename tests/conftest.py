"""What every test gets: no network but this machine, no key, no waiting, and a model server when it asks for one."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from selfinstruct.backends.flow import pauses
from selfinstruct.backends.openai import batch_api
from selfinstruct.backends.openai import gathered as batch
from tests.support.server import ModelServer

# A machine that has other work too is slow; the strategies are not.
settings.register_profile("anywhere", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("anywhere")
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails there, with the address in its message."""
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: _connect(self, _allowed(address)))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda self, address: _connect_ex(self, _allowed(address)))
    monkeypatch.setattr(socket, "getaddrinfo", _resolve)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no address and no proxy comes from the machine that the tests run on."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_PROXY", "_proxy")) or name.startswith(("OPENAI_", "HF_", "SELFINSTRUCT_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts take milliseconds; a Retry-After that a test sends is still kept."""
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(pauses, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(batch, "QUIET", 0.02)
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "NO_ROOM_PAUSE"):
        monkeypatch.setattr(batch_api, name, 0.01)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server on a loopback port: `server.base_url`, `server.then(…)`, `server.requests`."""
    with ModelServer() as running:
        yield running


def _allowed(address: Any) -> Any:
    if isinstance(address, tuple) and not _is_here(address[0]):
        raise AssertionError(f"a test reached for the network: {address}")
    return address


def _resolve(host: Any, *rest: Any, **named: Any) -> Any:
    if not _is_here(host):
        raise socket.gaierror(socket.EAI_NONAME, f"a test asked for the address of {host!r}")
    return _getaddrinfo(host, *rest, **named)


def _is_here(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback or ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False
