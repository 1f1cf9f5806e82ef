"""The scripted backend: answers from a function or a file, and what it says of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfinstruct.backends import open_backend
from selfinstruct.backends.scripted import ScriptedBackend
from selfinstruct.errors import ConfigError, EndpointError, RateLimited, Refused, Transient
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.records import Call, Completion, Request, TokenLogprob, Turn


def question(prompt: str) -> Request:
    return Request(model="m", prompt=prompt)


async def answers(path: Path, *prompts: str) -> list[str]:
    config = BackendConfig(kind="scripted", script=str(path))
    async with open_backend(config, notice=print) as backend:
        return [(await backend.complete(question(prompt))).text for prompt in prompts]


def script(folder: Path, text: str, name: str = "script.json") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


async def test_a_function_answers_with_what_it_returns() -> None:
    backend = ScriptedBackend(lambda request: f"{request.prompt} yes")
    assert await backend.complete(question("is it?")) == Completion(
        text="is it? yes", model="m", prompt_tokens=2, completion_tokens=3
    )


async def test_a_function_may_be_async_and_may_return_a_whole_completion() -> None:
    async def answer(request: Request) -> Completion:
        return Completion(text="cut", finish_reason="length")

    assert (await ScriptedBackend(answer).complete(question("?"))).finish_reason == "length"


async def test_an_exception_that_a_function_returns_is_raised() -> None:
    with pytest.raises(Transient, match="broken"):
        await ScriptedBackend(lambda request: Transient("timeout", "broken")).complete(question("?"))


async def test_a_script_can_think_and_call(tmp_path: Path) -> None:
    """A line of a script may hold thoughts, calls and log-probabilities, as an answer of a server does."""
    call = {"tool": "weather", "arguments": {"city": "Graz"}}
    line = {"text": "Yes", "reasoning": "Two words.", "calls": [call], "logprobs": [{"token": "Yes", "logprob": -0.5}]}
    config = BackendConfig(kind="scripted", script=str(script(tmp_path, json.dumps([line]))))
    async with open_backend(config, notice=print) as backend:
        assert await backend.complete(question("?")) == Completion(
            text="Yes",
            model="m",
            prompt_tokens=1,
            completion_tokens=3,
            reasoning_tokens=2,
            reasoning="Two words.",
            reasoning_from="reasoning",
            calls=(Call(tool="weather", arguments={"city": "Graz"}),),
            logprobs=(TokenLogprob(token="Yes", logprob=-0.5),),
        )


async def test_a_list_is_answered_in_order_and_then_stops_the_run(tmp_path: Path) -> None:
    path = script(tmp_path, '["one", {"text": "two", "finish_reason": "length"}]')
    assert await answers(path, "a", "b") == ["one", "two"]
    with pytest.raises(EndpointError, match="all 2 answers are given"):
        await answers(path, "a", "b", "c")


async def test_a_jsonl_file_has_an_answer_a_line(tmp_path: Path) -> None:
    path = script(tmp_path, '"one"\n\n{"text": "line\u2028separator"}\n', "script.jsonl")
    assert await answers(path, "a", "b") == ["one", "line\u2028separator"]


async def test_a_cycle_begins_again(tmp_path: Path) -> None:
    path = script(tmp_path, '{"choose": "cycle", "answers": ["one", "two"]}')
    assert await answers(path, "a", "b", "c") == ["one", "two", "one"]


async def test_hashed_answers_depend_on_the_question_alone(tmp_path: Path) -> None:
    some = [{"when": "name", "text": text} for text in ("Ada", "Alan")]
    path = script(tmp_path, json.dumps({"choose": "hash", "answers": ["one", "two", "three", "four", *some]}))
    prompts = [f"{kind} {number}" for number in range(20) for kind in ("question", "name")]
    forwards, backwards = await answers(path, *prompts), await answers(path, *reversed(prompts))
    assert forwards == backwards[::-1]
    assert len(set(forwards[::2])) == 4
    assert set(forwards[1::2]) == {"Ada", "Alan"}


async def test_answers_with_a_condition_are_for_prompts_that_meet_it(tmp_path: Path) -> None:
    path = script(tmp_path, '[{"when": "classification?", "text": "No"}, "2. Sing."]')
    assert await answers(path, "Is it classification? ", "1.", "classification?") == ["No", "2. Sing.", "No"]


async def test_a_condition_looks_at_every_message_of_a_chat(tmp_path: Path) -> None:
    path = script(tmp_path, '[{"when": "pirate", "text": "Arr"}]')
    config = BackendConfig(kind="scripted", script=str(path))
    turns = (Turn(role="system", content="You are a pirate."), Turn(role="user", content="Hi"))
    async with open_backend(config, notice=print) as backend:
        assert (await backend.complete(Request(model="m", messages=turns))).text == "Arr"


@pytest.mark.parametrize(
    ("fault", "error"), [("server_error", Transient), ("rate_limited", RateLimited), ("refused", Refused)]
)
async def test_a_script_can_have_faults(tmp_path: Path, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await answers(script(tmp_path, f'[{{"fault": "{fault}"}}]'), "a")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("script.json", "[", "not JSON"),
        ("script.json", "[1]", "answers.0"),
        ("script.json", '{"replies": []}', "replies"),
        ("script.json", '{"answers": [], "choose": "best"}', "choose"),
        ("script.jsonl", '"fine"\n{"txt": "no"}', "line 2: unknown key `txt`; did you mean `text`?"),
        ("script.jsonl", '"fine"\nnot json', "line 2: not JSON"),
        ("script.jsonl", "7", "line 1: an answer is a string or an object"),
    ],
)
async def test_a_file_that_is_no_script_gets_one_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await answers(script(tmp_path, text, name), "a")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json: cannot be read"):
        await answers(tmp_path / "gone.json", "a")


async def test_a_script_without_a_fitting_answer_says_what_to_add(tmp_path: Path) -> None:
    path = script(tmp_path, '{"choose": "hash", "answers": [{"when": "x", "text": "y"}]}')
    with pytest.raises(EndpointError, match="add one without `when`"):
        await answers(path, "a")
