"""Requests and answers as they go over the wire: our records to JSON, and back.

Thoughts come in fields that servers name differently, or as parts of the content; those that stand in the text are
told apart later, for all backends alike (`text.thoughts`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from selfinstruct.backends.openai.boundary import object_of
from selfinstruct.backends.openai.server import Server
from selfinstruct.errors import Transient
from selfinstruct.records import Call, Completion, ReasoningFrom, Request, TokenLogprob, Tool, Turn

MOST_TOKENS = 2**40
"""Tokens above which a server's count is none."""
DEEPEST = 100
"""Levels of nesting above which arguments are kept as they were written: who reads the ledger may give up at 200."""
FIELDS: tuple[ReasoningFrom, ...] = ("reasoning", "reasoning_content", "reasoning_details")
"""What servers call the field for thoughts: vLLM, Ollama and OpenRouter; DeepSeek and SGLang; MiniMax."""


def body_of(request: Request, model: str) -> dict[str, Any]:
    """The request as JSON; what is not set is not sent, so that the server's own default holds."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": request.model or model}
    if request.prompt is not None:
        body["prompt"] = request.prompt
    else:
        body["messages"] = [_message(turn) for turn in request.messages]
    for name in ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.logprobs is not None:
        body |= _asking_for_logprobs(sampling.logprobs, chat=request.prompt is None)
    if request.tools:
        body["tools"] = [_offer(tool) for tool in request.tools]
    if request.answer_schema is not None:
        schema = {"name": "answer", "schema": request.answer_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body | sampling.extra


def completion_of(payload: Mapping[str, Any], server: Server) -> Completion:
    """The answer in a response; one that only thinks or calls is one, and so is an empty one that says why it ended.

    Raises:
        Transient: there is no choice in it, or nothing in the choice.
    """
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _hollow("empty_choices", "an answer without choices", payload, server)
    choice = choices[0]
    content, reason = _content(choice), choice.get("finish_reason")
    message = object_of(choice.get("message")) or choice
    reasoning, reasoning_from = _reasoning(message)
    calls = tuple(_calls(message))
    if content is None and not (reason or reasoning or calls):
        raise _hollow("no_content", "an answer without text", payload, server)
    return Completion(
        text=content or "",
        finish_reason=str(reason or "stop"),
        model=str(payload.get("model") or ""),
        **_counts(object_of(payload.get("usage"))),
        reasoning=reasoning,
        reasoning_from=reasoning_from,
        calls=calls,
        logprobs=tuple(_logprobs(told)) if (told := object_of(choice.get("logprobs"))) else (),
    )


# -- what is sent -----------------------------------------------------------------------------------------------------


def _message(turn: Turn) -> dict[str, Any]:
    """A turn, without what is ours alone: its thoughts, and whether it is trained on."""
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    if turn.call:
        message["tool_call_id"] = turn.call
    return message


def _call(call: Call) -> dict[str, Any]:
    arguments = call.raw or json.dumps(call.arguments, ensure_ascii=False)
    named = {"id": call.id} if call.id else {}
    return named | {"type": "function", "function": {"name": call.tool, "arguments": arguments}}


def _offer(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(mode="json", exclude_defaults=True)}


def _asking_for_logprobs(alternatives: int, *, chat: bool) -> dict[str, Any]:
    if not chat:
        return {"logprobs": alternatives}
    return {"logprobs": True, "top_logprobs": alternatives} if alternatives else {"logprobs": True}


# -- what comes back --------------------------------------------------------------------------------------------------


def _content(choice: Mapping[str, Any]) -> str | None:
    """The text of a choice, of a completion or a chat, without the parts that are none."""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in _parts(content, "text"))
    return content if content is None else str(content)


def _reasoning(message: Mapping[str, Any]) -> tuple[str, ReasoningFrom]:
    """What was thought, and where that stood; of several places the first that holds any."""
    for field in FIELDS:
        if (told := message.get(field)) and (thoughts := _words(told)):
            return thoughts, field
    content = message.get("content")
    if isinstance(content, list) and (thoughts := _words(list(_parts(content, "thinking", "reasoning")))):
        return thoughts, "parts"
    return "", ""


def _parts(content: Iterable[Any], *types: str) -> Iterator[dict[str, Any]]:
    return (part for part in map(object_of, content) if part.get("type") in types)


def _words(value: Any, depth: int = 4) -> str:
    """The text of a string, of an object that holds one, or of a list of such."""
    if isinstance(value, dict):
        held = (value.get(name) for name in ("text", "thinking", "reasoning", "content", "summary"))
        value = next(filter(None, held), None)
    if isinstance(value, str):
        return value
    inner = value if isinstance(value, list) and depth else ()
    return "".join(_words(one, depth - 1) for one in inner)


def _calls(message: Mapping[str, Any]) -> Iterator[Call]:
    """The calls in a message, each whole: what cannot be read of one is its `raw`."""
    for entry in _list(message.get("tool_calls")):
        function, id = object_of(object_of(entry).get("function")), object_of(entry).get("id")
        yield _read_call(function, id if isinstance(id, str) else "", entry)
    if old := object_of(message.get("function_call")):
        yield _read_call(old, "", old)


def _read_call(function: Mapping[str, Any], id: str, entry: Any) -> Call:
    """A call; one whose arguments are no JSON object keeps them as they were written, and one without a name all of it.

    Nothing is mended here: whether a call is right is judged later, by what the model wrote.
    """
    name, told = function.get("name"), function.get("arguments")
    if not isinstance(name, str):
        return Call(id=id, tool="", raw=_written(entry))
    text = "" if told is None else _written(told)
    arguments = _arguments(text)
    return Call(id=id, tool=name, raw=text) if arguments is None else Call(id=id, tool=name, arguments=arguments)


def _arguments(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, {} of an empty one; None where it is none that can be kept."""
    try:
        value = json.loads(text.strip() or "{}", object_pairs_hook=_object)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _is_flat(value) else None


