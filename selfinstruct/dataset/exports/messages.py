"""Messages: a list of turns with `role` (system, user, assistant) and `content`, as chat templates take them."""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import Fields, Setting, answered, conversation
from selfinstruct.records import Instance, Sample

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


def rows(sample: Sample, setting: Setting) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in answered(sample):
        yield {"messages": turns(sample, instance, setting)}


def turns(sample: Sample, instance: Instance, setting: Setting) -> list[Fields]:
    """The turns of one instance."""
    return [{"role": role, "content": text} for role, text in conversation(sample, instance, setting)]
