"""What people's files say is what is read, and what cannot be read is said in one line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfinstruct.errors import SourceError
from selfinstruct.inputs.rows import read_rows

Fields = dict[str, Any]
ROWS: list[Fields] = [
    {"instruction": "Add.", "output": "4"},
    {"instruction": "Grüße,\n„schön“", "output": ""},
]

# Each example writes its file anew, into the one folder that the test was given.
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


def fields_of(path: Path) -> list[Fields]:
    return [row.fields for row in read_rows(path)]


def outcome(path: Path) -> list[Fields] | str:
    """The rows, or what is said instead."""
    try:
        return fields_of(path)
    except SourceError as error:
        return str(error)


def write_jsonl(path: Path, rows: list[Fields]) -> None:
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def write_json(path: Path, rows: list[Fields]) -> None:
    path.write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode())


def write_wrapped(path: Path, rows: list[Fields]) -> None:
    path.write_bytes(json.dumps({"version": 1, "data": rows}).encode())


def write_csv(path: Path, rows: list[Fields]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path: Path, rows: list[Fields]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[Fields]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1)


def write_gz(path: Path, rows: list[Fields]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_utf16(path: Path, rows: list[Fields]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-16")


FORMATS: dict[str, Callable[[Path, list[Fields]], None]] = {
    "my.jsonl": write_jsonl,
    "lines.json": write_jsonl,
    "nameless": write_jsonl,
    "my.json": write_json,
    "array.jsonl": write_json,
    "wrapped.json": write_wrapped,
    "my.csv": write_csv,
    "my.tsv": write_tsv,
    "my.parquet": write_parquet,
    "my.jsonl.gz": write_gz,
    "wide.jsonl": write_utf16,
}

# No lone surrogates: no encoding has them.
text = st.text(st.characters(codec="utf-8"), max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
json_rows = st.lists(st.dictionaries(text, json_values, max_size=4), min_size=1, max_size=4)
text_rows = st.lists(st.fixed_dictionaries({"instruction": text, "input": text}), min_size=1, max_size=4)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_back_what_was_written(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, ROWS)
    assert fields_of(tmp_path / name) == ROWS


@in_one_folder
@given(rows=json_rows, name=st.sampled_from(["my.jsonl", "array.jsonl", "my.jsonl.gz", "wide.jsonl"]))
def test_any_json_rows_are_read_back_equal(tmp_path: Path, name: str, rows: list[Fields]) -> None:
    FORMATS[name](tmp_path / name, rows)
    assert fields_of(tmp_path / name) == rows


@in_one_folder
@given(rows=text_rows, name=st.sampled_from(sorted(FORMATS)))
def test_any_rows_of_text_are_read_back_equal(tmp_path: Path, name: str, rows: list[Fields]) -> None:
    FORMATS[name](tmp_path / name, rows)
    assert fields_of(tmp_path / name) == rows


@in_one_folder
@given(
    content=st.binary(max_size=80) | st.text('[]{}",:1ae\n\r\\ü', max_size=60).map(str.encode),
    name=st.sampled_from(["my.jsonl", "my.json", "my.csv", "my.parquet", "nameless"]),
)
def test_arbitrary_bytes_are_read_or_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = outcome(path)
    assert said if isinstance(said, list) else said.startswith(str(path)) and "\n" not in said


@in_one_folder
@given(cut=st.integers(min_value=0), name=st.sampled_from(sorted(FORMATS)))
def test_a_file_cut_anywhere_never_gives_a_row_that_was_not_written(tmp_path: Path, cut: int, name: str) -> None:
    path = tmp_path / name
    FORMATS[name](path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % len(whole)])
    if path.suffix not in (".csv", ".tsv"):  # a shorter cell is a cell; only JSON and Parquet can tell
        said = outcome(path)
        assert said in (ROWS, ROWS[:1]) if isinstance(said, list) else "\n" not in said


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("my.jsonl", b'\n{"a": 1}\r\n\n  \n{"a": 2}', ["my.jsonl:2", "my.jsonl:5"]),
        ("my.json", b'[{"a": 1},\n{"a": 2}]', ["my.json item 1", "my.json item 2"]),
        ("my.csv", b'a\r\n"1\n1"\r\n\r\n2\r\n', ["my.csv row 2", "my.csv row 4"]),
    ],
)
def test_a_row_has_the_place_where_a_person_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, places: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    assert [row.place for row in read_rows(Path(name))] == places


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("bom.jsonl", b'\xef\xbb\xbf{"a": "x"}\n', {"a": "x"}),
        ("bom.csv", b"\xef\xbb\xbfa,b\nx,y\n", {"a": "x", "b": "y"}),
        ("no-bom.jsonl", '{"a": "ü"}\n'.encode("utf-16-le"), {"a": "ü"}),
        ("wide.csv", "a,b\nü,y\n".encode("utf-16"), {"a": "ü", "b": "y"}),
        ("half-of-europe.csv", b"a;b\nx;1,5\n", {"a": "x", "b": "1,5"}),
        ("one.json", b'{"instruction": "x", "instances": []}', {"instruction": "x", "instances": []}),
        ("separators.jsonl", '{"a": "x\u2028y\x85z"}\n'.encode(), {"a": "x\u2028y\x85z"}),
    ],
)
def test_the_dirt_of_real_files_is_read_silently(tmp_path: Path, name: str, content: bytes, fields: Fields) -> None:
    (tmp_path / name).write_bytes(content)
    assert fields_of(tmp_path / name) == [fields]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("my.jsonl", b"", " no rows in it that can be read; bring a file with a row for each task"),
        ("my.parquet", b"", " no rows in it that can be read; bring a file with a row for each task"),
        ("my.json", b"[]", " no rows in it that can be read; bring a file with a row for each task"),
        ("my.csv", b"a,b\n", " no rows in it that can be read; bring a file with a row for each task"),
        (
            "my.jsonl",
            b'{"a": 1}\n{"a": 1,}\n{"a": 1}\n',
            "2: not JSON: expecting property name enclosed in double quotes at column 9; write one whole object",
        ),
        (
            "my.jsonl",
            b'{"a": 1}\n{"a": "x, {y}',
            "2: half-written: the file ends inside a row; take that row out, or write the file again",
        ),
        (
            "my.jsonl",
            '{"a": "é'.encode()[:-1],
            "1: half-written: the file ends inside a row; take that row out, or write the file again",
        ),
        (
            "my.json",
            b'[\n{"a": 1},\n\n{"a": 2',
            "4: half-written: the file ends inside a row; take that row out, or write the file again",
        ),
        ("my.json", b'[\n\n{"a" 1}\n]', "3: not JSON: expecting ':' delimiter at column 6; mend it there"),
        ("my.json", b"42", " holds a number alone; bring an array of objects, one for each row"),
        (
            "my.json",
            b'[{"a": 1}, "b"]',
            ' item 2: text where a row is expected; write an object such as {"instruction": "…"}',
        ),
        (
            "my.jsonl",
            b'{"a": 1}\nnull\n',
            '2: null where a row is expected; write an object such as {"instruction": "…"}',
        ),
        (
            "my.jsonl",
            b'{"a": %s}' % (b"9" * 5000),
            "1: not JSON: a number with thousands of digits; write one",
        ),
        ("my.jsonl", b"[" * 100_000, "1: not JSON: nested too deeply; mend it there"),
        (
            "my.jsonl",
            b'{"a": "x"}\n{"a": "caf\xe9"}\n',
            "2: not UTF-8: byte 0xe9 at byte 11 of the line; save it as UTF-8, or convert it: `iconv",
        ),
        (
            "my.jsonl",
            '{"a": "x"}\n'.encode("utf-16")[:-1],
            " not whole UTF-16 after line 0; save it again, as UTF-8",
        ),
        (
            "my.csv",
            b"a,b\n1\n",
            " row 2: the header has 2 cells and this row 1; put quotes around a cell that holds ','",
        ),
        (
            "my.csv",
            b'a,b\n1,"2\n3,4\n',
            " row 2: not CSV: unexpected end of data; look for a quote that is not closed",
        ),
        ("my.csv", b"a,a\n1,2\n", " row 1: two columns are called 'a'; rename one of them"),
        (
            "my.xlsx",
            b"PK\x03\x04....",
            " a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
        ),
        (
            "notes",
            b"Dear diary\n",
            " no kind of file that can be read; bring JSONL, JSON, CSV, TSV or Parquet",
        ),
        (
            "my.parquet",
            b"version https://git-lfs",
            " not a Parquet file in spite of its name (a git-lfs pointer?)",
        ),
        ("my.parquet", b"PAR1....", " damaged Parquet: "),
        (
            "my.jsonl.gz",
            gzip.compress(b'{"a": 1}\n', mtime=0)[:-9],
            " the compressed file is half-written or damaged; fetch",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_with_place_cause_and_cure(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        fields_of(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.removeprefix(f"{path}:").removeprefix(str(path)).startswith(message), said


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"my\.jsonl: no such file or folder; check the spelling"):
        fields_of(tmp_path / "my.jsonl")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.touch(mode=0o000)
    with pytest.raises(SourceError, match="cannot be read: Permission denied; mend that"):
        fields_of(path)


def test_an_error_of_the_system_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: File name too long; mend that"):
        fields_of(tmp_path / ("x" * 300))


def test_bad_rows_can_be_collected_while_reading_goes_on(tmp_path: Path) -> None:
    path, bad = tmp_path / "my.jsonl", []
    path.write_bytes(b'{"a": 1}\nnot JSON\n\xff\n[]\n{"a": 2}\n')
    rows = list(read_rows(path, lambda place, problem: bad.append(place)))
    assert [row.fields for row in rows] == [{"a": 1}, {"a": 2}]
    assert bad == [f"{path}:2", f"{path}:3", f"{path}:4"]


def test_a_line_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    rows = [{"instruction": "x" * 10_000_000}, {"instruction": "y"}]
    for name in ("my.jsonl", "my.csv"):
        FORMATS[name](tmp_path / name, rows)
        assert fields_of(tmp_path / name) == rows


@pytest.mark.parametrize("name", ["my.jsonl", "my.csv"])
def test_a_file_of_lines_is_never_in_memory_whole(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, [{"instruction": "x" * 1000, "input": "y"}] * 5000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tmp_path / name)) == 5000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_folder_of_data_files_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, row in {"b.jsonl": ROWS[0], "a/part-2.jsonl": ROWS[1], ".hidden.jsonl": {"no": 1}}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_jsonl(tmp_path / name, [row])
    write_json(tmp_path / "dataset_info.json", [{"no": 1}])
    assert [row.place for row in read_rows(tmp_path)] == [
        f"{tmp_path}/a/part-2.jsonl:1",
        f"{tmp_path}/b.jsonl:1",
    ]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Nothing\n")
    with pytest.raises(SourceError, match="no data files in this folder; name a file or folder with JSONL, JSON"):
        fields_of(tmp_path)


def test_a_folder_of_several_kinds_is_refused_because_rows_may_be_there_twice(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "alpaca.jsonl", ROWS)
    write_json(tmp_path / "alpaca.json", ROWS)
    with pytest.raises(SourceError, match=r"several kinds \(.json, .jsonl\); name the one file to read"):
        fields_of(tmp_path)


def test_a_folder_whose_readme_points_elsewhere_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nconfigs:\n- data_files: https://example.com/a.jsonl\n---\n")
    with pytest.raises(SourceError, match="names files elsewhere; download them"):
        fields_of(tmp_path)


def test_a_folder_that_only_datasets_understands_is_read_by_it(tmp_path: Path) -> None:
    import datasets

    single = datasets.Dataset.from_list(ROWS)
    single.save_to_disk(tmp_path / "single")
    datasets.DatasetDict(train=single, test=single.select([1])).save_to_disk(tmp_path / "splits")
    assert fields_of(tmp_path / "single") == ROWS
    assert [row.place.removeprefix(str(tmp_path)) for row in read_rows(tmp_path / "splits")] == [
        "/splits[train] row 1",
        "/splits[train] row 2",
        "/splits[test] row 1",
    ]
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_readme_says_which_files_of_a_folder_are_the_data(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "good.jsonl", ROWS)
    write_jsonl(tmp_path / "old.jsonl", ROWS)
    one = "- config_name: {0}\n  data_files: {0}.jsonl\n"
    readme = tmp_path / "README.md"
    readme.write_text("---\nconfigs:\n" + one.format("good") + "---\n")
    assert fields_of(tmp_path) == ROWS
    readme.write_text("---\nconfigs:\n" + one.format("good") + one.format("old") + "---\n")
    with pytest.raises(
        SourceError, match=r"`datasets` cannot load it: Config name is missing\. Please pick one"
    ) as caught:
        fields_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_importing_the_readers_imports_no_heavy_library() -> None:
    heavy = (
        "import sys, selfinstruct.inputs.seeds; print({'pyarrow', 'pandas', 'numpy', 'datasets'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


# -- datasets that lead elsewhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret.arrow", "a/../../secret.arrow", "/etc/passwd", "~/x.arrow", "..", "..\\x"])
@pytest.mark.parametrize("kind", ["file", "split", "file of a split", "readme", "readme in a list", "readme escaped"])
def test_a_dataset_reads_nothing_outside_its_folder(kind: str, name: str, tmp_path: Path) -> None:
    """Whichever of its files names one."""
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "data.jsonl").write_text('{"instruction": "x"}\n')
    state = json.dumps({"_data_files": [{"filename": name}], "_split": None})
    if kind == "file":
        (folder / "state.json").write_text(state)
    elif kind.startswith("readme"):
        told = [name, "x"] if "list" in kind else name
        files = json.dumps(told) if "escaped" not in kind else '"' + "".join(f"\\x{ord(c):02x}" for c in name) + '"'
        front = (
            f"---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: {files}\n---\n"
        )
        (folder / "README.md").write_text(front)
    else:
        splits = [name if kind == "split" else "train"]
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        (folder / "train" / "state.json").write_text(state)
    with pytest.raises(SourceError, match=r"outside its folder|files elsewhere"):
        list(read_rows(folder))
