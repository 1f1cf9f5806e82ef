"""Near-duplicates among rows of one's own: decided as `rouge_score` decides, and nothing is lost on the way."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.dataset.dedup import Keep, decide, dedup, dedup_files
from selfinstruct.errors import ConfigError, RunError, SourceError
from selfinstruct.inputs.rows import read_rows

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
SEA, MOON, RIVERS = "Write a poem about the sea.", "Write a poem about the moon.", "Name three rivers in France."
texts_of_few_words = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=6).map(" ".join), max_size=25
)


def write(path: Path, *texts: Any, field: str = "instruction") -> Path:
    path.write_text("".join(json.dumps({field: text, "row": row}) + "\n" for row, text in enumerate(texts)))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@given(texts_of_few_words, texts_of_few_words, st.floats(0.3, 1.0))
@settings(deadline=None)
def test_a_text_is_kept_exactly_when_no_kept_or_fixed_text_scores_above_the_threshold(
    texts: list[str], against: list[str], threshold: float
) -> None:
    decisions = list(decide(texts, against=against, threshold=threshold))
    pool = list(against)
    for text, decision in zip(texts, decisions, strict=True):
        scores = [SCORER.score(text, other)["rougeL"].fmeasure for other in pool]
        assert (decision.match is None) == (max(scores, default=0.0) <= threshold)
        if decision.match is None:
            pool.append(text)
        else:
            assert decision.match.score == max(scores)


def test_kept_rows_stay_as_they_are_and_dropped_ones_say_what_they_are_too_like(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", SEA, MOON, RIVERS)
    report = dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl")
    assert report == (3, 2, 1, 0)
    assert lines(tmp_path / "kept.jsonl") == [{"instruction": SEA, "row": 0}, {"instruction": RIVERS, "row": 2}]
    near = {"of": f"{source}:1", "text": SEA, "score": 10 / 12}
    assert lines(tmp_path / "dropped.jsonl") == [{"instruction": MOON, "row": 1, "near_duplicate": near}]


def test_a_fixed_corpus_is_compared_with_and_never_written(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", SEA, RIVERS)
    fixed = write(tmp_path / "fixed.jsonl", "Name four rivers in France.")
    report = dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl", against=[fixed])
    assert report == (2, 1, 1, 1)
    assert [row["instruction"] for row in lines(tmp_path / "kept.jsonl")] == [SEA]
    assert lines(tmp_path / "dropped.jsonl")[0]["near_duplicate"]["of"] == f"{fixed}:1"


@pytest.mark.parametrize(("keep", "stays"), [("first", 0), ("last", 2), ("longest", 1)])
def test_which_row_of_a_group_stays_can_be_chosen(tmp_path: Path, keep: Any, stays: int) -> None:
    source = write(tmp_path / "in.jsonl", SEA, "Write a poem about the wide sea.", MOON)
    dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl", keep=keep)
    assert [row["row"] for row in lines(tmp_path / "kept.jsonl")] == [stays]


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_every_kind_of_file_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    first = tmp_path / f"first{suffix}"
    dedup_files([write(tmp_path / "in.jsonl", SEA, MOON, RIVERS)], first, tmp_path / f"dropped{suffix}")
    again = tmp_path / "again.jsonl"
    report = dedup_files([first], again, tmp_path / "none.jsonl")
    assert (report.rows, report.dropped) == (2, 0)
    assert [row["instruction"] for row in lines(again)] == [SEA, RIVERS]


def test_what_is_no_text_stands_in_a_csv_as_json(tmp_path: Path) -> None:
    dedup_files([write(tmp_path / "in.jsonl", SEA, MOON)], tmp_path / "kept.csv", tmp_path / "dropped.csv")
    with (tmp_path / "dropped.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert json.loads(row["near_duplicate"])["text"] == SEA


@pytest.mark.parametrize(
    ("rows", "field", "problem"),
    [
        ([SEA, None], "instruction", "in.jsonl:2: instruction is NoneType, not text"),
        ([SEA, 3], "instruction", "in.jsonl:2: instruction is int, not text"),
        ([SEA], "question", "in.jsonl:1: no field 'question'; there are instruction, row: name one with --field"),
    ],
)
def test_a_row_without_text_is_named_and_nothing_is_written(
    tmp_path: Path, rows: list[Any], field: str, problem: str
) -> None:
    with pytest.raises(SourceError, match=problem):
        dedup_files(
            [write(tmp_path / "in.jsonl", *rows)], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl", field=field
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("against", "kept", "dropped"),
    [
        ("in.jsonl", "k.jsonl", "d.jsonl"),
        ("", "in.jsonl", "d.jsonl"),
        ("", "k.jsonl", "in.jsonl"),
        ("", "k.jsonl", "k.jsonl"),
    ],
)
def test_one_file_in_two_roles_is_refused(tmp_path: Path, against: str, kept: str, dropped: str) -> None:
    source = write(tmp_path / "in.jsonl", SEA)
    before = source.read_bytes()
    fixed = [tmp_path / against] if against else []
    with pytest.raises(SourceError, match="given both as"):
        dedup_files([source], tmp_path / kept, tmp_path / dropped, against=fixed)
    assert source.read_bytes() == before


def test_a_kind_of_file_that_cannot_be_written_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kept\.txt: unknown kind of file; known: \.jsonl, \.json, \.csv, \.parquet"):
        dedup_files([write(tmp_path / "in.jsonl", SEA)], tmp_path / "kept.txt", tmp_path / "dropped.jsonl")


def test_a_place_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        dedup_files([write(tmp_path / "in.jsonl", SEA)], tmp_path / "kept.jsonl", tmp_path / "file" / "dropped.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in.jsonl"]


def test_a_lone_surrogate_passes_through_as_an_escape(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"instruction":"Name \\ud800 a river."}\n')
    dedup_files([source], tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl")
    assert (tmp_path / "kept.jsonl").read_text() == '{"instruction":"Name \\ud800 a river."}\n'


@given(texts_of_few_words, texts_of_few_words, st.sampled_from(["first", "last", "longest"]))
def test_dedup_parts_as_files_are_parted(texts: list[str], against: list[str], keep: Keep) -> None:
    """In memory the same rows are kept, and dropped for the same ones, as from files to files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, fixed = write(folder / "in.jsonl", "a", *texts), write(folder / "fixed.jsonl", "b", *against)
        kept, dropped = dedup(read_rows(source), against=read_rows(fixed), tokenizer="rouge", keep=keep)
        dedup_files([source], folder / "kept.jsonl", folder / "gone.jsonl", against=[fixed], keep=keep)
        assert [row.fields for row in kept] == lines(folder / "kept.jsonl")
        told = [(one.item.fields, one.of.place, one.of.fields["instruction"], one.score) for one in dropped]
        near = [(row, row.pop("near_duplicate")) for row in lines(folder / "gone.jsonl")]
        assert told == [(row, one["of"], one["text"], one["score"]) for row, one in near]


