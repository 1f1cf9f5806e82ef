"""What a server may make us do, which is little: where we go, how long we wait, what we believe."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.openai import live
from selfinstruct.errors import EndpointError, SelfInstructError
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Request, Turn
from tests.support import server as say
from tests.support.batch_server import BatchServer
from tests.support.server import Loopback, ModelServer

PLAIN = Request(model="m", prompt="a prompt that nobody else may see")
CHAT = Request(model="m", messages=(Turn(role="user", content="nor this"),))
KEY = "sk-nobody-elses"


class Elsewhere(Loopback):
    """A server that notes whatever arrives, and answers it well."""

    port = 0

    def __init__(self) -> None:
        self.met: list[str] = []

    def application(self) -> web.Application:
        async def note(request: web.Request) -> web.Response:
            self.met.append(f"{request.method} {request.path_qs}")
            return web.json_response({"choices": [{"text": "stolen", "finish_reason": "stop"}], "data": [{"id": "m"}]})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", note)
        return app


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as running:
        yield running


@asynccontextmanager
async def opened(server: ModelServer, **settings: Any) -> AsyncIterator[Backend]:
    config = BackendConfig(kind="openai", base_url=server.base_url, **{"model": "m", **settings})
    async with open_backend(config, notice=lambda line: None) as backend:
        yield backend


async def refusal_of(server: ModelServer, request: Request = PLAIN, **settings: Any) -> str:
    """Why the first question, or the look before it, stops a run; one line."""
    with pytest.raises(EndpointError) as caught:
        async with opened(server, **settings) as backend:
            await backend.complete(request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- where we go ------------------------------------------------------------------------------------------------------

PLACES = {
    "another port": "{elsewhere}/v1{path}",
    "no scheme": "//{host}/v1{path}",
    "a user in front": "http://sk-x:secret@{host}/v1{path}?key=secret#secret",
    "the same address": "{here}/v1{path}",
    "a slash more": "{path}/",
    "another scheme": "https://{host}/v1{path}",
    "no web at all": "file:///etc/passwd",
    "an address that is none": "http://[::1/",
    "nowhere": "",
    "a line break": "/a%0d%0ab",
}


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
@pytest.mark.parametrize("request_", [PLAIN, CHAT], ids=["completion", "chat"])
async def test_no_redirect_of_a_question_is_followed(
    server: ModelServer, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, status: int, request_: Request
) -> None:
    """Prompts and keys go to the address that was named, and to no other."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.models = ("m",)
    path = "/chat/completions" if request_.messages else "/completions"
    server.always(say.status(status, Location=f"{elsewhere.address}/v1{path}"))
    message = await refusal_of(server, request_)
    assert f"redirects to {elsewhere.address}/v1 ({status})" in message
    assert "--base-url" in message
    assert (elsewhere.met, len(server.requests)) == ([], 1)


