"""Which instances of a task are usable: each rule, in the published order, and the draw of at most five."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.filters import open_filter
from selfinstruct.records import Call, Draft, Instance, Reason, Turn, Verdict

Cases = list[tuple[str, str]]


def judged(cases: Cases, *, instruction: str = "Do it.", truncated: bool = False, **settings: Any) -> Verdict:
    instances = tuple(Instance(input=given, output=made) for given, made in cases)
    meta = {"truncated": True} if truncated else {}
    draft = Draft(stage="instances", instruction=instruction, instances=instances, meta=meta)
    return open_filter("instances", settings).judge(draft)


def dropped(verdict: Verdict) -> dict[int, str]:
    return {drop.place: str(drop.reason) for drop in verdict.instance_drops}


ONE = {
    ("a", "b"): "passed",
    ("", "b"): "passed",
    ("a", ""): "empty_output",
    ("", ""): "empty_output",
    ("a", "a"): "output_is_input",
    ("a:", "b"): "ends_with_colon",
    ("a", "b:"): "ends_with_colon",
    ("a: b", "b: a"): "passed",
    ("12:30", "b"): "passed",
    ("a：", "b"): "passed",
    ("a", "A"): "passed",
    (":", ":"): "output_is_input",
}


@pytest.mark.parametrize(("case", "expected"), ONE.items(), ids=str)
def test_a_single_instance(case: tuple[str, str], expected: str) -> None:
    verdict = judged([case])
    assert dropped(verdict) == ({} if expected == "passed" else {0: expected})
    assert verdict.reason == (Reason.PASSED if expected == "passed" else Reason.NO_VALID_INSTANCE)


SEVERAL: dict[str, tuple[Cases, dict[int, str], str]] = {
    "one of two is unusable": ([("a", "b"), ("c", "")], {1: "empty_output"}, "passed"),
    "the same input with different outputs": (
        [("a", "b"), ("a", "c"), ("d", "e")],
        dict.fromkeys(range(3), "contradictory_outputs"), "contradictory_outputs"),
    "no input with different outputs": ([("", "b"), ("", "c")], {}, "passed"),
    "a contradiction with an unusable one is none": ([("a", "b"), ("a", "")], {1: "empty_output"}, "passed"),
    "repeats": (
        [("a", "b"), ("a", "b"), ("", "c"), ("", "c")],
        {1: "repeated_instance", 3: "repeated_instance"}, "passed"),
    "nothing at all": ([], {}, "no_valid_instance"),
}  # fmt: skip


@pytest.mark.parametrize(("cases", "drops", "reason"), SEVERAL.values(), ids=SEVERAL)
def test_instances_beside_each_other(cases: Cases, drops: dict[int, str], reason: str) -> None:
    verdict = judged(cases)
    assert (dropped(verdict), verdict.reason) == (drops, reason)


def test_a_cut_answer_loses_its_last_instance_before_contradictions_are_looked_for() -> None:
    verdict = judged([("a", "b"), ("a", "c")], truncated=True)
    assert (dropped(verdict), verdict.keep) == ({1: "truncated"}, True)


@pytest.mark.parametrize(("there", "limit", "stay"), [(5, 5, 5), (6, 5, 5), (9, 5, 5), (3, 1, 1), (3, 9, 3)])
def test_at_most_so_many_stay(there: int, limit: int, stay: int) -> None:
    drops = dropped(judged([(str(i), "x") for i in range(there)], limit=limit))
    assert there - len(drops) == stay
    assert set(drops.values()) <= {"over_limit"}


def test_repeats_do_not_count_towards_the_limit() -> None:
    assert "over_limit" not in dropped(judged([("a", "b")] * 9 + [("c", "d")], limit=2)).values()


def test_the_draw_depends_on_the_task_and_the_seed_alone() -> None:
    cases = [(str(i), "x") for i in range(20)]
    assert dropped(judged(cases)) == dropped(judged(cases))
    assert dropped(judged(cases)) != dropped(judged(cases, seed=7))
    assert dropped(judged(cases)) != dropped(judged(cases, instruction="Do that."))


TEXT = st.sampled_from(["", "a", "b", "c:", "d"])


@given(st.lists(st.tuples(TEXT, TEXT), max_size=12), st.booleans())
def test_what_stays_is_usable_different_and_of_one_mind(cases: Cases, truncated: bool) -> None:
    verdict = judged(cases, truncated=truncated)
    stayed = [case for i, case in enumerate(cases) if i not in dropped(verdict)]
    assert verdict.keep is bool(stayed)
    assert len(set(stayed)) == len(stayed) <= 5
    assert len({given for given, _ in stayed if given}) == len([given for given, _ in stayed if given])
    assert all(made and given != made and not (given + made).endswith(":") for given, made in stayed)


def test_instances_with_calls_are_compared() -> None:
    """Of conversations that call tools the second of two equal ones is a repeat."""

    def called(city: str) -> Instance:
        call = Call(tool="weather", arguments={"city": city})
        return Instance(turns=(Turn(role="assistant", content="", calls=(call,)),), output="Rain.")

    draft = Draft(stage="instances", instruction="Do it.", instances=(called("Graz"), called("Bonn"), called("Graz")))
    assert dropped(open_filter("instances", {}).judge(draft)) == {2: "repeated_instance"}


def test_a_case_may_end_in_a_call() -> None:
    """What an assistant called is trained on like what it says: a case without an output is usable if it calls."""
    call = Call(tool="weather", arguments={"city": "Graz"})
    calls = Instance(input="Rain?", turns=(Turn(role="assistant", content="", calls=(call,)),))
    draft = Draft(stage="instances", instruction="Do it.", instances=(calls, Instance(input="Sun?")))
    assert dropped(open_filter("instances", {}).judge(draft)) == {1: "empty_output"}
