"""ShareGPT: `conversations`, a list of turns with `from` (system, human, gpt) and `value`.

The system prompt is a turn and no column of its own: LLaMA-Factory, Axolotl and FastChat all read it there.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import Fields, Setting, answered, conversation
from selfinstruct.records import Sample

FILES = ("sharegpt.jsonl",)
NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
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
AXOLOTL = {
    "type": "chat_template",
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}


def rows(sample: Sample, setting: Setting) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in answered(sample):
        turns = conversation(sample, instance, setting)
        yield {"conversations": [{"from": NAMES[role], "value": text} for role, text in turns]}
