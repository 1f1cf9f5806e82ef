"""A model server for tests: real HTTP on a loopback port, an OpenAI API, and any fault one asks for.

    with ModelServer() as server:
        server.then(status(500), text("2. Name a river."))      # the next two requests; then `answer` again
        ...                                                     # ask server.base_url
        assert [request.path for request in server.requests] == ["/v1/completions"] * 2

It runs on a thread with its own event loop, so that synchronous tests and subprocesses can ask it too.
`python -m tests.support.server --port 8000 --latency 0.05` serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

from aiohttp import web

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What is sent back, and how it goes wrong on the way."""

    text: str | None = None
    """The answer, when it is one; `payload` otherwise."""
    finish_reason: str | None = "stop"
    payload: Any = None
    """Sent as it is when bytes, else as JSON."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    how: Literal["whole", "truncated", "hang", "trickle", "dropped"] = "whole"
    delay: float = 0.0
    """Seconds before it is sent; for `trickle`, between two bytes."""


def text(answer: str | None, finish_reason: str | None = "stop", *, delay: float = 0.0) -> Reply:
    """A proper answer; None makes its content null."""
    return Reply(text=answer, finish_reason=finish_reason, delay=delay)


def error(status: int, message: str = "as the test says", **fields: Any) -> Reply:
    """An error in OpenAI's shape; `fields` are its `code`, `type`, `param`."""
    return Reply(payload={"error": {"message": message, **fields}}, status=status)


def status(code: int, body: Any = b"", **headers: str) -> Reply:
    """Any status with any body; `Retry_After="1"` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(payload=body, status=code, headers=named)


def rate_limited(after: float | str | None = None) -> Reply:
    """A 429, with Retry-After in seconds or as the text given."""
    return replace(
        error(429, "Rate limit reached", code="rate_limit_exceeded"),
        headers={} if after is None else {"Retry-After": str(after)},
    )


def html(code: int = 200) -> Reply:
    """A proxy's error page."""
    page = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"
    return Reply(payload=page, status=code, headers={"Content-Type": "text/html"})


def no_choices() -> Reply:
    return Reply(payload={"choices": []})


def error_object(message: str = "overloaded", **fields: Any) -> Reply:
    """A 200 that is an error."""
    return Reply(payload={"error": {"message": message, **fields}})


def truncated() -> Reply:
    """Half of an answer, then the connection is closed."""
    return Reply(text="half of this never arrives", how="truncated")


def hang() -> Reply:
    """No answer, ever."""
    return Reply(how="hang")


def trickle(pause: float = 0.05) -> Reply:
    """An answer sent byte by byte."""
    return Reply(text="slow", how="trickle", delay=pause)


def dropped() -> Reply:
    """The connection is closed without an answer."""
    return Reply(how="dropped")


class Received(NamedTuple):
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Body

    @property
    def prompt(self) -> str:
        """All that it says, as one text."""
        return self.body.get("prompt") or "\n".join(turn["content"] for turn in self.body.get("messages", ()))


def echo(body: Body) -> str:
    """Answers with the length of the question: something that depends on it."""
    return f"2. You said {len(json.dumps(body))} characters."


