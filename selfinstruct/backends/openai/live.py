"""Any OpenAI-compatible server, hosted or local: completions and chat.

The `openai` client knows addresses, keys and headers, and asks what is asked once. The one call that is made a million
times is posted past it, on an aiohttp session with the client's headers: bodies are encoded and answers read here, for
what the client does around a request costs more than all the rest of it (figures: `bench/client.py`). Retries are not
made here either (`retry.ask`), so its own are off.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from selfinstruct.backends.base import Again, Backend, Limits, Queue, Several
from selfinstruct.backends.openai.boundary import BadRequest, NotFound, boundary, error_of, payload_of, read_error
from selfinstruct.backends.openai.headers import limits_of
from selfinstruct.backends.openai.parameters import Parameters
from selfinstruct.backends.openai.preflight import not_found, resolve_model
from selfinstruct.backends.openai.server import _CONNECT_TIMEOUT, Server, client_of, servers_of
from selfinstruct.backends.openai.wire import body_of, completion_of
from selfinstruct.errors import EndpointError, Fault, Transient, Unreachable
from selfinstruct.inputs.config import BackendConfig, is_local
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Completion, Request

PREFLIGHT_TIMEOUT = 30.0
"""Seconds that a server may take to list its models."""
LONGEST_BODY, LONGEST_TEXT, LONGEST_LIST = 64_000_000, 16_000_000, 8_000_000
"""Bytes after which an answer is taken for one without an end: one with log-probabilities, any other, and a list of
models."""
LARGE, LARGE_AT_ONCE = 250_000, 2
"""Bytes from which on an answer is large, and how many of those are read to their end at once: so what is held does not
grow with the width."""

# How many requests are in flight is the fleet's to say. Connections are dropped before uvicorn, which vLLM runs on,
# closes idle ones at 5 seconds: a request sent into a closing connection is lost.
_IDLE = 4.0
_RUNNING = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? (\d+)", re.MULTILINE)


@asynccontextmanager
async def open_openai(
    config: BackendConfig,
    *,
    folder: Path | None = None,
    notice: Notice,
) -> AsyncIterator[Backend]:
    """A backend on a server that is running, or on several, after a look at their models.

    Raises:
        EndpointError: no key, nothing there, or not the model.
    """
    backends = [
        OpenAIBackend(
            server, model=config.model, timeout=config.timeout, notice=notice, tells_queue=config.kind == "vllm"
        )
        for server in servers_of(config)
    ]
    try:
        await _prepare(backends, notice)
        yield backends[0] if len(backends) == 1 else Several(backends)
    finally:
        for backend in backends:
            await backend.aclose()


def at(urls: tuple[str, ...], config: BackendConfig, model: str) -> BackendConfig:
    """The settings for asking servers that we started ourselves: there, for this model, and without a key."""
    return config.model_copy(update={"base_url": urls, "model": model, "api_key_env": ""})


async def _prepare(backends: Sequence[OpenAIBackend], notice: Notice) -> None:
    """Look at each server; of several, those that do not answer may do so later.

    Raises:
        EndpointError: none is there, one refuses, or they do not serve the same model.
    """
    there, absent = list[OpenAIBackend](), list[Unreachable]()
    for backend in backends:
        try:
            await backend.prepare()
            there.append(backend)
        except Unreachable as error:
            absent.append(error)
    if not there:
        raise absent[0]
    for one in absent:
        notice(f"{one} The others are asked; this one is tried again.")
    for backend in backends:
        if backend in there and backend.model != there[0].model:
            urls = f"{there[0].url} serves {there[0].model!r}, {backend.url} {backend.model!r}"
            raise EndpointError(f"{urls}: several addresses must serve the same model; name it with --model")
        backend.model = there[0].model


class OpenAIBackend:
    """One server and one model, asked one question at a time by as many tasks as like to.

    Args:
        server: where, and with which key.
        model: the model to ask; "" takes the only one that is served, once `prepare` has looked.
        timeout: seconds for one answer, from sending to its last byte.
        notice: is told once for each parameter that the model turns out not to take.
        tells_queue: whether the server tells its queue, as vLLM does.
    """

    def __init__(
        self, server: Server, *, model: str, timeout: float, notice: Notice, tells_queue: bool = False
    ) -> None:
        self.model = model
        self.url = server.url
        self.limits: Limits | None = None
        """See `Telling.limits`."""
        self._server = server
        self._parameters = Parameters(notice)
        self.tells_queue = tells_queue
        self._client = client_of(server)
        told = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._headers = told | {"Authorization": f"Bearer {self._client.api_key}"}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        near = is_local(server.url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_TIMEOUT),
            trust_env=not near,
        )

    async def prepare(self) -> None:
        """Look whether the server is there and has the model, and settle which one it is."""
        self.model = await resolve_model(self._get, self._server, self.model)

    async def complete(self, request: Request) -> Completion:
        """See `Backend.complete`."""
        while True:
            with suppress(Again):
                return await self.once(request)

    async def once(self, request: Request) -> Completion:
        """See `Repeating.once`."""
        path = "/completions" if request.prompt is not None else "/chat/completions"
        body = self._parameters.fitted(body_of(request, self.model))
        try:
            return completion_of(await self._post(path, body), self._server)
        except BadRequest as refusal:
            if not self._parameters.learn(refusal.said, body):
                raise
            raise Again(str(refusal)) from refusal
        except NotFound as missing:
            raise await not_found(self._get, self._server, body["model"], missing, path) from missing
        except Fault as fault:
            # The frames of a traceback hold what was read, which may be much, for as long as somebody waits.
            fault.__context__ = None
            raise fault.with_traceback(None) from None

    async def queue(self) -> Queue | None:
        """See `Telling.queue`; asked of vLLM alone, which tells it beside the API, under /metrics."""
        if not self.tells_queue:
            return None
        try:
            text = await self._get(f"{self.url.removesuffix('/v1')}/metrics")
        except (NotFound, Fault, EndpointError):
            return None
        counts = {"running": 0, "waiting": 0}
        for name, value in _RUNNING.findall(text):
            counts[name] += int(value)
        return Queue(**counts)

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._session.close()
        await self._client.close()

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps(body).encode()
        with boundary(self._server):
            async with self._session.post(
                self.url + path, data=content, headers=self._headers, allow_redirects=False
            ) as answer:
                said = await self._read(answer, LONGEST_BODY if "logprobs" in body else LONGEST_TEXT)
        self.limits = limits_of(answer.headers)
        return payload_of(answer.status, answer.headers, said, self._server)

    async def _read(self, answer: aiohttp.ClientResponse, most: int) -> bytes:
        """The body of an answer; the rest of a large one when its turn comes."""
        pieces = list[bytes]()
        if await self._fill(pieces, answer, min(LARGE, most)):
            return b"".join(pieces)
        async with self._large:
            if await self._fill(pieces, answer, most):
                return b"".join(pieces)
        raise Transient("endless_body", f"{self.url}: an answer of more than {most:,} bytes")

    async def _fill(self, pieces: list[bytes], answer: aiohttp.ClientResponse, most: int) -> bool:
        """Read on until there are more bytes than so many; whether the body ended before."""
        size = sum(map(len, pieces))
        while size <= most:
            if not (piece := await answer.content.readany()):
                return True
            pieces.append(piece)
            size += len(piece)
        return False

    async def _get(self, path: str) -> str:
        url = self.url + path if path.startswith("/") else path
        with boundary(self._server):
            async with (
                asyncio.timeout(PREFLIGHT_TIMEOUT),
                self._session.get(url, headers=self._headers, allow_redirects=False) as answer,
            ):
                said = await self._read(answer, LONGEST_LIST)
        if answer.status >= 300:
            raise error_of(read_error(answer.status, answer.headers, said, self._server), self._server)
        return self._server.text_of(said)
