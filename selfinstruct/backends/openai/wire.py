"""Requests and answers as they go over the wire: our records to JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from selfinstruct.backends.openai.boundary import object_of
from selfinstruct.backends.openai.server import Server
from selfinstruct.errors import Transient
from selfinstruct.records import Completion, Request

MOST_TOKENS = 2**40
"""Tokens above which a server's count is none."""


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
