"""Self-Instruct: `prompt` and `completion` in the published mix of layouts, 7 with an input and 6 without.

The layouts of `prepare_for_finetuning.py` (yizhongw/self-instruct): each row draws one, uniformly, so that a model
learns the task and not its wrapping. The completion begins with a space where the prompt ends in "Output:". Left out
are the end marker of GPT-3, since trainers add that of their model, and the coin flip that takes away what stands
before a lone colon in an input, which also turns "at 12:30" into "30".
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from selfinstruct.dataset.exports.base import ExportContext, Fields, exchanges, system_of
from selfinstruct.records import Instance, Sample

FILES = ("self-instruct.jsonl",)
LLAMA_FACTORY = {"columns": {"prompt": "prompt", "response": "completion"}}
AXOLOTL = {
    "type": {
        "field_instruction": "prompt",
        "field_output": "completion",
        "format": "{instruction}",
        "no_input_format": "{instruction}",
    }
}

WITH_INPUT = (
    "{task}\nInput: {input}\nOutput:",
    "{task}\n\nInput: {input}\n\nOutput:",
    "Task: {task}\nInput: {input}\nOutput:",
    "{task}\n\n{input}\n\nOutput:",
    "{task}\n\n{input}\n\n",
    "{task}\n{input}\n\n",
    "Task: {task}\n\n{input}\n\n",
)
WITHOUT_INPUT = (
    "{task} Output:",
    "{task}\nOutput:",
    "{task}\n\nOutput:",
    "{task}\n",
    "{task}\n\n",
    "Task: {task}\n\n",
)


def rows(sample: Sample, context: ExportContext) -> Iterator[Fields]:
    """One row for each exchange."""
    for number, instance in enumerate(exchanges(sample)):
        layout = _drawn(WITH_INPUT if instance.input.strip() else WITHOUT_INPUT, context.seed, sample.id, number)
        yield _row(layout, sample, instance, system_of(sample, context))


def _drawn(layouts: tuple[str, ...], seed: int, sample: str, number: int) -> str:
    """One of them, at random, and always the same one for the same instance."""
    digest = blake2b(f"{seed}:{sample}:{number}".encode(), digest_size=8).digest()
    return layouts[int.from_bytes(digest, "big") % len(layouts)]


def _row(layout: str, sample: Sample, instance: Instance, system: str) -> Fields:
    prompt = layout.format(task=sample.instruction.strip(), input=instance.input.strip())
    space = " " if prompt.endswith("Output:") else ""
    return {
        "prompt": f"{system}\n\n{prompt}" if system else prompt,
        "completion": f"{space}{instance.output.strip()}",
    }
