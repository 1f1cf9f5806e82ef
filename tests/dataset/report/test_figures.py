"""Each figure is what a plain count over the ledger gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfinstruct.dataset.report import figures as module
from selfinstruct.dataset.report.figures import figures, similarity, verbs
from selfinstruct.records import Draft, Instance, Reason, Verdict
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import Fates
from tests.support.made import Maker, making
from tests.support.runs import Model, Run, evolving
from tests.support.sql import count

STAGES = ("instructions", "instances")

DUPLICATE = Verdict(filter="rouge", keep=False, reason="near_duplicate", detail={"of": "s1", "score": 0.9})


def test_the_figures_of_a_run_add_up(tmp_path: Path) -> None:
    run = Run(tmp_path, n=40).drive(Model())
    with Ledger.open(run.folder) as ledger:
        found = figures(ledger, "run")
        kept = count(ledger, "kept", "stage = 'instances'")
        drafts, dropped = ledger.count("drafts"), count(ledger, "drops")
        instances = ledger.query("SELECT sum(json_array_length(instances)) FROM kept WHERE stage = 'instances'")[0][0]
    assert found["kept"] == kept == 40
    assert sum(stage["drafts"] for stage in found["stages"]) == drafts
    assert sum(drop["drafts"] for drop in found["drops"]) == dropped
    assert sum(found["lengths"]["instruction"]["counts"]) == kept
    assert sum(found["lengths"]["output"]["counts"]) == sum(found["lengths"]["input"]["counts"]) == instances
    assert sum(found["similarity"]["seed"]["counts"]) == sum(found["similarity"]["other"]["counts"]) == kept
    assert found["spent"]["completion"] == sum(stage["completion"] for stage in found["spend"])
    assert len(found["lengths"]["labels"]) == len(found["lengths"]["input"]["counts"])


def test_what_no_answer_accounts_for_is_told_as_estimated_and_priced_by_who_was_asked(tmp_path: Path) -> None:
    judge = {"kind": "scripted", "script": "x", "price_in": 1000.0, "price_out": 0.0}
    run = Run(
        tmp_path, n=4, recipe={"name": "evol-instruct"}, judge=judge, backend={"price_in": 0.0, "price_out": 10.0},
    ).drive(Model(evolving()), judge=Model(evolving()))  # fmt: skip
    run.change("UPDATE answers SET prompt_tokens = 100")
    run.recount()
    run.change(
        "UPDATE meter SET prompt_tokens = 100 * requests, completion_tokens ="
        " (SELECT sum(completion_tokens) FROM answers WHERE role = meter.role)"
    )
    run.change("UPDATE meter SET prompt_tokens = prompt_tokens + 7 WHERE role = 'judge'")
    with Ledger.open(run.folder) as ledger:
        found = figures(ledger, "run")
    assert found["spend"][-1] == {
        "stage": "estimated", "answers": 0, "prompt": 7, "cached": 0, "completion": 0, "cost": pytest.approx(0.007),
    }  # fmt: skip
    judged, written = run.count("answers", "role = 'judge'"), run.query("SELECT sum(completion_tokens) FROM answers")
    judging = run.query("SELECT sum(completion_tokens) FROM answers WHERE role = 'judge'")
    asked = (judged * 100 + 7) / 1000 + (written[0][0] - judging[0][0]) / 100_000
    assert judged > 0
    assert found["spent"]["cost"] == pytest.approx(asked)


def test_the_commonest_verbs_come_with_their_commonest_nouns() -> None:
    orders = (
        ["Write a poem about the sea."] * 3 + ["Write a story for the cat."] * 2 + ["Name the rivers of the world."]
    )
    found = verbs([*orders, "What is the time?"])
    assert found["top"] == [
        {"name": "write", "count": 5, "nouns": [{"name": "poem", "count": 3}, {"name": "story", "count": 2}]},
        {"name": "name", "count": 1, "nouns": [{"name": "river", "count": 1}]},
    ]
    assert (found["pairs"], found["distinct"], found["verbless"], found["shown"], found["of"]) == (6, 3, 1, 6, 7)


def test_only_so_many_verbs_and_nouns_are_shown() -> None:
    orders = [f"{verb} the {noun} of the king." for verb in ("Paint", "Sell", "Steal") for noun in "abcdefg"]
    many = [f"Describe the thing{n} of the king." for n in range(30)]
    found = verbs([*orders, *many])
    assert all(len(verb["nouns"]) <= 4 for verb in found["top"])
    assert found["top"][0]["name"] == "describe"


def test_likeness_is_the_highest_to_a_seed_and_to_any_other() -> None:
    found = similarity(["a b c d", "a b c d", "x y"], ["a b c e"], "rouge")
    assert found["seed"]["counts"][15] == 2  # 0.75, twice
    assert found["seed"]["counts"][0] == 1
    assert found["other"]["counts"][19] == 2  # each the other's double
    assert found["other"]["median"] == 1.0


def test_too_many_pairs_are_sampled_the_same_way_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{n} word{n + 1} word{n + 2}" for n in range(60)]
    monkeypatch.setattr(module, "PAIRS", 600)
    found = similarity(texts, ["word1 word2 word3"], "rouge")
    assert (found["seed"]["of"], found["other"]["of"]) == (60, 10)
    assert found == similarity(texts, ["word1 word2 word3"], "rouge")


def test_a_run_without_samples_has_figures_too(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        empty = figures(maker.ledger, "run")
    assert (empty["kept"], empty["tried"], empty["facets"]) == (0, 0, {})
    assert empty["verbs"]["top"] == empty["drops"] == empty["acceptance"] == []


def test_acceptance_is_told_stretch_by_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS", 2)
    with making(tmp_path) as maker:
        maker.invented("a", "b", "c")
        maker.invented("d", verdict=DUPLICATE)
        maker.invented("e", "f", verdict=DUPLICATE)
        maker.invented("g", "h")
        found = figures(maker.ledger, "run")
    assert found["acceptance"] == [{"stage": "instructions", "points": [[4, 0.75], [8, 0.5]]}]


def evolve(maker: Maker) -> None:
    refused = Verdict(filter="elimination", keep=False, reason="refusal")
    child = maker.evolved("Write a poem about winter.", "s1", "deepen", 1)
    maker.evolved("Sorry.", child, "deepen", 2, verdict=refused)
    maker.evolved("No.", child, "in_breadth", 2, verdict=refused)
    open_ = Draft(stage="instructions", instruction="x", facets={"operator": "deepen", "round": "3"})
    maker.job("instructions", (open_, Verdict(filter="elimination", keep=True)))


def test_each_evolution_is_counted_once_by_round_and_operator(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        evolve(maker)
        found = Fates(maker.ledger, [STAGES]).told()
    counted = ("value", "kept", "dropped", "undecided", "reasons")
    assert {name: [tuple(row[key] for key in counted) for row in rows] for name, rows in found.items()} == {
        "round": [("1", 1, 0, 0, {}), ("2", 0, 2, 0, {"refusal": 2}), ("3", 0, 0, 1, {})],
        "operator": [("deepen", 1, 1, 1, {"refusal": 1}), ("in_breadth", 0, 1, 0, {"refusal": 1})],
    }


def test_a_report_counts_as_status_does(tmp_path: Path) -> None:
    """A family dropped with its answer is one, and one that was one too many is undecided (F1)."""
    kin: dict[str, Any] = {"facets": {"operator": "deepen"}}
    with making(tmp_path) as maker:
        for verdict, reason in (("refusal", Reason.PARENT_DROPPED), ("", Reason.SURPLUS)):
            asked = Draft(stage="instructions", instruction="x", **kin)
            [id] = maker.job("instructions", (asked, Verdict(filter="f", keep=not verdict, reason=verdict or "passed")))
            maker.task("x", parent=id, verdict=Verdict(filter="f", keep=False, reason=reason), **kin)
        [row] = figures(maker.ledger, "run")["facets"]["operator"]
    assert (row["made"], row["kept"], row["dropped"], row["undecided"]) == (2, 0, 1, 1)


def test_lengths_are_in_words_of_any_script(tmp_path: Path) -> None:
    with making(tmp_path) as maker:
        draft = Draft(stage="instances", instruction="写一首诗", instances=(Instance(input="", output="one two"),))
        maker.job("instances", (draft, Verdict(filter="instances", keep=True)))
        lengths = figures(maker.ledger, "run")["lengths"]
    by = {part: dict(zip(lengths["labels"], lengths[part]["counts"], strict=True)) for part in ("instruction", "input")}
    assert by["instruction"]["4–5"] == 1
    assert by["input"]["0"] == 1
    assert lengths["output"]["median"] == 2