def test_dedup_gives_back_the_same_objects() -> None:
    """Texts and rows of any shape stay what they were, in their order."""
    chat = {"messages": [{"role": "user", "content": SEA}, {"role": "assistant", "content": "Blue."}]}
    rows = [RIVERS, {"instruction": MOON}, chat, {"prompt": RIVERS}]
    kept, dropped = dedup(rows)
    assert [id(one) for one in kept] == [id(rows[0]), id(rows[1])]
    assert [(one.item, one.of) for one in dropped] == [(chat, rows[1]), (rows[3], RIVERS)]
    assert dedup([{"q": SEA, "row": 1}, {"q": MOON, "row": 2}], field="q").dropped[0].item == {"q": MOON, "row": 2}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dedup("my.jsonl"), SourceError,
         "my.jsonl: one thing, where many are compared; of a file, hand in read_rows(…)"),
        (lambda: dedup([SEA, 7]), SourceError, "row 2: a number, where a text or a row is compared; take it out"),
        (lambda: dedup([{"text": SEA}]), SourceError,
         "row 1: no instruction; there are text: name a field with --field, or take the row out"),
        (lambda: dedup([SEA], against=[{"a": 1}], field="b"), SourceError,
         "against, row 1: no field 'b'; there are a: name one with --field"),
        (lambda: dedup([SEA], threshold=70), ConfigError,
         "threshold = 70: takes a number above 0 and at most 1, such as 0.7"),
        (lambda: dedup([SEA], tokenizer="words"), ConfigError, "unknown tokenizer 'words'; known: rouge, unicode"),
        (lambda: dedup([SEA], keep="frist"), ConfigError,
         "unknown keep 'frist'; did you mean first? known: first, last, longest"),
    ],
)  # fmt: skip
def test_dedup_says_what_is_wrong(call: Callable[[], object], error: type[Exception], message: str) -> None:
    """In one line."""
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
