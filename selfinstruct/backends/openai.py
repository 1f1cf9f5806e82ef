"""Any OpenAI-compatible server, hosted or local: completions and chat, asked through the `openai` client.

The client is used for its connections, headers and keys; request bodies are encoded and answers read here, because
its typed models cost more than all the rest of a request (figures: `bench/client.py`). Retries are not made here
either (`retry.ask`), so its own are off.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from selfinstruct.backends.address import is_local
from selfinstruct.backends.base import Backend, Notice
from selfinstruct.backends.boundary import BadRequest, NotFound, Server, boundary, payload_of
from selfinstruct.backends.parameters import Parameters
from selfinstruct.backends.preflight import not_found, resolve_model
from selfinstruct.config import BackendConfig
from selfinstruct.errors import EndpointError, Transient
from selfinstruct.records import Completion, Request

HOSTED = "https://api.openai.com/v1"
PREFLIGHT_TIMEOUT = 30.0
"""Seconds that a server may take to list its models."""

# aiohttp takes 0 for no limit; how many requests are in flight is the engine's to say. Connections are dropped before
# uvicorn, which vLLM runs on, closes idle ones at 5 seconds: a request sent into a closing connection is lost.
_LIMITS = httpx2.Limits(max_connections=0, keepalive_expiry=4.0)
_CONNECT_TIMEOUT = 30.0
_NO_PROXY = {"http://": None, "https://": None}
_JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def open_openai(
    config: BackendConfig,
    *,
    folder: Path | None = None,
    notice: Notice,
) -> AsyncIterator[Backend]:
    """A backend on a server that is running, after a look at its models.

    Raises:
        EndpointError: no key, nothing there, or not the model.
    """
    backend = OpenAIBackend(server_of(config), model=config.model, timeout=config.timeout, notice=notice)
    try:
        await backend.prepare()
        if config.batch:
            from selfinstruct.backends.batch_api import open_batches

            async with open_batches(config, backend.model, folder=folder, notice=notice) as batches:
                yield batches
        else:
            yield backend
    finally:
        await backend.aclose()


def at(url: str, config: BackendConfig, model: str) -> BackendConfig:
    """The settings for asking a server that we started ourselves: there, for this model, and without a key."""
    return config.model_copy(update={"kind": "openai", "base_url": url, "model": model, "api_key_env": ""})


def server_of(config: BackendConfig) -> Server:
    """Where the server is and which key it gets.

    Raises:
        EndpointError: the address is none, or OpenAI's own API is meant and there is no key.
    """
    url = (config.base_url or os.environ.get("OPENAI_BASE_URL") or HOSTED).rstrip("/")
    key = os.environ.get(config.api_key_env, "").strip()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise EndpointError(f"base_url {url!r} is no address: write it as http://localhost:8000/v1")
    if url == HOSTED and not key:
        raise EndpointError(f"{url}: wants a key: set {config.api_key_env}, or base_url for a server of your own")
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"the key in {config.api_key_env} has characters that no key has: copy it again")
    return Server(url, config.api_key_env, key)


class OpenAIBackend:
    """One server and one model, asked one question at a time by as many tasks as like to.

    Args:
        server: where, and with which key.
        model: the model to ask; "" takes the only one that is served, once `prepare` has looked.
        timeout: seconds for one answer, from sending to its last byte.
        notice: is told once for each parameter that the model turns out not to take.
    """

    def __init__(self, server: Server, *, model: str, timeout: float, notice: Notice) -> None:
        self.model = model
        self._server = server
        self._timeout = timeout
        self._parameters = Parameters(notice)
        self._client = client_of(server)

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

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._client.close()

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps(body).encode()
        with boundary(self._server):
            async with asyncio.timeout(self._timeout):
                answer = await self._client.post(
                    path, content=content, cast_to=httpx2.Response, options={"headers": _JSON}
                )
        return payload_of(answer.status_code, answer.headers, answer.content, self._server)

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
    usage = payload.get("usage") or {}
    return Completion(
        text=_sound(content or ""),
        finish_reason=str(reason or "stop"),
        model=str(payload.get("model") or ""),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details") or {}, "cached_tokens"),
    )


def client_of(server: Server) -> AsyncOpenAI:
    """The client: no retries and no limit of its own, past the environment's proxies for a server near by."""
    return AsyncOpenAI(
        base_url=server.url,
        api_key=server.key or "none",
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=_CONNECT_TIMEOUT),
        http_client=DefaultAioHttpClient(limits=_LIMITS, mounts=_NO_PROXY if is_local(server.url) else None),
    )


def _content(choice: Mapping[str, Any]) -> str | None:
    """The text of a choice, of a completion or a chat; parts that are not text, such as thoughts, are left out."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("type") == "text")
    return content if content is None else str(content)


def _sound(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair, which JSON can carry, becomes a replacement mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


def _hollow(kind: str, what: str, payload: Mapping[str, Any], server: Server) -> Transient:
    return Transient(kind, f"{server.url}: {what}", status=200, body=server.clean(json.dumps(payload))[:2_000])
