"""The OpenAI client against a real server on this machine, with everything that servers do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from selfinstruct.backends import Backend, open_backend
from selfinstruct.backends.openai.preflight import served_models
from selfinstruct.backends.openai.server import HOSTED, servers_of
from selfinstruct.backends.openai.wire import body_of
from selfinstruct.errors import EndpointError, RateLimited, Refused, Transient
from selfinstruct.inputs.config import BackendConfig, is_local
from selfinstruct.records import Completion, Request, Sampling, Turn
from tests.support import server as say
from tests.support.server import ModelServer, Reply

CHAT = (Turn(role="user", content="Name a river."),)


@asynccontextmanager
async def opened(server: ModelServer, **settings: Any) -> AsyncIterator[Backend]:
    notice = settings.pop("notice", print)
    config = BackendConfig(kind="openai", base_url=server.base_url, **settings)
    async with open_backend(config, notice=notice) as backend:
        yield backend


async def asked(server: ModelServer, request: Request | None = None, **settings: Any) -> Completion:
    async with opened(server, **settings) as backend:
        return await backend.complete(request or Request(model="", prompt="1. Name a river.\n2."))


async def refusal_to_open(**settings: Any) -> str:
    with pytest.raises(EndpointError) as caught:
        async with open_backend(BackendConfig(kind="openai", **settings), notice=print):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_completion_is_answered_with_its_text_and_its_tokens(server: ModelServer) -> None:
    server.then(say.text(" Spell a word.\n3. Sing.", "length"))
    assert await asked(server) == Completion(
        text=" Spell a word.\n3. Sing.",
        finish_reason="length",
        model="test-model",
        prompt_tokens=5,
        completion_tokens=5,
    )
    assert server.requests[0].path == "/v1/completions"


async def test_a_chat_is_answered_likewise(server: ModelServer) -> None:
    server.then(say.text("The Elbe."))
    assert (await asked(server, Request(model="", messages=CHAT))).text == "The Elbe."
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "Name a river."}]


def test_only_what_is_set_is_sent() -> None:
    assert body_of(Request(model="m", prompt="p"), "") == {"model": "m", "prompt": "p"}
    sampling = Sampling(max_tokens=9, temperature=0.0, stop=("\n\n",), extra={"top_k": 5})
    assert body_of(Request(model="m", prompt="p", sampling=sampling), "") == {
        "model": "m",
        "prompt": "p",
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ("\n\n",),
        "top_k": 5,
    }


async def test_a_schema_is_sent_as_a_response_format(server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"task": {"type": "string"}}}
    await asked(server, Request(model="", messages=CHAT, answer_schema=schema))
    sent = server.requests[0].body["response_format"]
    assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", schema)


async def test_cached_tokens_are_counted(server: ModelServer) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}}
    server.then(Reply(payload={"choices": [{"text": "x", "finish_reason": "stop"}], "usage": usage}))
    assert (await asked(server)).cached_tokens == 8


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Elbe"}], "Elbe"),
    ],
)
async def test_an_answer_without_plain_text_is_still_an_answer(server: ModelServer, content: Any, text: str) -> None:
    message = {"role": "assistant", "content": content, "reasoning_content": "not ours"}
    server.then(Reply(payload={"choices": [{"message": message, "finish_reason": "length"}], "usage": None}))
    answer = await asked(server, Request(model="", messages=CHAT))
    assert (answer.text, answer.finish_reason) == (text, "length")


TRANSIENT = {
    "server_error": say.status(500),
    "not_json": say.html(),
    "empty_choices": say.no_choices(),
    "no_content": say.text(None, None),
    "error_object": say.error_object(),
    "truncated_body": say.truncated(),
    "disconnected": say.dropped(),
    "timeout": say.hang(),
    "rate_limited": say.rate_limited(3),
}


@pytest.mark.parametrize("kind", TRANSIENT)
async def test_each_fault_of_a_server_has_its_name(server: ModelServer, kind: str) -> None:
    server.then(TRANSIENT[kind])
    with pytest.raises(Transient) as caught:
        await asked(server, timeout=0.3 if kind == "timeout" else 30)
    assert caught.value.kind == kind
    assert isinstance(caught.value, RateLimited) == (kind == "rate_limited")


async def test_a_body_cut_off_before_its_json_ends_is_told_with_what_came(server: ModelServer) -> None:
    server.then(say.status(200, b'{"choices": [{"te'))
    with pytest.raises(Transient) as caught:
        await asked(server)
    assert (caught.value.kind, caught.value.body) == ("not_json", '{"choices": [{"te')


async def test_an_answer_without_an_end_is_not_read_to_it(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfinstruct.backends.openai.live.LONGEST_TEXT", 10_000)
    server.then(say.status(200, b" " * 20_000))
    with pytest.raises(Transient, match="more than 10,000 bytes") as caught:
        await asked(server)
    assert caught.value.kind == "endless_body"


@pytest.mark.parametrize(
    ("content", "names"),
    [(b"5", []), (b'{"data": 5}', []), (b'{"data": null}', []), (b'[{"id": "m"}]', ["m"]),
     (b'{"data": [5, {"id": "m"}, {}]}', ["m"])],
)  # fmt: skip
async def test_of_a_list_of_models_in_another_shape_what_can_be_read_is_read(content: bytes, names: list[str]) -> None:
    async def get(path: str) -> str:
        return content.decode()

    assert await served_models(get) == names


async def test_an_answer_that_trickles_has_the_whole_time_and_no_more(server: ModelServer) -> None:
    server.then(say.trickle(0.001), say.trickle(0.1))
    async with opened(server, timeout=1.0) as backend:
        assert (await backend.complete(Request(model="", prompt="p"))).text == "slow"
        with pytest.raises(Transient, match="no answer in time"):
            await backend.complete(Request(model="", prompt="p"))


async def test_a_server_that_goes_away_is_a_transient_fault() -> None:
    async with AsyncExitStack() as stack:
        with ModelServer() as server:
            backend = await stack.enter_async_context(opened(server))
            await backend.complete(Request(model="", prompt="p"))
        kinds = [await fault_of(backend), await fault_of(backend)]
    assert kinds == ["disconnected", "connection_refused"]


async def fault_of(backend: Backend) -> str:
    with pytest.raises(Transient) as caught:
        await backend.complete(Request(model="", prompt="p"))
    return caught.value.kind


async def test_what_answers_without_speaking_http_is_a_transient_fault() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    babbler = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = babbler.sockets[0].getsockname()[1]
    message = await refusal_to_open(base_url=f"http://127.0.0.1:{port}/v1", model="m")
    assert "does not speak HTTP" in message
    babbler.close()


async def test_hundreds_of_requests_are_in_flight_at_once(server: ModelServer) -> None:
    server.latency = 0.5
    async with opened(server) as backend:
        await asyncio.gather(*(backend.complete(Request(model="", prompt="p")) for _ in range(300)))
    assert server.most_at_once > 250


async def test_a_parameter_that_the_model_does_not_take_is_renamed_for_good_and_told_once(
    server: ModelServer,
) -> None:
    def modern(body: dict[str, Any]) -> str | Reply:
        if "max_tokens" not in body:
            return "fine"
        message = "Unsupported parameter: 'max_tokens' is not supported with this model."
        return say.error(400, message, param="max_tokens", code="unsupported_parameter")

    server.answer = modern
    told: list[str] = []
    request = Request(model="", messages=CHAT, sampling=Sampling(max_tokens=7))
    async with opened(server, notice=told.append) as backend:
        answers = await asyncio.gather(*(backend.complete(request) for _ in range(5)), backend.complete(request))
        await backend.complete(request)
    assert {answer.text for answer in answers} == {"fine"}
    assert len(told) == 1
    assert "max_completion_tokens" in told[0]
    assert server.requests[-1].body["max_completion_tokens"] == 7


UNSUPPORTED = {
    "temperature": "Unsupported value: 'temperature' does not support 0.7 with this model.",
    "presence_penalty": "Model grok-4 does not support parameter presencePenalty.",
    "frequency_penalty": 'Invalid JSON payload received. Unknown name "frequency_penalty": Cannot find field.',
    "stop": "Unsupported parameter: 'stop' is not supported with this model.",
    "top_k": "Unrecognized request argument supplied: top_k",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_a_parameter_that_can_be_done_without_is_dropped(server: ModelServer, name: str) -> None:
    server.answer = lambda body: say.error(400, UNSUPPORTED[name]) if name in body else "fine"
    told: list[str] = []
    sampling = Sampling(
        temperature=0.7, presence_penalty=2, frequency_penalty=1, stop=("x",), extra={"top_k": 4}, max_tokens=5
    )
    answer = await asked(server, Request(model="", prompt="p", sampling=sampling), notice=told.append)
    assert answer.text == "fine"
    assert server.requests[0].body.keys() - server.requests[1].body.keys() == {name}
    assert [name in line for line in told] == [True]


async def test_a_value_that_is_out_of_range_is_refused_and_not_dropped(server: ModelServer) -> None:
    server.then(say.error(400, "temperature must be between 0 and 2", param="temperature"))
    with pytest.raises(Refused, match="between 0 and 2"):
        await asked(server, Request(model="", prompt="p", sampling=Sampling(temperature=9)))
    assert len(server.requests) == 1


async def test_the_only_model_is_taken_when_none_is_named(server: ModelServer) -> None:
    async with opened(server) as backend:
        assert backend.model == "test-model"


async def test_several_models_and_none_named_are_listed(server: ModelServer) -> None:
    server.models = ("b", "a")
    assert "serves a, b: choose one with --model" in await refusal_to_open(base_url=server.base_url)


async def test_an_unknown_model_lists_the_served_nearest_first(server: ModelServer) -> None:
    server.models = ("zephyr", *(f"other-{number}" for number in range(9)), "qwen3-8b")
    message = await refusal_to_open(base_url=server.base_url, model="Qwen3-8B-Instruct")
    assert "no model 'Qwen3-8B-Instruct'; it serves qwen3-8b, " in message
    assert message.endswith("and 3 more")


async def test_a_model_that_is_gone_while_we_ask_lists_the_served(server: ModelServer) -> None:
    async with opened(server) as backend:
        server.models = ("another",)
        with pytest.raises(EndpointError, match="no model 'test-model'; it serves another"):
            await backend.complete(Request(model="", prompt="p"))


async def test_a_tag_that_ollama_leaves_out_is_found(server: ModelServer) -> None:
    server.models = ("llama3:latest",)
    async with opened(server, model="llama3") as backend:
        assert backend.model == "llama3"


async def test_a_server_without_a_list_of_models_is_let_through(server: ModelServer) -> None:
    server.missing = ("/v1/models",)
    assert (await asked(server, model="test-model")).text
    assert "name one with --model" in await refusal_to_open(base_url=server.base_url)


async def test_an_address_without_v1_is_told_where_the_api_is(server: ModelServer) -> None:
    message = await refusal_to_open(base_url=server.address, model="test-model")
    assert f"there is one at {server.base_url}: set base_url to that" in message


async def test_a_server_without_completions_is_to_be_asked_by_chat(server: ModelServer) -> None:
    server.missing = ("/v1/completions",)
    with pytest.raises(EndpointError, match='no /completions: set dialect = "chat"'):
        await asked(server)


async def test_nothing_at_the_address_asks_whether_the_server_runs() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    message = await refusal_to_open(base_url=url, model="m")
    assert message.startswith(f"nothing answers at {url}: ")
    assert message.endswith("is the server running?")


async def test_the_key_comes_from_the_variable_that_the_settings_name(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "sk-right"
    monkeypatch.setenv("MY_KEY", "sk-right\n")
    assert (await asked(server, api_key_env="MY_KEY")).text
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    message = await refusal_to_open(base_url=server.base_url, api_key_env="MY_KEY")
    assert "the key in MY_KEY was refused" in message
    assert "sk-wrong" not in message
    monkeypatch.delenv("MY_KEY")
    assert "set MY_KEY" in await refusal_to_open(base_url=server.base_url, api_key_env="MY_KEY")


async def test_the_hosted_api_without_a_key_is_not_even_asked() -> None:
    assert "set OPENAI_API_KEY" in await refusal_to_open(model="gpt-9")


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    assert servers_of(BackendConfig(kind="openai"))[0].url == HOSTED
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there/v1/")
    assert servers_of(BackendConfig(kind="openai"))[0].url == "http://there/v1"
    assert servers_of(BackendConfig(kind="openai", base_url="http://here/v1"))[0].url == "http://here/v1"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "here", "ftp://here/v1", "http://"])
async def test_an_address_that_is_none_says_how_to_write_it(url: str) -> None:
    assert "write it as http://localhost:8000/v1" in await refusal_to_open(base_url=url, model="m")


async def test_a_key_with_a_stray_character_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-“quoted”")
    assert "copy it again" in await refusal_to_open(base_url="http://127.0.0.1:1/v1", model="m")


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.1.20/v1", True),
        ("http://box.local/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://8.8.8.8/v1", False),
    ],
)
def test_what_is_near_by_needs_no_proxy(url: str, local: bool) -> None:
    assert is_local(url) == local


async def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await asked(server)).text


async def test_a_proxy_of_the_environment_stands_before_the_world(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    config = BackendConfig(kind="openai", base_url="http://models.example/v1", model="test-model")
    async with open_backend(config, notice=print) as backend:
        assert (await backend.complete(Request(model="", prompt="p"))).text
    assert server.requests[0].headers["Host"] == "models.example"
