"""Any OpenAI-compatible server, hosted or local: completions and chat.

The `openai` client knows addresses, keys and headers, and asks what is asked once. The one call that is made a million
times is posted past it, on an aiohttp session with the client's headers: bodies are encoded and answers read here, for
what the client does around a request costs more than all the rest of it (figures: `bench/client.py`). Retries are not
made here either (`retry.ask`), so its own are off.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from selfinstruct.backends.base import Backend, Limits, Notice, Queue, Several
from selfinstruct.backends.boundary import BadRequest, NotFound, Server, boundary, object_of, payload_of
from selfinstruct.backends.pace import limits_of
from selfinstruct.backends.parameters import Parameters
from selfinstruct.backends.preflight import not_found, resolve_model
from selfinstruct.errors import EndpointError, Fault, Transient, Unreachable
from selfinstruct.inputs.config import BackendConfig, is_local
from selfinstruct.records import Completion, Request

HOSTED = "https://api.openai.com/v1"
PREFLIGHT_TIMEOUT = 30.0
"""Seconds that a server may take to list its models."""
LONGEST_BODY = 64_000_000
"""Bytes after which an answer is taken for one without an end."""
MOST_TOKENS = 2**40
"""Tokens above which a server's count is none."""

# How many requests are in flight is the fleet's to say. Connections are dropped before uvicorn, which vLLM runs on,
# closes idle ones at 5 seconds: a request sent into a closing connection is lost.
_IDLE = 4.0
_CONNECT_TIMEOUT = 30.0
_NO_PROXY = {"http://": None, "https://": None}
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
        if config.batch:
            from selfinstruct.backends.batch_api import open_batches

            async with open_batches(config, backends[0].model, folder=folder, notice=notice) as batches:
                yield batches
        else:
            yield backends[0] if len(backends) == 1 else Several(backends)
    finally:
        for backend in backends:
            await backend.aclose()


def at(urls: tuple[str, ...], config: BackendConfig, model: str) -> BackendConfig:
    """The settings for asking servers that we started ourselves: there, for this model, and without a key."""
    return config.model_copy(update={"base_url": urls, "model": model, "api_key_env": ""})


def servers_of(config: BackendConfig) -> list[Server]:
    """Where the servers are and which key they get.

    Raises:
        EndpointError: an address is none, or OpenAI's own API is meant and there is no key.
    """
    key = os.environ.get(config.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"the key in {config.api_key_env} has characters that no key has: copy it again")
    urls = config.urls or (os.environ.get("OPENAI_BASE_URL") or HOSTED,)
    return [_server(url.rstrip("/"), config.api_key_env, key) for url in dict.fromkeys(urls)]


def _server(url: str, key_env: str, key: str) -> Server:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise EndpointError(f"base_url {url!r} is no address: write it as http://localhost:8000/v1")
    if url == HOSTED and not key:
        raise EndpointError(f"{url}: wants a key: set {key_env}, or base_url for a server of your own")
    return Server(url, key_env, key)


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
        path = "/completions" if request.prompt is not None else "/chat/completions"
        plain = body_of(request, self.model)
        while True:
            body = self._parameters.fitted(plain)
            try:
                return completion_of(await self._post(path, body), self._server)
            except BadRequest as refusal:
                if not self._parameters.learn(refusal.said, body):
                    raise
            except NotFound as missing:
                raise await not_found(self._get, self._server, body["model"], missing, path) from missing

    async def queue(self) -> Queue | None:
        """See `Telling.queue`; asked of vLLM alone, which tells it beside the API, under /metrics."""
        if not self.tells_queue:
            return None
        try:
            text = (await self._get(f"{self.url.removesuffix('/v1')}/metrics")).decode(errors="replace")
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
            async with self._session.post(self.url + path, data=content, headers=self._headers) as answer:
                said = await self._read(answer)
        self.limits = limits_of(answer.headers)
        return payload_of(answer.status, answer.headers, said, self._server)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        pieces, size = list[bytes](), 0
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > LONGEST_BODY:
                raise Transient("endless_body", f"{self.url}: an answer of more than {LONGEST_BODY:,} bytes")
        return b"".join(pieces)

    async def _get(self, path: str) -> bytes:
        with boundary(self._server):
            async with asyncio.timeout(PREFLIGHT_TIMEOUT):
                answer = await self._client.get(path, cast_to=httpx2.Response)
        return answer.content


def body_of(request: Request, model: str) -> dict[str, Any]:
    """The request as JSON; what is not set is not sent, so that the server's own default holds."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": request.model or model}
    if request.prompt is not None:
        body["prompt"] = request.prompt
    else:
        body["messages"] = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    for name in ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = sampling.stop
    if request.answer_schema is not None:
        schema = {"name": "answer", "schema": request.answer_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body | sampling.extra


def completion_of(payload: Mapping[str, Any], server: Server) -> Completion:
    """The answer in a response; one without text, but with a reason to have finished, is an empty answer.

    Raises:
        Transient: there is no choice in it, or neither text nor a reason.
    """
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _hollow("empty_choices", "an answer without choices", payload, server)
    choice = choices[0]
    content, reason = _content(choice), choice.get("finish_reason")
    if content is None and not reason:
        raise _hollow("no_content", "an answer without text", payload, server)
    usage = object_of(payload.get("usage"))
    return Completion(
        text=content or "",
        finish_reason=str(reason or "stop"),
        model=str(payload.get("model") or ""),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(object_of(usage.get("prompt_tokens_details")), "cached_tokens"),
    )


def client_of(server: Server) -> AsyncOpenAI:
    """A client for what is asked once: no retries of its own, past the environment's proxies for a server near by."""
    return AsyncOpenAI(
        base_url=server.url,
        api_key=server.key or "none",
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=_CONNECT_TIMEOUT),
        http_client=DefaultAioHttpClient(mounts=_NO_PROXY if is_local(server.url) else None),
    )


def _content(choice: Mapping[str, Any]) -> str | None:
    """The text of a choice, of a completion or a chat; parts that are not text, such as thoughts, are left out."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        parts = [object_of(part) for part in content]
        return "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
    return content if content is None else str(content)


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0


def _hollow(kind: str, what: str, payload: Mapping[str, Any], server: Server) -> Transient:
    return Transient(kind, f"{server.url}: {what}", status=200, body=server.clean(json.dumps(payload))[:2_000])
