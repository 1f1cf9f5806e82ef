"""What an export is: the names of its files, and a pure function from a sample to rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from selfinstruct.records import Sample
from selfinstruct.store.ledger import Ledger


class Step(NamedTuple):
    """One job in the making of a sample."""

    job: int
    stage: str
    demonstrations: list[str]
    """Ids of the seeds and samples that its prompt showed."""
    answers: list[dict[str, Any]]
    """Each answer's id, model, sampling and prompt."""
    verdicts: list[dict[str, Any]]
    """What each filter said of the draft that this step made."""


class Lineage:
    """How a sample came about, looked up in the ledger when asked for: most formats never ask."""

    def __init__(self, ledger: Ledger, sample: Sample) -> None:
        self._ledger = ledger
        self._sample = sample

    def steps(self) -> list[Step]:
        """From the job that invented it to the one that finished it."""
        steps: list[Step] = []
        draft: str | None = self._sample.id
        while draft is not None:
            step, draft = self._step(draft)
            steps.insert(0, step)
        return steps

    def _step(self, draft: str) -> tuple[Step, str | None]:
        stored = self._ledger.job(int(draft.partition(".")[0]))
        answers = [
            {
                "id": answer.key,
                "model": answer.completion.model,
                "sampling": answer.request.get("sampling", {}),
                "prompt": answer.request.get("prompt") or answer.request.get("messages"),
            }
            for answer in self._ledger.answers(stored.job.number)
            if answer.completion.refused is None
        ]
        step = Step(
            stored.job.number,
            stored.job.stage,
            list(stored.job.payload.get("from", [])),
            answers,
            self._ledger.judgements(draft),
        )
        return step, stored.job.parent


class Export(Protocol):
    """A format."""

    FILES: tuple[str, ...]
    """Names of the files it writes; the suffix says how: `.json` is one array, `.jsonl` a row to a line."""

    def rows(self, sample: Sample, lineage: Lineage) -> Iterator[dict[str, Any]]:
        """The rows of one sample: most formats give one for each instance."""
        ...
