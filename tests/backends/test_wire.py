"""What is sent to a server, and what is read of its answers: thoughts, calls of tools and log-probabilities too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.backends.openai.gathered import answer_in
from selfinstruct.backends.openai.server import Server
from selfinstruct.backends.openai.wire import body_of, completion_of
from selfinstruct.errors import Transient
from selfinstruct.records import Call, Completion, Request, Sampling, TokenLogprob, Tool, Turn

HERE = Server("http://localhost:8000/v1", "")
TOOL = Tool(name="weather", description="Tell it.", parameters={"type": "object", "properties": {}})


def answer(message: dict[str, Any] | None = None, **choice: Any) -> Completion:
    """The answer in a choice that ends well and has this message, or these fields."""
    told = {"finish_reason": "stop", **({} if message is None else {"message": message}), **choice}
    return completion_of({"choices": [told]}, HERE)


def called(*entries: Any) -> tuple[Call, ...]:
    return answer({"content": None, "tool_calls": list(entries)}).calls


def with_arguments(arguments: Any) -> Call:
    return called({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}})[0]


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_plain_requests_are_sent_as_ever() -> None:
    """A request without calls, tools or log-probabilities has the same bytes as before there were any."""
    turns = (Turn(role="system", content="Be brief."), Turn(role="user", content="Name a river."))
    sampling = Sampling(max_tokens=9, temperature=0.0, stop=("\n",), extra={"top_k": 5})
    request = Request(model="m", messages=turns, sampling=sampling, answer_schema={"type": "object"})
    assert json.dumps(body_of(request, "")) == (
        '{"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": '
        '"Name a river."}], "max_tokens": 9, "temperature": 0.0, "stop": ["\\n"], "response_format": {"type": '
        '"json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": true}}, "top_k": 5}'
    )
    assert json.dumps(body_of(Request(model="", prompt="p"), "m")) == '{"model": "m", "prompt": "p"}'


def test_calls_and_results_are_sent() -> None:
    """An assistant's calls go out with arguments as text, and a tool's turn names the call that it answers."""
    turns = (
        Turn(role="assistant", content="", calls=(Call(id="c1", tool="weather", arguments={"city": "Köln"}),)),
        Turn(role="tool", content="Rain", call="c1"),
    )
    function = {"name": "weather", "arguments": '{"city": "Köln"}'}
    assert body_of(Request(model="m", messages=turns), "")["messages"] == [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": "Rain", "tool_call_id": "c1"},
    ]


def test_what_is_ours_stays_here() -> None:
    """Neither thoughts nor what is trained on are sent."""
    turn = Turn(role="assistant", content="Four.", reasoning="Two and two.", train=False)
    assert body_of(Request(model="m", messages=(turn,)), "")["messages"] == [{"role": "assistant", "content": "Four."}]


def test_unreadable_arguments_go_back_as_written() -> None:
    """A model is shown the call that it made, not one that we made of it."""
    turn = Turn(role="assistant", content="", calls=(Call(tool="weather", raw="{city: Graz"),))
    (call,) = body_of(Request(model="m", messages=(turn,)), "")["messages"][0]["tool_calls"]
    assert call == {"type": "function", "function": {"name": "weather", "arguments": "{city: Graz"}}


def test_tools_are_offered() -> None:
    """A tool goes out as a function, without what it does not say of itself."""
    tools = body_of(Request(model="m", messages=(), tools=(TOOL, Tool(name="now"))), "")["tools"]
    assert tools == [
        {"type": "function", "function": TOOL.model_dump()},
        {"type": "function", "function": {"name": "now"}},
    ]


@pytest.mark.parametrize(
    ("wanted", "chat", "fields"),
    [
        (None, True, {}),
        (None, False, {}),
        (0, True, {"logprobs": True}),
        (5, True, {"logprobs": True, "top_logprobs": 5}),
        (0, False, {"logprobs": 0}),
        (5, False, {"logprobs": 5}),
    ],
)
def test_logprobs_are_asked_for(wanted: int | None, chat: bool, fields: dict[str, Any]) -> None:
    """Log-probabilities are asked for as each of the two APIs wants it."""
    sampling = Sampling(logprobs=wanted)
    request = Request(model="m", **({"messages": ()} if chat else {"prompt": "p"}), sampling=sampling)
    body = body_of(request, "")
    assert {name: value for name, value in body.items() if "logprobs" in name} == fields


# -- thoughts ---------------------------------------------------------------------------------------------------------


MAGISTRAL = [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
             {"type": "text", "text": "Four."}]  # fmt: skip
THOUGHTS = [
    ({"content": "Four.", "reasoning": "hm"}, "reasoning"),
    ({"content": "Four.", "reasoning_content": "hm"}, "reasoning_content"),
    ({"content": "Four.", "reasoning": None, "reasoning_content": "hm"}, "reasoning_content"),
    ({"content": "Four.", "reasoning": "hm", "reasoning_content": "hm"}, "reasoning"),
    ({"content": "Four.", "reasoning_content": [{"type": "text", "text": "h"}, "m"]}, "reasoning_content"),
    ({"content": "Four.", "reasoning": {"text": "hm"}}, "reasoning"),
    ({"content": "Four.", "reasoning": {"content": [{"text": "hm"}]}}, "reasoning"),
    ({"content": "Four.", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, "reasoning_details"),
    ({"content": MAGISTRAL}, "parts"),
    ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "Four."}]}, "parts"),
    ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Four."}]}, "parts"),
]


@pytest.mark.parametrize(("message", "where"), THOUGHTS)
def test_thoughts_are_read(message: dict[str, Any], where: str) -> None:
    """Thoughts are found under each name, in each form, and it is noted where they stood."""
    said = answer(message)
    assert (said.text, said.reasoning, said.reasoning_from) == ("Four.", "hm", where)
    assert said.whole == "Four."


@pytest.mark.parametrize("nothing", [None, "", [], {}, [{"type": "reasoning.encrypted", "data": "x"}], 7])
def test_no_thoughts_are_none(nothing: Any) -> None:
    """An empty field, or one without text, holds no thoughts."""
    said = answer({"content": "Four.", "reasoning": nothing})
    assert (said.reasoning, said.reasoning_from) == ("", "")


def test_thoughts_in_a_text_stay_there() -> None:
    """Marks in the text are not read here."""
    assert answer({"content": "<think>hm</think>Four."}).text == "<think>hm</think>Four."


def test_tokens_of_thought_are_counted() -> None:
    """Tokens of thought are those that the server tells."""
    usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    said = completion_of({"choices": [{"text": "", "finish_reason": "length"}], "usage": usage}, HERE)
    assert (said.completion_tokens, said.reasoning_tokens) == (9, 7)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning": "hm"},
        {"content": None, "tool_calls": [{"function": {"name": "now"}}]},
        {"tool_calls": [{"function": {"name": "now"}}]},
    ],
)
def test_thoughts_or_calls_alone_answer(message: dict[str, Any]) -> None:
    """A message without text that thinks or calls is an answer, also where no reason for its end is told."""
    assert answer(message, finish_reason=None).text == ""


@pytest.mark.parametrize("message", [{"content": None}, {"content": None, "reasoning": "", "tool_calls": []}])
def test_nothing_at_all_is_a_fault(message: dict[str, Any]) -> None:
    """Without text, thoughts, calls or a reason there is no answer."""
    with pytest.raises(Transient):
        answer(message, finish_reason=None)


# -- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"city": "Graz"}', {"city": "Graz"}),
        ({"city": "Graz"}, {"city": "Graz"}),
        (' {"a": [1, null, {"b": 1.5}]}\n', {"a": [1, None, {"b": 1.5}]}),
        ("{}", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_arguments_are_read(arguments: Any, read: dict[str, Any]) -> None:
    """Arguments are a JSON object, as text or as such; none are {}."""
    assert with_arguments(arguments) == Call(id="c1", tool="weather", arguments=read)


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "Graz"',
        "{city: Graz}",
        "[1]",
        '"{}"',
        "null",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        '{"a": 1} and more',
        '{"a":' * 200 + "1" + "}" * 200,
        "[" * 100_000,
    ],
)
def test_unreadable_arguments_are_kept(arguments: str) -> None:
    """What is no JSON object that can be kept is kept as it was written, and nothing is made of it."""
    assert with_arguments(arguments) == Call(id="c1", tool="weather", raw=arguments)


def test_arguments_of_another_kind_are_kept() -> None:
    """Arguments that are JSON and no object are kept as JSON."""
    assert with_arguments([1, "ä"]).raw == '[1, "ä"]'


@pytest.mark.parametrize("entry", ["weather", {"id": "c1"}, {"type": "custom", "custom": {"name": "x", "input": "y"}}])
def test_calls_without_a_name_are_kept(entry: Any) -> None:
    """An entry that names no function is a call of no tool, with all that was written."""
    (call,) = called(entry)
    assert (call.tool, call.arguments, json.loads(call.raw) if call.raw[0] == "{" else call.raw) == ("", {}, entry)


@pytest.mark.parametrize("depth", [40, 60, 400])
@pytest.mark.parametrize("place", ["reasoning", "tool_calls", "content", "arguments"])
def test_deep_answers_can_be_stored(depth: int, place: str) -> None:
    """However deeply a server nests what it says, the answer can be written as JSON and read again."""
    value = json.loads('{"text": [' * depth + "]}" * depth)
    function = {"name": "weather", "arguments": value}
    message = {"tool_calls": [{"function": function}]} if place == "arguments" else {place: [value]}
    said = answer(message)
    assert Completion.model_validate_json(said.model_dump_json()) == said


def test_several_calls_keep_their_order() -> None:
    """Calls come in the order in which they were made."""
    entries = [{"id": f"c{n}", "function": {"name": f"t{n}", "arguments": "{}"}} for n in range(3)]
    assert [(call.id, call.tool) for call in called(*entries)] == [("c0", "t0"), ("c1", "t1"), ("c2", "t2")]


def test_the_old_function_call_is_read() -> None:
    """The form from before there were tools is a call without an id."""
    message = {"content": None, "function_call": {"name": "weather", "arguments": '{"a": 1}'}}
    assert answer(message).calls == (Call(tool="weather", arguments={"a": 1}),)


ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), ARGUMENTS, max_size=4), st.text(), st.text(min_size=1))
def test_calls_make_the_round_trip(arguments: dict[str, Any], id: str, name: str) -> None:
    """A call that is sent and comes back is the same call."""
    call = Call(id=id, tool=name, arguments=arguments)
    sent = body_of(Request(model="m", messages=(Turn(role="assistant", content="", calls=(call,)),)), "")
    assert called(*json.loads(json.dumps(sent))["messages"][0]["tool_calls"]) == (call,)


# -- log-probabilities ------------------------------------------------------------------------------------------------


def test_logprobs_of_a_chat_are_read() -> None:
    """A chat tells them token by token."""
    top = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -3}]
    told = {"content": [
        {"token": "Yes", "logprob": -0.1, "top_logprobs": top},
        {"token": ".", "logprob": 0, "top_logprobs": []},
    ]}  # fmt: skip
    assert answer({"content": "Yes."}, logprobs=told).logprobs == (
        TokenLogprob(token="Yes", logprob=-0.1, top={"Yes": -0.1, "No": -3.0}),
        TokenLogprob(token=".", logprob=0.0),
    )


def test_logprobs_of_a_completion_are_read() -> None:
    """A completion tells them in lists beside one another."""
    told = {"tokens": ["Yes", "."], "token_logprobs": [-0.1, -2.0], "top_logprobs": [{"Yes": -0.1, "No": -3.0}, None]}
    assert answer(text="Yes.", logprobs=told).logprobs == (
        TokenLogprob(token="Yes", logprob=-0.1, top={"Yes": -0.1, "No": -3.0}),
        TokenLogprob(token=".", logprob=-2.0),
    )


def test_logprobs_that_are_none_are_left_out() -> None:
    """What is no number becomes none, and of tokens that are written alike the likelier counts."""
    top = [{"token": "a", "logprob": -4}, {"token": "a", "logprob": -1}, {"token": "b", "logprob": None}]
    told = {"content": [{"token": "a", "logprob": None}, {"token": "b", "logprob": -1.0, "top_logprobs": top}]}
    assert answer({"content": "ab"}, logprobs=told).logprobs == (
        TokenLogprob(token="b", logprob=-1.0, top={"a": -1.0}),
    )


def test_a_completion_without_alternatives_is_read() -> None:
    """Where no alternatives are asked for, a completion tells none."""
    told = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None}
    assert answer(text="a", logprobs=told).logprobs == (TokenLogprob(token="a", logprob=-1.0),)


# -- batches ----------------------------------------------------------------------------------------------------------


def test_batches_are_read_alike() -> None:
    """A line of a batch is read as an answer that comes at once."""
    message = {"content": None, "reasoning": "hm", "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    assert answer_in({"response": {"status_code": 200, "body": body}}, HERE) == completion_of(body, HERE)
