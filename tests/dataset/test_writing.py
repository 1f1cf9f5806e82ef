"""Rows of any shape into files, as they come: what Parquet must know beforehand is found out on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfinstruct.dataset import writing
from selfinstruct.dataset.writing import write_rows
from selfinstruct.errors import RunError
from selfinstruct.inputs.rows import read_rows

Fields = dict[str, Any]

text = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)
turns = st.lists(st.fixed_dictionaries({"role": text, "content": text | st.none()}), max_size=3)
some = {"a": text, "b": st.integers(-9, 9), "c": turns, "d": st.booleans()}
rows_of_columns_that_come_and_go = st.lists(
    st.fixed_dictionaries({}, optional={name: values | st.none() for name, values in some.items()}),
    min_size=1,
    max_size=12,
).filter(lambda rows: rows[0])


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP", 2)


@given(rows_of_columns_that_come_and_go)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parquet_holds_every_row_though_columns_and_types_show_late(
    small_groups: None, tmp_path_factory: pytest.TempPathFactory, rows: list[Fields]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    assert write_rows(((0, row) for row in rows), path) == [len(rows)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    whole = [{name: row.get(name) for name in columns} for row in rows]
    assert [row.fields for row in read_rows(path)] == whole
    assert [file.name for file in path.parent.iterdir()] == ["rows.parquet"]


def test_numbers_become_wide_enough_for_those_that_follow(small_groups: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(((0, {"n": n}) for n in (1, 2, 2.5)), path)
    assert [row.fields["n"] for row in read_rows(path)] == [1.0, 2.0, 2.5]


@pytest.mark.parametrize("odd", [[1], {"b": 1}, 7])
@pytest.mark.parametrize("place", [1, 3])
def test_a_column_of_two_kinds_is_one_line_and_leaves_no_file(
    small_groups: None, tmp_path: Path, odd: Any, place: int
) -> None:
    rows: list[Fields] = [{"a": "x"}] * 5
    rows[place] = {"a": odd}
    with pytest.raises(RunError) as caught:
        write_rows(((0, row) for row in rows), tmp_path / "rows.parquet")
    assert str(caught.value).startswith("rows.parquet: a column that Parquet cannot hold: ")
    assert str(caught.value).endswith("; write .jsonl instead")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_is_an_escape_in_json_and_replaced_in_parquet(tmp_path: Path) -> None:
    row = {"a": ["odd \ud800", {"b": "\udfff"}]}
    for kind, read in (("jsonl", row["a"]), ("json", row["a"])):
        write_rows([(0, row)], tmp_path / f"rows.{kind}")
        assert [one.fields["a"] for one in read_rows(tmp_path / f"rows.{kind}")] == [read]
    write_rows([(0, {"a": "odd \ud800", "b": ["\udfff"]})], tmp_path / "rows.parquet")
    assert [one.fields for one in read_rows(tmp_path / "rows.parquet")] == [{"a": "odd \ufffd", "b": ["\ufffd"]}]


def test_parquet_is_written_in_groups_that_bound_what_is_held(tmp_path: Path) -> None:
    from pyarrow import parquet

    write_rows(((0, {"n": n}) for n in range(25_000)), tmp_path / "rows.parquet")
    with parquet.ParquetFile(tmp_path / "rows.parquet") as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [10_000, 10_000, 5_000]
