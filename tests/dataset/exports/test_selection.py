"""Which samples of an evolution are exported, and which rows belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfinstruct.dataset.files import export
from selfinstruct.errors import ConfigError
from selfinstruct.records import Draft, Instance, Seed
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import STAGE, exported, ledger_of, lines, task

SEEDS = tuple(
    Seed(id=name, instruction=f"Seed {name}.", instances=(Instance(output="x"),) if name != "c" else ())
    for name in ("b", "a", "c", "1.1")
)


def evolved(round: int, parent: str, root: str, operator: str = "deepen") -> Draft:
    return task(
        f"{parent} at {round}.", ("", "y"), round=round, parent=parent, root=root, operator=operator, depth=round
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Seeds b, a, c and one called 1.1; 1.1 and 2.1 of round 1, 3.1 and 4.1 of round 2, 5.1 of round 3."""
    return ledger_of(
        tmp_path / "run", evolved(1, "a", "a"), evolved(1, "b", "b"), evolved(2, "1.1", "a"), evolved(2, "c", "c"),
        evolved(3, "3.1", "a"), seeds=SEEDS,
    )  # fmt: skip


def ids(run: Path, **options: Any) -> list[str]:
    exported(run, "jsonl", **options)
    return [row["id"] for row in lines(run / "export/samples.jsonl")]


@pytest.mark.parametrize(("options", "expected"), [
    ({}, ["1.1", "2.1", "3.1", "4.1", "5.1"]),
    ({"rounds": (2,)}, ["3.1", "4.1"]),
    ({"rounds": (3, 1)}, ["1.1", "2.1", "5.1"]),
    ({"rounds": (0,)}, ["b", "a", "c", "1.1"]),
    ({"rounds": (0, 3)}, ["b", "a", "c", "1.1", "5.1"]),
    ({"rounds": (3,), "parents": True}, ["a", "1.1", "3.1", "5.1"]),
    ({"rounds": (2,), "parents": True}, ["a", "c", "1.1", "3.1", "4.1"]),
    ({"parents": True}, ["b", "a", "c", "1.1", "2.1", "3.1", "4.1", "5.1"]),
    ({"rounds": (0, 2), "parents": True}, ["b", "a", "c", "1.1", "1.1", "3.1", "4.1"]),
])  # fmt: skip
def test_rounds_and_their_parents_are_chosen_each_once_sources_first(
    run: Path, options: dict[str, Any], expected: list[str]
) -> None:
    assert ids(run, **options) == expected


def test_a_source_row_without_an_output_is_counted_and_named(run: Path) -> None:
    told: list[str] = []
    from selfinstruct.inputs.config import ExportConfig

    with Ledger.open(run) as ledger:
        [written] = export(ledger, STAGE, ["evol"], run / "export", ExportConfig(rounds=(0,)), notice=told.append)
    assert (written.rows, told) == (3, ["evol: 1 sample without an output left out: c"])


def test_a_family_is_never_parted(run: Path) -> None:
    for seed in range(8):
        exported(run, "jsonl", validation=1, split_seed=seed, parents=True)
        roots = [
            {row["root"] for row in lines(run / f"export/samples-{split}.jsonl")} for split in ("train", "validation")
        ]
        assert not roots[0] & roots[1]
        assert roots[0] | roots[1] == {"a", "b", "c"}


def test_provenance_of_an_evolution_tells_the_family_of_each_row(run: Path) -> None:
    exported(run, "evol", rounds=(2,), parents=True, provenance=True)
    rows = lines(run / "export/evol.jsonl")
    columns = ["instruction", "output", "id", "parent", "root", "operator", "round", "depth", "recipe", "model"]
    assert [list(row) for row in rows] == [columns] * 4
    assert list(rows[0].values())[2:] == ["a", None, "a", None, 0, None, None, None]
    assert list(rows[2].values())[2:] == ["3.1", "1.1", "a", "deepen", 2, 2, "self-instruct", "m"]


def test_provenance_columns_have_one_type_though_the_first_rows_have_none(run: Path) -> None:
    import pyarrow.parquet as pq

    exported(run, "evol", parents=True, provenance=True, file_type="parquet")
    table = pq.read_table(run / "export/evol.parquet")
    assert table["round"].to_pylist() == [0, 0, 1, 1, 2, 2, 3]
    assert table["parent"].to_pylist() == [None, None, "a", "b", "1.1", "c", "3.1"]


def test_a_round_that_there_is_not_is_answered_with_those_there_are(run: Path) -> None:
    with pytest.raises(ConfigError, match="run: nothing is kept of round 7; there are rounds 0, 1, 2, 3"):
        ids(run, rounds=(1, 7))


@pytest.mark.parametrize("options", [{"rounds": (0,)}, {"parents": True}])
def test_a_run_that_is_no_evolution_has_no_rounds(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = ledger_of(tmp_path / "run", task("A.", ("", "a")))
    with pytest.raises(ConfigError, match="run: no evolution, so there are no rounds; leave out --round and --parents"):
        exported(folder, "alpaca", **options)
