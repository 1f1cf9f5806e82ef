"""DataDesigner: one column of text that a model writes, over a data frame of prompts."""

from __future__ import annotations

from collections.abc import Callable

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner
from peer import KEY, MODEL, Work, run, without_tiktoken


def work_of(work: Work) -> Callable[[], int]:
    without_tiktoken()

    provider = dd.ModelProvider(name="sim", endpoint=work.url, provider_type="openai", api_key=KEY)
    model = dd.ModelConfig(
        alias="sim",
        model=MODEL,
        provider="sim",
        inference_parameters=dd.ChatCompletionInferenceParams(max_parallel_requests=work.in_flight),
        skip_health_check=True,
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"question": work.prompts})))
    config.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="sim", prompt="{{ question }}"))
    designer = DataDesigner(artifact_path=work.folder, model_providers=[provider])
    resume, count = dd.ResumeMode.IF_POSSIBLE, len(work.prompts)
    return lambda: len(designer.create(config, num_records=count, resume=resume).load_dataset())


if __name__ == "__main__":
    run("data-designer", work_of)
