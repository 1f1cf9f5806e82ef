"""Messages: a list of turns with `role` (system, user, assistant, tool) and `content`, as chat templates take them.

What an assistant calls is in `tool_calls`, with its arguments as an object: TRL and nearly every template want it so;
most of them would write a text as JSON once more. A key that a turn has no use for is not there, since templates trip
over null. A turn that is not trained on has the `weight` 0: hosted fine-tuning reads it, and Axolotl where told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, complete, with_tools
from selfinstruct.records import Call, Sample, Turn, conversation

FILES = ("messages.jsonl",)
LLAMA_FACTORY = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}
AXOLOTL = {"type": "chat_template"}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in complete(sample):
        turns = conversation(sample, instance, context.system)
        yield with_tools({"messages": messages(turns)}, sample)


def messages(turns: Iterable[Turn]) -> list[Fields]:
    """The turns; that of a tool has the name of the call that it answers."""
    told: list[Fields] = []
    open_calls: list[Call] = []
    for turn in turns:
        message: Fields = {"role": turn.role, "content": turn.content}
        if turn.calls:
            open_calls = [*turn.calls]
            message["tool_calls"] = [_call(call) for call in turn.calls]
        elif turn.role == "tool":
            message |= _answered(turn.call, open_calls)
        if not turn.train:
            message["weight"] = 0
        told.append(message)
    return told


def _call(call: Call) -> Fields:
    id = {"id": call.id} if call.id else {}
    return {**id, "type": "function", "function": {"name": call.tool, "arguments": call.arguments}}


def _answered(id: str, open_calls: list[Call]) -> Fields:
    """What a tool's turn says of the call that it answers, which is then no longer open."""
    told = {"tool_call_id": id} if id else {}
    for place, call in enumerate(open_calls):
        if call.id == id:
            del open_calls[place]
            return {**told, "name": call.tool}
    return told
