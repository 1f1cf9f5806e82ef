"""One accounting of what became of each line of work, by facet, for any recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.records import Draft, Outcome, Reason, Sample, Verdict
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import Fates, natural
from tests.support.ledgers import empty, settled

STAGES = [("ask", "answer")]


def draft(stage: str, **facets: str) -> Draft:
    return Draft(stage=stage, instruction="Say it.", facets=facets)


def drop(reason: str) -> Verdict:
    return Verdict(filter="f", keep=False, reason=reason)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with empty(tmp_path / "run") as ledger:
        yield ledger


def told(ledger: Ledger, lines: Sequence[tuple[str, ...]] = STAGES) -> dict[str, dict[str, tuple[int, int, int, int]]]:
    """By facet and value: made, kept, dropped, undecided."""
    return {name: {row.value: row[1:5] for row in rows} for name, rows in Fates(ledger, lines).facets().items()}


def test_a_family_is_dropped_once(ledger: Ledger) -> None:
    """Of one family that was dropped with its answer, and one that was one too many, one is dropped, one undecided."""
    dropped = settled(ledger, draft("ask", kind="deep"), drop("refusal"))
    settled(ledger, draft("answer", kind="deep"), drop(Reason.PARENT_DROPPED), parent=dropped)
    surplus = settled(ledger, draft("ask", kind="deep"))
    settled(ledger, draft("answer", kind="deep"), drop(Reason.SURPLUS), parent=surplus)
    [row] = Fates(ledger, STAGES).facets()["kind"]
    assert row._asdict() == {
        "value": "deep", "made": 2, "kept": 0, "dropped": 1, "undecided": 1, "share": 0.0, "reasons": {"refusal": 1},
    }  # fmt: skip


def test_what_is_not_carried_to_the_end_is_undecided(ledger: Ledger) -> None:
    """A draft kept at the first stage is open until its line ends; one that begins under a dropped one counts."""
    settled(ledger, draft("ask", kind="deep"))
    assert told(ledger) == {"kind": {"deep": (1, 0, 0, 1)}}
    settled(ledger, draft("answer", kind="deep"), parent="1.1")
    assert told(ledger) == {"kind": {"deep": (1, 1, 0, 0)}}
    settled(ledger, draft("ask", kind="deep"), drop(Reason.PARENT_DROPPED), parent="2.1")
    assert told(ledger) == {"kind": {"deep": (2, 1, 1, 0)}}


def test_a_facet_of_later_stages_counts_those_alone(ledger: Ledger) -> None:
    """A facet that no draft of the first stage has tells of the drafts that have it; it comes after the others."""
    for said, verdict in (("yes", drop("equal")), ("no", None), ("", None)):
        id = settled(ledger, draft("ask", kind="deep"))
        facets = {"kind": "deep"} | ({"answer": said} if said else {})
        settled(ledger, draft("answer", **facets), *([verdict] if verdict else []), parent=id)
    assert told(ledger) == {"kind": {"deep": (3, 2, 1, 0)}, "answer": {"no": (1, 1, 0, 0), "yes": (1, 0, 1, 0)}}
    assert list(told(ledger)) == ["kind", "answer"]


def test_values_are_sorted_as_people_count(ledger: Ledger) -> None:
    """Round 10 comes after round 9."""
    for value in ("10", "9", "2a", "b", "1", "a"):
        settled(ledger, draft("ask", round=value))
    assert list(told(ledger)["round"]) == ["a", "b", "1", "2a", "9", "10"]


def test_the_stages_of_other_recipes_are_not_counted(ledger: Ledger) -> None:
    """In a chain each recipe's lines end with its own last stage."""
    settled(ledger, draft("ask", kind="deep"))
    settled(ledger, draft("answer", kind="deep"), parent="1.1")
    settled(ledger, draft("later", kind="deep"), drop("refusal"), parent="2.1")
    assert told(ledger) == {"kind": {"deep": (1, 1, 0, 0)}}
    assert told(ledger, [("later",)]) == {"kind": {"deep": (1, 0, 1, 0)}}
    assert told(ledger, [*STAGES, ("later",)]) == {
        "kind": {"deep": (1, 1, 0, 0)}, "kind of later": {"deep": (1, 0, 1, 0)},
    }  # fmt: skip
    assert told(ledger, []) == {}


def test_many_may_be_made_of_one(ledger: Ledger) -> None:
    """Where a draft is carried on as several, each of those is a line."""
    settled(ledger, draft("ask", kind="deep"))
    for verdict in (None, None, drop("refusal")):
        settled(ledger, draft("answer", kind="deep"), *([verdict] if verdict else []), parent="1.1")
    assert told(ledger) == {"kind": {"deep": (3, 2, 1, 0)}}


@given(st.integers())
def test_what_is_seen_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Counts kept up with while a run goes on are those read anew, and add up."""
    rng = Random(seed)
    with empty(tmp_path_factory.mktemp("run") / "run") as ledger:
        seen = Fates(ledger, STAGES)
        for _ in range(rng.randrange(12)):
            stage, facets = rng.choice(STAGES[0]), {"kind": rng.choice("ab")} | rng.choice([{}, {"round": "1"}])
            verdict = drop(rng.choice(["refusal", *Reason])) if rng.random() < 0.5 else Verdict(filter="f", keep=True)
            made = draft(stage, **facets)
            id = settled(ledger, made, verdict)
            sample = Sample(id=id, stage=stage, instruction="Say it.") if verdict.keep else None
            seen.see(Outcome(id, made, (verdict,), sample))
        assert seen.facets() == Fates(ledger, STAGES).facets()
    for rows in seen.facets().values():
        for row in rows:
            assert row.made == row.kept + row.dropped + row.undecided
            assert row.dropped == sum(row.reasons.values())


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_sort_as_numbers(one: int, other: int) -> None:
    """The natural order of two numbers is that of their values."""
    assert (natural(str(one)) < natural(str(other))) == (one < other)