class Loopback:
    """A server on a thread with its own event loop, from `with` to the end of the block."""

    port: int = 0
    """0 takes one that is free."""

    def application(self) -> web.Application:
        """What answers."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._runner = web.AppRunner(
            self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.05
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]


@dataclass
class ModelServer(Loopback):
    """The server; every field may be changed while it runs."""

    answer: Callable[[Body], str | Reply] = echo
    models: Sequence[str] = ("test-model",)
    latency: float = 0.0
    """Seconds before any answer."""
    rate: float | None = None
    """Requests a second; those above are answered 429 with Retry-After 1."""
    key: str | None = None
    """The key that is taken; None takes any, and none."""
    lists: Reply | None = None
    """What is answered to the question for the models; None lists them."""
    missing: Sequence[str] = ()
    """Paths that are answered 404, such as `/v1/models`."""
    metrics: bytes | None = None
    """What /metrics says; None has none."""
    port: int = 0

    requests: list[Received] = field(default_factory=list, init=False)
    """What was asked, the lists of models left out."""
    refused: int = field(default=0, init=False)
    """Requests that `rate` turned away."""
    most_at_once: int = field(default=0, init=False)

    _next: deque[Reply] = field(default_factory=deque, init=False)
    _now: int = field(default=0, init=False)
    _sent: deque[float] = field(default_factory=deque, init=False)

    def then(self, *replies: Reply) -> Self:
        """These are the next answers, one for each request."""
        self._next.extend(replies)
        return self

    def always(self, reply: Reply) -> Self:
        """This is the answer to every request from now on."""
        self.answer = lambda body: reply
        return self

    @property
    def base_url(self) -> str:
        return f"{self.address}/v1"

    def application(self) -> web.Application:
        app = web.Application(client_max_size=256 * 2**20)
        self._add_routes(app.router)
        app.router.add_route("*", "/{path:.*}", self._nothing)
        return app

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/models", self._list)
        router.add_get("/health", self._health)
        router.add_get("/metrics", self._metrics)
        router.add_post("/v1/{kind:completions|chat/completions}", self._complete)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if problem := self._problem(request) or self.lists:
            return await _send(request, problem)
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return await self._nothing(request) if self.metrics is None else web.Response(body=self.metrics)

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(Received(request.path, dict(request.headers), body))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = self._problem(request) or self._limit() or self._reply(body)
            await asyncio.sleep(self.latency + (0 if reply.how == "trickle" else reply.delay))
            return await _send(request, _as_answer(reply, request.path, body))
        finally:
            self._now -= 1

    def _problem(self, request: web.Request) -> Reply | None:
        if request.path in self.missing:
            return status(404, {"detail": "Not Found"})
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return error(401, "Incorrect API key provided", code="invalid_api_key")
        return None

    def _limit(self) -> Reply | None:
        """A sliding window of one second."""
        if self.rate is None:
            return None
        now = time.monotonic()
        while self._sent and self._sent[0] <= now - 1:
            self._sent.popleft()
        if len(self._sent) >= self.rate:
            self.refused += 1
            return rate_limited(1)
        self._sent.append(now)
        return None

    def _reply(self, body: Body) -> Reply:
        if self._next:
            return self._next.popleft()
        if self.models and body.get("model") not in self.models:
            return error(404, f"The model `{body.get('model')}` does not exist.", code="model_not_found")
        reply = self.answer(body)
        return text(reply) if isinstance(reply, str) else reply


def _as_answer(reply: Reply, path: str, body: Body) -> Reply:
    """The reply with its payload: an answer put into the shape that the path has."""
    if reply.payload is not None or reply.how in ("hang", "dropped"):
        return reply
    said = {"message": {"role": "assistant", "content": reply.text}} if "chat" in path else {"text": reply.text}
    asked = len(Received(path, {}, body).prompt.split())
    told = len((reply.text or "").split())
    payload = {
        "id": "cmpl-1",
        "object": "chat.completion" if "chat" in path else "text_completion",
        "model": body.get("model"),
        "choices": [{"index": 0, "finish_reason": reply.finish_reason, **said}],
        "usage": {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told},
    }
    return replace(reply, payload=payload)


async def _send(request: web.Request, reply: Reply) -> web.StreamResponse:
    if reply.how == "hang":
        await asyncio.sleep(3600)
    if reply.how == "dropped":
        _hang_up(request)
        return web.Response()
    raw = isinstance(reply.payload, bytes)
    content = reply.payload if raw else json.dumps(reply.payload).encode()
    headers = {"Content-Type": "text/plain" if raw else "application/json"} | reply.headers
    if reply.how == "whole":
        return web.Response(body=content, status=reply.status, headers=headers)
    return await _send_badly(request, reply, content, headers)


async def _send_badly(
    request: web.Request, reply: Reply, content: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers | {"Content-Length": str(len(content))})
    await response.prepare(request)
    if reply.how == "truncated":
        await response.write(content[: len(content) // 2])
        _hang_up(request)
        return response
    for position in range(len(content)):
        await response.write(content[position : position + 1])
        await asyncio.sleep(reply.delay)
    return response


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve scripted answers until interrupted.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=None, metavar="PER_SECOND")
    options = parser.parse_args()
    with ModelServer(port=options.port, latency=options.latency, rate=options.rate) as server:
        print(server.base_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
