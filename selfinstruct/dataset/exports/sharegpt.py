"""ShareGPT: `conversations`, a list of turns with `from` (system, human, gpt, function_call, observation) and `value`.

The system prompt is a turn and no column of its own: LLaMA-Factory, Axolotl and FastChat all read it there. Questions
and observations must take turns with answers and calls, or LLaMA-Factory skips the row. So the calls of one turn are
one value, without what is said beside them, and their results one observation, a line to each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from selfinstruct.dataset.exports.base import ExportContext, Fields, complete, with_tools
from selfinstruct.records import Call, Sample, Turn, conversation

FILES = ("sharegpt.jsonl",)
NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
LLAMA_FACTORY = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    },
}
LLAMA_FACTORY_CALLS = {"tags": {"function_tag": "function_call", "observation_tag": "observation"}}
AXOLOTL = {
    "type": "chat_template",
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}
AXOLOTL_CALLS = {
    "roles": {
        "system": ["system"],
        "user": ["human"],
        "assistant": ["gpt", "function_call"],
        "tool": ["observation"],
    }
}


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in complete(sample):
        turns = conversation(sample, instance, context.system)
        yield with_tools({"conversations": _alternating(turns)}, sample)


def _alternating(turns: Iterable[Turn]) -> list[Fields]:
    told: list[Fields] = []
    for turn in turns:
        if turn.role == "tool" and told[-1]["from"] == "observation":
            told[-1]["value"] += f"\n{turn.content}"
        elif turn.calls:
            told.append({"from": "function_call", "value": _value(turn.calls), **_weight(turn)})
        else:
            told.append({"from": NAMES[turn.role], "value": turn.content, **_weight(turn)})
    return told


def _value(calls: Sequence[Call]) -> str:
    """A call as JSON, or the list of several."""
    told = [{"name": call.tool, "arguments": call.arguments} for call in calls]
    return json.dumps(told if len(told) > 1 else told[0], ensure_ascii=False)


def _weight(turn: Turn) -> Fields:
    return {} if turn.train else {"weight": 0}
