"""sdg_hub: one block that asks in chat, as a flow calls it with its limit of concurrency."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from peer import KEY, MODEL, Work, run
from sdg_hub.core.blocks import LLMChatBlock


def work_of(work: Work) -> Callable[[], int]:
    block = LLMChatBlock(
        block_name="ask",
        input_cols="messages",
        output_cols="answer",
        model=f"openai/{MODEL}",
        api_base=work.url,
        api_key=KEY,
        async_mode=True,
    )
    samples = pd.DataFrame({"messages": [[{"role": "user", "content": prompt}] for prompt in work.prompts]})
    return lambda: int(block.generate(samples, _flow_max_concurrency=work.in_flight)["answer"].notna().sum())


if __name__ == "__main__":
    run("sdg-hub", work_of)
