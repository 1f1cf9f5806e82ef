"""distilabel: one step of text generation, whose batches are as large as the concurrency; it has no other."""

from __future__ import annotations

from collections.abc import Callable

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
from peer import KEY, MODEL, Work, run


def work_of(work: Work) -> Callable[[], int]:
    with Pipeline("peer", cache_dir=work.folder) as pipeline:
        rows = [{"instruction": prompt} for prompt in work.prompts]
        load = LoadDataFromDicts(data=rows, batch_size=work.in_flight)
        llm = OpenAILLM(model=MODEL, base_url=work.url, api_key=KEY)
        load >> TextGeneration(llm=llm, input_batch_size=work.in_flight)

    def generate() -> int:
        made = pipeline.run()["default"]["train"]
        return sum(text is not None for text in made["generation"])

    return generate


if __name__ == "__main__":
    run("distilabel", work_of)