@pytest.mark.parametrize("place", PLACES)
async def test_wherever_a_redirect_points_one_line_says_so(
    server: ModelServer, elsewhere: Elsewhere, place: str
) -> None:
    """And no secret that stands in it."""
    server.models = ("m",)
    host = elsewhere.address.removeprefix("http://")
    to = PLACES[place].format(elsewhere=elsewhere.address, host=host, here=server.address, path="/completions")
    server.always(say.status(307, Location=to))
    message = await refusal_of(server)
    assert "redirects to " in message
    assert "secret" not in message
    assert (elsewhere.met, len(server.requests)) == ([], 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_nor_is_that_of_a_list_of_models(server: ModelServer, elsewhere: Elsewhere, status: int) -> None:
    """What is asked before anything is paid for carries the key too."""
    server.lists = say.status(status, Location=f"{elsewhere.address}/v1/models")
    message = await refusal_of(server)
    assert f"redirects to {elsewhere.address}/v1 ({status})" in message
    assert elsewhere.met == []


@pytest.mark.parametrize("call", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/{id}"])
async def test_nor_is_that_of_a_batch(elsewhere: Elsewhere, tmp_path: Path, call: str) -> None:
    """Its files are prompts."""
    with BatchServer(models=("m",)) as server:
        server.meet(call, *[say.status(307, Location=f"{elsewhere.address}/v1/files")] * 9)
        config = BackendConfig(kind="openai", base_url=server.base_url, model="m", batch=True)
        with pytest.raises(EndpointError, match="redirects to"):
            async with open_backend(config, folder=tmp_path, notice=lambda line: None) as backend:
                await backend.complete(PLAIN)
    assert elsewhere.met == []


# -- what is said -----------------------------------------------------------------------------------------------------

WORDS = {
    "a model that is listed and not there": (
        say.error(404, "The model `m` does not exist", code="model_not_found"), "lists 'm' and says that there is none"
    ),
    "a country": (say.error(403, "Country not supported", code="unsupported_country"), "will not answer us"),
    "a firewall's page": (say.html(403), "will not answer us"),
    "a proxy that wants a password": (say.html(407), "a proxy on the way wants a password"),
    "a key": (say.error(401, "no"), "the key in OPENAI_API_KEY was refused"),
    "a key, by 403": (say.error(403, "Invalid API key"), "the key in OPENAI_API_KEY was refused"),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
async def test_what_stops_a_run_is_called_what_it_is(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """A person acts on the line."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    reply, words = WORDS[case]
    server.models = ("m",)
    server.always(reply)
    assert words in await refusal_of(server)


@pytest.mark.parametrize("status", [400, 422, 429, 500, 503])
async def test_a_list_that_cannot_be_read_is_called_so(server: ModelServer, status: int) -> None:
    """And with a name, the run goes on without it."""
    server.models, server.lists = ("m",), say.error(status, "not now")
    message = await refusal_of(server, model="")
    assert "not now: its list of models cannot be read" in message.replace(f"{status}: ", "")
    async with opened(server) as backend:
        assert (await backend.complete(PLAIN)).text


async def test_an_answer_that_cannot_be_decompressed_is_called_so(server: ModelServer) -> None:
    """It did not break off."""
    server.models = ("m",)
    server.then(say.status(200, b"not zipped at all", Content_Encoding="gzip"))
    async with opened(server) as backend:
        with pytest.raises(SelfInstructError, match="cannot be decompressed"):
            await backend.complete(PLAIN)


async def test_json_without_a_message_is_not_called_no_json(server: ModelServer) -> None:
    """It is shown as it is."""
    server.models = ("m",)
    server.then(say.status(500, {"why": "tired"}))
    async with opened(server) as backend:
        with pytest.raises(SelfInstructError, match=r"JSON without a message: \{\"why\": \"tired\"\}"):
            await backend.complete(PLAIN)


# -- how much is read -------------------------------------------------------------------------------------------------


class Endless(Loopback):
    """A server whose every answer has no end, or hardly one.

    Args:
        how: `plain`, `gzip` (a bomb), or `list` (the list of models alone).
        size: bytes of an answer, as we would have to keep it.
    """

    port = 0

    def __init__(self, how: str, size: int) -> None:
        self.how, self.size = how, size

    @property
    def base_url(self) -> str:
        return f"{self.address}/v1"

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pour)
        return app

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and self.how != "list":
            return web.json_response({"data": [{"id": "m"}]})
        zipped = self.how == "gzip"
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"} if zipped else {})
        await response.prepare(request)
        piece, zipper = b" " * 100_000, zlib.compressobj(wbits=31)
        with contextlib.suppress(ConnectionError):
            for _ in range(self.size // len(piece)):
                await response.write(zipper.compress(piece) if zipped else piece)
        return response


@pytest.mark.parametrize("how", ["plain", "gzip", "list"])
async def test_an_answer_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Whatever it is an answer to, and however it is packed."""
    for name in ("LONGEST_TEXT", "LONGEST_LIST"):
        monkeypatch.setattr(live, name, 1_000_000)
    with Endless(how, 400_000_000) as server:
        config = BackendConfig(kind="openai", base_url=server.base_url, model="m")
        with pytest.raises(SelfInstructError, match="an answer of more than 1,000,000 bytes"):
            async with open_backend(config, notice=lambda line: None) as backend:
                await backend.complete(PLAIN)


async def test_what_is_held_does_not_grow_with_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many large answers at once, few are read to their end."""
    monkeypatch.setattr(live, "LONGEST_TEXT", 4_000_000)
    with Endless("gzip", 40_000_000) as server:
        config = BackendConfig(kind="openai", base_url=server.base_url, model="m")
        async with open_backend(config, notice=lambda line: None) as backend:
            tracemalloc.start()
            answers = await asyncio.gather(*(backend.complete(PLAIN) for _ in range(40)), return_exceptions=True)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert {getattr(answer, "kind", "") for answer in answers} == {"endless_body"}
    assert most < 40 * 1_000_000


async def test_a_long_list_of_long_names_is_shown_in_short(server: ModelServer) -> None:
    """And looked through in no time."""
    server.models = [f"{number}-{'x' * 1_000}" for number in range(4_000)]
    message = await refusal_of(server, model="m")
    assert len(message) < 3_000