def _is_flat(value: Any) -> bool:
    """Whether it is nested no more than `DEEPEST` levels deep."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else _list(one))]
    return not level


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON's.

    Raises:
        ValueError: a key is there twice, and so it cannot be said which value is meant.
    """
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _written(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _logprobs(told: Mapping[str, Any]) -> Iterator[TokenLogprob]:
    """The tokens with a log-probability that is a number, of a chat (`content`) or of a completion (`tokens`)."""
    for token, logprob, top in _of_chat(told) if "content" in told else _of_completion(told):
        if _is_number(logprob):
            yield TokenLogprob(token=str(token), logprob=logprob, top=_likeliest(top))


def _of_chat(told: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Iterable[tuple[Any, Any]]]]:
    for one in map(object_of, _list(told.get("content"))):
        others = map(object_of, _list(one.get("top_logprobs")))
        yield one.get("token"), one.get("logprob"), [(other.get("token"), other.get("logprob")) for other in others]


def _of_completion(told: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Iterable[tuple[Any, Any]]]]:
    tokens, logprobs = _list(told.get("tokens")), _list(told.get("token_logprobs"))
    tops = [object_of(top) for top in _list(told.get("top_logprobs"))]
    for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=False)):
        yield token, logprob, tops[place].items() if place < len(tops) else ()


def _likeliest(pairs: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Log-probabilities by token; of two tokens that are written alike, the likelier one's."""
    top: dict[str, float] = {}
    for token, logprob in pairs:
        if _is_number(logprob):
            top[str(token)] = max(logprob, top.get(str(token), logprob))
    return top


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -MOST_TOKENS < value < MOST_TOKENS


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """The counts of an answer, 0 where they are not told; a part is never more than its whole.

    Some servers (xAI) leave thoughts out of the tokens of the answer, and have them in the total.
    """
    prompt, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if prompt and written:
        written = max(written, _count(usage, "total_tokens") - prompt)
    cached = _count(object_of(usage.get("prompt_tokens_details")), "cached_tokens")
    thoughts = _count(object_of(usage.get("completion_tokens_details")), "reasoning_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "cached_tokens": min(cached, prompt),
        "reasoning_tokens": min(thoughts, written) if written else thoughts,
    }


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0


def _hollow(kind: str, what: str, payload: Mapping[str, Any], server: Server) -> Transient:
    return Transient(kind, f"{server.url}: {what}", status=200, body=json.dumps(payload)[:2_000])
