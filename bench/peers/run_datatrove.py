"""datatrove: its inference runner on an endpoint, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter
from peer import KEY, MODEL, Work, run


async def ask(document: Document, generate: Callable[[dict[str, Any]], Any]) -> str:
    """One request for each document."""
    answer = await generate({"messages": [{"role": "user", "content": document.text}]})
    return str(answer.text)


def work_of(work: Work) -> Callable[[], int]:
    config = InferenceConfig(
        server_type="endpoint",
        endpoint_url=work.url.removesuffix("/v1"),
        model_name_or_path=MODEL,
        api_key=KEY,
        max_concurrent_generations=work.in_flight,
    )
    made = work.folder / "made"
    writer = JsonlWriter(str(made), output_filename="${rank}_${chunk_index}.jsonl", compression=None)
    runner = InferenceRunner(ask, config, writer, checkpoints_local_dir=str(work.folder / "checkpoints"))
    documents = [Document(text=prompt, id=str(n)) for n, prompt in enumerate(work.prompts)]

    def generate() -> int:
        runner.run(iter(documents))
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in made.glob("*.jsonl"))

    return generate


if __name__ == "__main__":
    run("datatrove", work_of)
