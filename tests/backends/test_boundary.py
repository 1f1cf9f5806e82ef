"""What servers say, and what it means: wordings as the servers in use send them."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfinstruct.backends.openai.boundary import BODY_KEPT, NotFound, boundary, error_of, payload_of, read_error
from selfinstruct.backends.openai.headers import retry_after
from selfinstruct.backends.openai.server import Server
from selfinstruct.backends.openai.wire import MOST_TOKENS, completion_of
from selfinstruct.errors import EndpointError, RateLimited, Refused, SelfInstructError, Transient
from selfinstruct.records import Completion

HERE = Server("http://host/v1", "MY_KEY", "sk-secret")
KEYLESS = Server("http://host/v1", "MY_KEY")


def sorted_out(status: int, body: Any, server: Server = HERE, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_of(read_error(status, named, content, server), server)


def openai(message: str, code: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **fields}}


TOO_LONG = {
    "openai": (400, openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded")),
    "vllm": (400, openai("This model's maximum context length is 4096 tokens. However, you requested 9000 tokens")),
    "llama.cpp": (
        400,
        {"error": {"code": 400, "message": "request (1001 tokens) exceeds the available context size (512 tokens)",
                   "type": "exceed_context_size_error"}},
    ),
    "sglang": (400, {"object": "error", "message": "The input (9 tokens) is longer than the model's context length"}),
    "tgi": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
    "anthropic": (400, {"type": "error", "error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
    "gemini": (400, [{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number"}}]),
    "groq": (413, openai("Request too large for model")),
    "openai, over its tokens per minute": (429, openai("Request too large for gpt-4o on tokens per min (TPM)")),
    "a proxy": (413, b"<html>Payload Too Large</html>"),
}  # fmt: skip

NO_QUOTA = {
    "openai": (429, openai("You exceeded your current quota", "insufficient_quota")),
    "openai, at its limit": (400, openai("Billing hard limit has been reached", "billing_hard_limit_reached")),
    "deepseek": (402, openai("Insufficient Balance")),
    "openrouter, in a 200": (200, {"error": {"code": 402, "message": "Insufficient credits"}}),
    "anthropic": (400, {"error": {"message": "Your credit balance is too low to access the API"}}),
}

FILTERED = {
    "azure": (400, openai("The response was filtered due to Azure's content management policy", "content_filter")),
    "openai": (400, openai("Rejected by the safety system", "content_policy_violation")),
    "openrouter": (403, {"error": {"code": 403, "message": "It requires moderation and your input was flagged"}}),
}

NO_MODEL = {
    "openai": (404, openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found")),
    "vllm": (404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}}),
    "ollama": (404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}}),
    "deepseek": (400, openai("Model Not Exist")),
    "openrouter": (400, {"error": {"message": "x is not a valid model ID", "code": 400}}),
    "mistral": (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}),
}

TRANSIENT = {
    "a timeout": (408, b"", "timeout"),
    "a conflict": (409, b"", "conflict"),
    "a crash": (500, openai("The server had an error"), "server_error"),
    "a gateway's page": (502, b"<html>Bad gateway</html>", "server_error"),
    "llama.cpp, loading": (503, {"error": {"code": 503, "message": "Loading model"}}, "server_error"),
    "anthropic, overloaded": (529, {"error": {"message": "Overloaded"}}, "server_error"),
    "an error in a 200": (200, {"error": {"message": "overloaded"}}, "error_object"),
    "a gateway's 503 in a 200": (200, {"error": {"code": 503, "message": "No provider"}}, "server_error"),
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_prompt_that_is_too_long_is_refused_as_such(case: str) -> None:
    error = sorted_out(*TOO_LONG[case])
    assert isinstance(error, Refused)
    assert error.kind == "prompt_too_long"


@pytest.mark.parametrize("case", NO_QUOTA)
def test_an_empty_account_stops_the_run(case: str) -> None:
    error = sorted_out(*NO_QUOTA[case])
    assert isinstance(error, EndpointError)
    assert "quota" in str(error)


@pytest.mark.parametrize("case", FILTERED)
def test_a_content_filter_refuses_the_request_and_not_the_run(case: str) -> None:
    error = sorted_out(*FILTERED[case])
    assert isinstance(error, Refused)
    assert error.kind == "content_filter"


@pytest.mark.parametrize("case", NO_MODEL)
def test_an_unknown_model_is_told_from_a_wrong_path(case: str) -> None:
    error = sorted_out(*NO_MODEL[case])
    assert isinstance(error, NotFound)
    assert error.names_model


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, b"404 page not found", b"<html></html>"])
def test_a_404_that_names_no_model_is_a_wrong_path(body: Any) -> None:
    error = sorted_out(404, body)
    assert isinstance(error, NotFound)
    assert not error.names_model


@pytest.mark.parametrize("case", TRANSIENT)
def test_what_may_pass_is_worth_another_attempt(case: str) -> None:
    status, body, kind = TRANSIENT[case]
    error = sorted_out(status, body)
    assert type(error) is Transient
    assert error.kind == kind


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable_and_a_missing_one_asked_for(status: int) -> None:
    assert "the key in MY_KEY was refused" in str(sorted_out(status, openai("Incorrect API key")))
    assert "set MY_KEY" in str(sorted_out(status, openai("Incorrect API key"), KEYLESS))


def test_a_key_that_the_server_repeats_is_not_passed_on() -> None:
    error = sorted_out(500, openai("bad key sk-secret"))
    assert "sk-secret" not in str(error) + error.body
    assert "sk-secret" not in repr(HERE)


def test_too_many_requests_is_a_rate_limit_with_the_pause_it_asks_for() -> None:
    error = sorted_out(429, openai("Rate limit reached"), retry_after="7")
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7.0


def test_a_503_that_names_a_pause_is_a_rate_limit() -> None:
    assert isinstance(sorted_out(503, b"", retry_after="2"), RateLimited)


def test_a_pause_of_hours_stops_the_run_instead_of_sleeping_through_it() -> None:
    error = sorted_out(429, openai("Daily limit"), retry_after="36000")
    assert isinstance(error, EndpointError)
    assert "600 minutes" in str(error)


@pytest.mark.parametrize(
    ("message", "dialect"),
    [
        ("This is a chat model and not supported in the v1/completions endpoint.", '"chat"'),
        ("This is not a chat model and thus not supported in the v1/chat/completions endpoint.", '"completion"'),
        ("default chat template is no longer allowed, so you must provide a chat template", '"completion"'),
    ],
)
def test_a_model_asked_in_the_wrong_dialect_says_which_to_set(message: str, dialect: str) -> None:
    error = sorted_out(404, openai(message))
    assert isinstance(error, EndpointError)
    assert f"set dialect = {dialect}" in str(error)


def test_any_other_400_is_refused_with_what_the_server_said() -> None:
    error = sorted_out(400, {"detail": [{"loc": ["body", "temperature"], "msg": "Input should be a number"}]})
    assert isinstance(error, Refused)
    assert (error.kind, str(error)) == ("bad_request", "Input should be a number (body.temperature)")


def test_a_fault_keeps_the_start_of_a_long_body() -> None:
    assert len(sorted_out(500, b"x" * 100_000).body) == BODY_KEPT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("-1", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text, "date": "Wed, 21 Oct 2015 07:28:00 GMT"}) == seconds


def test_a_date_to_wait_for_goes_by_our_clock_where_the_server_does_not_tell_its_own() -> None:
    wait = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert wait is not None
    assert 50 < wait <= 60


NAMES = ("choices", "message", "content", "text", "type", "finish_reason", "usage", "prompt_tokens", "model", "error",
         "prompt_tokens_details", "cached_tokens", "completion_tokens", "detail", "code", "loc", "msg", "reasoning",
         "thinking", "tool_calls", "function", "name", "arguments", "logprob", "tokens", "top_logprobs")  # fmt: skip


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON at all, of the names that answers are made of."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("text")
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
        max_leaves=20,
    )


def either_way(status: int, content: bytes) -> None:
    """Read an answer as the client does: it is an answer that can be counted, or one of our errors."""
    try:
        answer = completion_of(payload_of(status, {}, content, HERE), HERE)
    except SelfInstructError:
        return
    assert Completion(**json.loads(answer.model_dump_json())) == answer
    for tokens in (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, answer.reasoning_tokens):
        assert 0 <= tokens <= MOST_TOKENS


@given(payload=json_values(), status=st.sampled_from([200, 302, 400, 422, 429, 500]))
@example(payload={"detail": [{"loc": 5}]}, status=422)
def test_whatever_json_a_server_answers_with_is_an_answer_or_a_fault(payload: Any, status: int) -> None:
    either_way(status, json.dumps(payload).encode())


@given(
    place=st.sampled_from([
        "usage", "model", "choice", "message", "content", "reason", "tokens", "reasoning", "calls", "call", "function",
        "arguments", "logprobs", "logprob",
    ]),
    value=json_values(),
)  # fmt: skip
@example(place="logprob", value=10**400)
@example(place="content", value=[{"type": "text"}])
@example(place="tokens", value=-5)
def test_a_good_answer_with_anything_in_any_of_its_places_is_an_answer_or_a_fault(place: str, value: Any) -> None:
    put = {place: value}
    function = put.get("function", {"name": "look", "arguments": put.get("arguments", "{}")})
    calls = put.get("calls", [put.get("call", {"id": "1", "function": function})])
    said = {"content": put.get("content", "fine"), "reasoning": put.get("reasoning"), "tool_calls": calls}
    logprobs = put.get("logprobs", {"content": [{"token": "fine", "logprob": put.get("logprob", -1)}]})
    told = {"message": put.get("message", said), "finish_reason": put.get("reason", "stop"), "logprobs": logprobs}
    choice = put.get("choice", told)
    usage = put.get("usage", {"prompt_tokens": put.get("tokens", 3), "completion_tokens": put.get("tokens", 3)})
    payload = {"choices": [choice], "usage": usage, "model": put.get("model", "m")}
    either_way(200, json.dumps(payload).encode())


@given(content=st.binary(max_size=50), status=st.sampled_from([200, 400, 429, 500]))
@example(content=b"[" * 100_000, status=200)
@example(content=b'{"a":' * 100_000, status=500)
def test_whatever_bytes_a_server_answers_with_are_an_answer_or_a_fault(content: bytes, status: int) -> None:
    either_way(status, content)


# -- keys that come back ----------------------------------------------------------------------------------------------

KEY = 'sk-a/b"c+0123456789'
KEYED = Server("http://there/v1", "MY_KEY", KEY)
ANSWER = {
    "model": "m",
    "choices": [{
        "finish_reason": "stop",
        "message": {
            "content": "fine", "reasoning": "well",
            "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": '{"at": "it"}'}}],
        },
        "logprobs": {"content": [{
            "token": "fine", "logprob": -1.0, "top_logprobs": [{"token": "x", "logprob": -2.0}],
        }]},
    }],
}  # fmt: skip
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in KEY)
WAYS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "each character escaped": lambda text: text.replace(json.dumps(KEY)[1:-1], ESCAPED).encode(),
    "slashes escaped": lambda text: text.replace("/", "\\/").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32-le"),
}
PLACES = ("m", "stop", "fine", "well", "it", "look", "x", "1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_key_never_comes_out_of_an_answer(place: str, way: str) -> None:
    """Text, thoughts, calls, model, finish reason and tokens are without it, however it was escaped."""
    told = json.dumps(ANSWER).replace(f'"{place}"', json.dumps(f"a {KEY} b"))
    told = told.replace(json.dumps('{"at": "it"}'), json.dumps(json.dumps({"at": KEY if place == "it" else "it"})))
    answer = completion_of(payload_of(200, {}, WAYS[way](told), KEYED), KEYED)
    assert "[key]" in answer.model_dump_json()
    assert "0123456789" not in answer.model_dump_json()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 413, 429, 500])
@pytest.mark.parametrize("shape", ['{"error": {"message": KEY, "code": KEY}}', "5 KEY",
                                   '{"detail": [{"msg": KEY, "loc": [KEY]}]}',
                                   "[KEY", "<html>KEY", '{"choices": [], "id": KEY}'])  # fmt: skip
def test_a_key_never_comes_out_of_an_error(shape: str, status: int, way: str) -> None:
    """Neither its line nor the body that is kept holds it, nor the part of it that a limit leaves."""
    for before in ("", "x" * 60, "x" * (BODY_KEPT - 30)):
        content = WAYS[way](shape.replace("KEY", json.dumps(f"{before} {KEY} b")))
        with pytest.raises(SelfInstructError) as caught:
            completion_of(payload_of(status, {}, content, KEYED), KEYED)
        error = caught.value
        assert "sk-a" not in str(error) + getattr(error, "body", "")
        assert caught.value.__cause__ is None or "sk-a" not in str(error.__cause__)


@pytest.mark.parametrize("error", [
    aiohttp.InvalidURL(f"http://{KEY}"), aiohttp.ClientError(KEY), OSError(KEY),
    aiohttp.NonHttpUrlRedirectClientError(KEY),
    httpx2.HTTPError(KEY), aiohttp.ClientConnectorError(SimpleNamespace(host=KEY, port=1, ssl=True), OSError(KEY)),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_a_key_never_comes_out_of_a_broken_connection(error: Exception) -> None:
    """Such as a redirect to an address that holds it; a log of the error is without it too."""
    with pytest.raises(Transient) as caught, boundary(KEYED):
        raise error
    assert "0123456789" not in "".join(traceback.format_exception(caught.value))
