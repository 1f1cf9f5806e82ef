"""The filter `rouge`: what it tells beside its decision."""

from __future__ import annotations

from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.filters import open_filter
from selfinstruct.records import Draft, Reason, Sample, Verdict

POOL = {
    "sea": "Write a poem about the sea.",
    "rivers": "Name three rivers in France.",
    "lakes": "Name four lakes in Italy.",
}
SCORER = RougeScorer(["rougeL"], use_stemmer=False)


def judged(instruction: str, **settings: object) -> Verdict:
    rouge = open_filter("rouge", settings)
    for id, text in POOL.items():
        rouge.remember(Sample(id=id, stage="seed", instruction=text))
    return rouge.judge(Draft(stage="instructions", instruction=instruction))


def test_a_near_duplicate_names_the_pool_item_and_the_score() -> None:
    verdict = judged("Name three rivers in Spain.")
    assert (verdict.keep, verdict.reason, verdict.detail) == (
        False,
        Reason.NEAR_DUPLICATE,
        {"of": "rivers", "score": SCORER.score("Name three rivers in Spain.", POOL["rivers"])["rougeL"].fmeasure},
    )


def test_a_kept_draft_says_nothing_of_its_neighbours() -> None:
    assert judged("Sort these numbers by size.").detail == {}
