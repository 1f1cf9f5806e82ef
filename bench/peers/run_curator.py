"""curator: its OpenAI backend, with the one setting for how many requests are in flight."""

from __future__ import annotations

from collections.abc import Callable

from peer import MODEL, Work, run, without_tiktoken


def work_of(work: Work) -> Callable[[], int]:
    without_tiktoken()
    from bespokelabs import curator

    class Answers(curator.LLM):
        def prompt(self, row: dict[str, str]) -> str:
            return row["prompt"]

        def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
            return {"prompt": row["prompt"], "answer": response}

    settings = {"base_url": work.url, "max_concurrent_requests": work.in_flight}
    settings |= {"max_requests_per_minute": 1_000_000, "max_tokens_per_minute": 1_000_000_000}
    answers = Answers(model_name=MODEL, backend="openai", backend_params=settings)
    rows = [{"prompt": prompt} for prompt in work.prompts]
    return lambda: len(answers(rows, working_dir=str(work.folder)).dataset)


if __name__ == "__main__":
    run("bespokelabs-curator", work_of)
