"""Which samples are exported, and which rows belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfinstruct.dataset.files import export
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import ExportConfig
from selfinstruct.records import Draft, Instance, Review, Seed
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import STAGE, empty, exported, ledger_of, lines, settled, task

SEEDS = tuple(
    Seed(id=name, instruction=f"Seed {name}.", instances=(Instance(output="x"),) if name != "c" else ())
    for name in ("b", "a", "c", "1.1")
)


def made(round: int, root: str, operator: str = "deepen") -> Draft:
    """A task of a family; `round` and `operator` are facets of it."""
    facets = {"operator": operator, "round": str(round)}
    return task(f"{root} at {round}.", ("", "y")).model_copy(update={"family": root, "facets": facets})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Seeds b, a, c and one called 1.1; 1.1 and 2.1 of round 1, 3.1 and 4.1 of round 2, 5.1 of round 3."""
    with empty(tmp_path / "run", SEEDS) as ledger:
        for draft, parent in (
            (made(1, "a"), None), (made(1, "b", "widen"), None), (made(2, "a", "widen"), "1.1"), (made(2, "c"), None),
            (made(3, "a"), "3.1"),
        ):  # fmt: skip
            settled(ledger, draft, parent=parent, shown=() if parent else (draft.family,))
    return tmp_path / "run"


def ids(run: Path, **options: Any) -> list[str]:
    exported(run, "jsonl", **options)
    return [row["id"] for row in lines(run / "export/samples.jsonl")]


def of(*rounds: int) -> dict[str, tuple[str, ...]]:
    return {"round": tuple(map(str, rounds))}


@pytest.mark.parametrize(("options", "expected"), [
    ({}, ["1.1", "2.1", "3.1", "4.1", "5.1"]),
    ({"facets": of(2)}, ["3.1", "4.1"]),
    ({"facets": of(3, 1)}, ["1.1", "2.1", "5.1"]),
    ({"facets": {"operator": ("widen",)}}, ["2.1", "3.1"]),
    ({"facets": {**of(2, 3), "operator": ("deepen",)}}, ["4.1", "5.1"]),
    ({"facets": of(3), "sources": True}, ["b", "a", "c", "1.1", "5.1"]),
    ({"facets": of(3), "parents": True}, ["a", "1.1", "3.1", "5.1"]),
    ({"facets": of(2), "parents": True}, ["a", "c", "1.1", "3.1", "4.1"]),
    ({"parents": True}, ["b", "a", "c", "1.1", "2.1", "3.1", "4.1", "5.1"]),
    ({"facets": of(2), "parents": True, "sources": True}, ["b", "a", "c", "1.1", "1.1", "3.1", "4.1"]),
])  # fmt: skip
def test_rows_are_chosen_by_facets(run: Path, options: dict[str, Any], expected: list[str]) -> None:
    """Within one facet any of its values will do, each facet must be met; each row comes once, sources first."""
    assert ids(run, **options) == expected


def test_a_review_changes_no_choice(run: Path) -> None:
    """What a person dropped is no row, and what was made from it keeps its other ancestors."""
    with Ledger.open(run, write=True) as ledger:
        ledger.review(Review(draft="3.1", keep=False))
    assert ids(run, facets=of(3), parents=True) == ["a", "1.1", "5.1"]


def test_parents_of_another_stage(tmp_path: Path) -> None:
    """In a chain of recipes a family begins with a task of an earlier stage, which counts as its source row."""
    with empty(tmp_path / "run") as ledger:
        first = settled(ledger, task("First.", ("", "x")).model_copy(update={"stage": "earlier"}))
        settled(ledger, task("Other.", ("", "x")).model_copy(update={"stage": "earlier"}))
        between = settled(ledger, Draft(stage="evolve", instruction="Between.", family=first), parent=first)
        last = settled(ledger, made(1, first), parent=between)
    assert ids(tmp_path / "run") == [last]
    assert ids(tmp_path / "run", parents=True) == [first, last]


def test_a_source_row_without_an_output_is_named(run: Path) -> None:
    """It is counted and named where it is left out."""
    told: list[str] = []
    options = ExportConfig(facets=of(1), sources=True)
    with Ledger.open(run) as ledger:
        [written] = export(ledger, STAGE, ["evol"], run / "export", options, notice=told.append)
    assert (written.rows, told) == (5, ["evol: 1 sample without an output left out: c"])


def test_a_family_is_never_parted(run: Path) -> None:
    """Whatever the seed, the rows of a family are all for training or all for validation."""
    for seed in range(8):
        exported(run, "evol", validation=1, split_seed=seed, parents=True, provenance=True)
        families = [
            {row["family"] for row in lines(run / f"export/evol-{split}.jsonl")} for split in ("train", "validation")
        ]
        assert not families[0] & families[1]
        assert families[0] | families[1] == {"a", "b", "c"}


def test_a_recipe_may_call_anything_round(tmp_path: Path) -> None:
    """A key of `meta` is a recipe's own: none is looked for, and none is missed (F3)."""
    folder = ledger_of(tmp_path / "run", task("A.", ("", "a"), round=1), task("B.", ("", "b"), round=2))
    exported(folder, "alpaca", "jsonl", validation=1, provenance=True)
    rows = [row for split in ("train", "validation") for row in lines(folder / f"export/samples-{split}.jsonl")]
    assert sorted(row["round"] for row in rows) == [1, 2]


def test_provenance_tells_the_family_of_each_row(run: Path) -> None:
    """Of a row that was made from others: its family, what it was made from, and its facets."""
    exported(run, "evol", facets=of(2), parents=True, provenance=True)
    rows = lines(run / "export/evol.jsonl")
    columns = ["instruction", "output", "id", "family", "parent", "operator", "round", "recipe", "model"]
    assert [list(row) for row in rows] == [columns] * 4
    assert list(rows[0].values())[2:] == ["a", "a", None, None, None, None, None]
    assert list(rows[2].values())[2:] == ["3.1", "a", "1.1", "widen", "2", "self-instruct", "m"]


def test_provenance_columns_have_one_type(run: Path) -> None:
    """They have it though the first rows have no value."""
    import pyarrow.parquet as pq

    exported(run, "evol", parents=True, provenance=True, file_type="parquet")
    table = pq.read_table(run / "export/evol.parquet")
    assert table["round"].to_pylist() == [None, None, "1", "1", "2", "2", "3"]
    assert table["parent"].to_pylist() == [None, None, "a", "b", "1.1", "c", "3.1"]


@pytest.mark.parametrize(("facets", "message"), [
    (of(1, 7), "run: nothing is kept of round '7'; there are: 1, 2, 3"),
    ({"colour": ("red",)}, "run: its tasks have no facet 'colour'; there are: operator, round"),
])  # fmt: skip
def test_an_unknown_choice_names_the_known(run: Path, facets: dict[str, tuple[str, ...]], message: str) -> None:
    """A facet or a value that no task has is answered with those that there are."""
    with pytest.raises(ConfigError, match=message):
        ids(run, facets=facets)


@pytest.mark.parametrize(("options", "message"), [
    ({"sources": True}, "run: its tasks were not made from source rows; leave out --parents and --sources"),
    ({"parents": True}, "run: its tasks were not made from source rows; leave out --parents and --sources"),
    ({"facets": {"round": ("1",)}}, "run: its tasks have no facet 'round'; there are: none"),
])  # fmt: skip
def test_a_run_without_families_has_no_parents(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """What a run cannot choose by is refused in one line."""
    folder = ledger_of(tmp_path / "run", task("A.", ("", "a")))
    with pytest.raises(ConfigError, match=message):
        exported(folder, "alpaca", **options)
