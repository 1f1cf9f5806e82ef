"""Prompt and completion as TRL's SFTTrainer reads them: `prompt` all turns but the last, `completion` that one.

Lists of messages and not plain text. TRL joins two plain texts as they stand and applies no chat template, so that an
instruction would run into its answer; given messages it applies the model's own template and counts the loss on the
completion alone. Plain text for base models is what `self-instruct` and `text` write.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfinstruct.dataset.exports.base import ExportContext, Fields, complete, with_tools
from selfinstruct.dataset.exports.messages import messages
from selfinstruct.records import Sample, conversation

FILES = ("prompt-completion.jsonl",)


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each instance."""
    for instance in complete(sample):
        *prompt, completion = messages(conversation(sample, instance, context.system))
        yield with_tools({"prompt": prompt, "completion": [completion]}, sample)
