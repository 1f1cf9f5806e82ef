"""Files of rows that people bring, read one row at a time, each with its place.

    for row in read_rows("my.jsonl"):
        print(row.place, row.fields["instruction"])         # my.jsonl:17 Translate the sentence …

JSONL, JSON, CSV, TSV (each also as .gz), Parquet, and folders of them or saved by `datasets`. What the
columns mean is not known here: `seeds` knows it for seeds, other readers for themselves. JSONL, CSV and
Parquet are never held in memory whole, for files may have millions of rows; nothing is ever fetched.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from selfinstruct.errors import SourceError

OnBad = Callable[[str, str], None]
"""Told of a row that cannot be read: its place, what is wrong and what to do; reading goes on if it returns."""

Line = tuple[int, str]
"""A line of text with its number, from 1; its end is still on it."""

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it with `zstd -d`",
    b"BZh": "compressed with bzip2: unpack it with `bunzip2`",
    b"\xfd7zXZ": "compressed with xz: unpack it with `unxz`",
}
_LINES = (".jsonl", ".ndjson")
_TABLES = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}
"""Suffixes of tables, with the delimiters each may have: half of Europe's spreadsheets write CSV with `;`."""
_KINDS = (*_LINES, ".json", *_TABLES, ".parquet")
_READABLE = "JSONL, JSON, CSV, TSV or Parquet"
_HALF_WRITTEN = "half-written: the file ends inside a row; take that row out, or write the file again"
_NOT_DATA = {"config.json", "dataset_info.json", "dataset_infos.json"}
"""Files that lie beside data and describe it."""
_LISTS_OF_ONE_ROW = {"instances", "messages", "conversations", "conversation", "prompt"}
"""Keys whose list belongs to the row that it stands in, and is not the list of rows."""
_BATCH = 1_000
_LARGEST_CELL = 2**31 - 1  # the most that fits a C long on every system


class Row(NamedTuple):
    """One row as it stands in its file: nothing renamed, nothing converted."""

    place: str
    """Where a person finds it: `my.jsonl:17`, `my.csv row 4` (the header is row 1), `my.json item 3`."""
    fields: dict[str, Any]


def refuse(place: str, problem: str) -> NoReturn:
    """Stop at the first row that cannot be read: raises `SourceError`."""
    raise SourceError(f"{place}: {problem}")


def read_rows(path: str | Path, on_bad: OnBad = refuse) -> Iterator[Row]:
    """The rows of a file or folder, in order; at least one. Nothing is read before the first is asked for.

    Args:
        path: the file or folder; its kind is told by its first bytes, then by its suffix.
        on_bad: handed each row that cannot be read; the default raises.

    Raises:
        SourceError: missing, unreadable, of no known kind, broken as a whole, or without a single row.
    """
    path = Path(path)
    try:
        rows = _folder_rows(path, on_bad) if path.is_dir() else _file_rows(path, on_bad)
        first = next(rows, None)
        if first is None:
            refuse(str(path), "no rows in it that can be read; bring a file with a row for each task")
        yield first
        yield from rows
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file or folder; check the spelling, and where you are") from None
    except (EOFError, zlib.error):
        raise SourceError(f"{path}: the compressed file is half-written or damaged; fetch it again") from None
    except OSError as error:
        why = error.strerror or error
        raise SourceError(f"{path}: cannot be read: {why}; mend that, then try again") from None


# Folders

_STATE, _SPLITS = "state.json", "dataset_dict.json"
"""What `datasets` writes beside the data that it saves."""
_OUTSIDE = "names files outside its folder; name the folder or file that is meant"


def _folder_rows(folder: Path, on_bad: OnBad) -> Iterator[Row]:
    """What `datasets` alone understands goes to it; data files are read here, for their lines have places."""
    files = _data_files(folder)
    kinds = sorted({_suffix(file) for file in files})
    if any((folder / name).exists() for name in (_STATE, _SPLITS)):
        _check_saved(folder)
        yield from _dataset_rows(folder, lambda datasets: datasets.load_from_disk(str(folder)))
    elif _has_configurations(folder) or (not files and any(folder.rglob("*.arrow"))):
        yield from _dataset_rows(folder, lambda datasets: datasets.load_dataset(str(folder), streaming=True))
    elif not files:
        refuse(str(folder), f"no data files in this folder; name a file or folder with {_READABLE}")
    elif len(kinds) > 1:
        # Often the same rows twice, as in a folder of exports: reading all of them would be a silent guess.
        refuse(str(folder), f"holds files of several kinds ({', '.join(kinds)}); name the one file to read")
    else:
        yield from chain.from_iterable(_file_rows(file, on_bad) for file in files)


def _data_files(folder: Path) -> list[Path]:
    """The data files at any depth, in the order of their names, without hidden ones, as `datasets` does."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if _suffix(file) in _KINDS
        and file.name not in _NOT_DATA
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
        and file.is_file()
    ]


def _has_configurations(folder: Path) -> bool:
    """Whether the README's front matter says which files are the data, as it does on the Hub."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    front = text.split("\n---", 1)[0] if text.startswith("---") else ""
    _, said, configurations = front.partition("\nconfigs:")
    if "://" in configurations or (said and any(map(_leads_out, _texts(_front_matter(front))))):
        refuse(str(folder), "its README.md names files elsewhere; download them and name their folder")
    return bool(said)


def _front_matter(front: str) -> Any:
    """The files that a README's front matter names."""
    yaml = import_module("yaml")
    try:
        return yaml.safe_load(front.removeprefix("---")).get("configs")
    except (yaml.YAMLError, AttributeError, ValueError, RecursionError):
        return None  # `datasets` will say


def _check_saved(folder: Path) -> None:
    """Refuse a saved dataset which says that its data are files beyond its folder."""
    for split in _saved(folder / _SPLITS, "splits"):
        if _leads_out(split):
            refuse(str(folder / _SPLITS), _OUTSIDE)
    for state in (folder / _STATE, *folder.glob(f"*/{_STATE}")):
        if any(_leads_out(file) for file in _saved(state, "_data_files")):
            refuse(str(state), _OUTSIDE)


def _saved(path: Path, key: str) -> list[str]:
    """The texts under a key of a saved dataset's JSON; none where `datasets` will say what is wrong with it."""
    try:
        told = json.loads(path.read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, RecursionError, AttributeError):
        return []
    return list(_texts(told))


def _texts(value: Any) -> Iterator[str]:
    """Every text in lists and objects."""
    if isinstance(value, str):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _texts(one)


def _leads_out(path: str) -> bool:
    """Whether a path does not stay below the folder that it is in."""
    return ".." in re.split(r"[/\\]", path) or path.startswith(("/", "~", "\\"))


def _dataset_rows(folder: Path, load: Callable[[Any], Any]) -> Iterator[Row]:
    """The rows of every split, by `datasets`, with its connection to the Hub switched off."""
    datasets = import_module("datasets")
    with _offline(datasets):
        try:
            loaded = load(datasets)
            for split, rows in loaded.items() if isinstance(loaded, dict) else [("", loaded)]:
                tables = rows.with_format("arrow").iter(_BATCH)
                yield from _numbered(f"{folder}{f'[{split}]' if split else ''}", tables)
        except Exception as error:  # noqa: BLE001 - another library on unknown data raises whatever it likes
            problem = f"`datasets` cannot load it: {_one_line(error)}; name one of its data files instead"
            refuse(str(folder), problem)


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """HF_DATASETS_OFFLINE for a while: read from the environment at import, so set where it was put."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


# Files


def _file_rows(path: Path, on_bad: OnBad) -> Iterator[Row]:
    with path.open("rb") as stream:
        head = stream.peek(8)
        if head.startswith(_PARQUET):
            yield from _parquet_rows(path)
        elif head.startswith(_GZIP):
            unpacked: io.BufferedReader = io.BufferedReader(cast("Any", gzip.GzipFile(fileobj=stream)))
            yield from _text_rows(path, unpacked, on_bad)
        else:
            yield from _text_rows(path, stream, on_bad)


def _parquet_rows(path: Path) -> Iterator[Row]:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            yield from _numbered(str(path), file.iter_batches(_BATCH))
    except (arrow.ArrowException, OSError) as error:
        refuse(str(path), f"damaged Parquet: {_one_line(error)}; fetch or write it again")


def _numbered(name: str, batches: Any) -> Iterator[Row]:
    """The rows of Arrow batches or tables; a batch bounds the memory even where a file is one row group."""
    rows = chain.from_iterable(batch.to_pylist() for batch in batches)
    return (Row(f"{name} row {number}", fields) for number, fields in enumerate(rows, 1))


def _text_rows(path: Path, stream: io.BufferedReader, on_bad: OnBad) -> Iterator[Row]:
    head, suffix = stream.peek(8), _suffix(path)
    for magic, problem in _FOREIGN.items():
        if head.startswith(magic):
            refuse(str(path), problem)
    lines = _lines(path, stream, on_bad)
    if suffix in _TABLES:
        yield from _table_rows(path, lines, _TABLES[suffix], on_bad)
    elif suffix == ".parquet" and head:
        refuse(str(path), "not a Parquet file in spite of its name (a git-lfs pointer?); fetch it again")
    else:
        yield from _json_rows(path, lines, suffix, on_bad)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


# Lines


def _lines(path: Path, stream: io.BufferedReader, on_bad: OnBad) -> Iterator[Line]:
    """The lines of a text file in UTF-8, or in UTF-16 or UTF-32, which its first bytes give away."""
    head = stream.peek(4)[:4]
    if head.startswith(_BOM):
        stream.read(len(_BOM))
    encoding = json.detect_encoding(head)
    if encoding.startswith("utf-8"):
        return _utf8_lines(path, stream, on_bad)
    # Windows PowerShell writes UTF-16, and whoever has that has no iconv: so it is read, not refused. A byte
    # order mark leaves no doubt; without one, the texts read here start with ASCII, so the zero bytes tell.
    return _wide_lines(path, stream, encoding)


def _utf8_lines(path: Path, stream: BinaryIO, on_bad: OnBad) -> Iterator[Line]:
    for number, raw in enumerate(stream, 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            on_bad(f"{path}:{number}", _not_utf8(raw, error))
            continue
        yield number, text


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    if error.reason == "unexpected end of data" and not raw.endswith(b"\n"):
        return _HALF_WRITTEN
    return (
        f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line; "
        "save it as UTF-8, or convert it: `iconv -f WINDOWS-1252 -t UTF-8`"
    )


def _wide_lines(path: Path, stream: io.BufferedReader, encoding: str) -> Iterator[Line]:
    number = 0
    try:
        with io.TextIOWrapper(stream, encoding, newline="\n") as texts:
            for number, text in enumerate(texts, 1):
                yield number, text
    except UnicodeError:
        refuse(str(path), f"not whole {encoding.upper()} after line {number}; save it again, as UTF-8")


# JSON, as lines or as one document


def _json_rows(path: Path, lines: Iterator[Line], suffix: str, on_bad: OnBad) -> Iterator[Row]:
    spoken = (line for line in lines if not line[1].isspace())
    opening = list(islice(spoken, 2))
    if not opening:
        return
    start = opening[0][1].lstrip()
    if suffix not in _KINDS and start[0] not in "[{":
        refuse(str(path), f"no kind of file that can be read; bring {_READABLE}, with that as its suffix")
    everything = chain(opening, spoken)
    if _is_document(start, suffix, alone=len(opening) == 1):
        yield from _document_rows(path, list(everything), on_bad)
    else:
        yield from _line_rows(path, everything, on_bad)


def _is_document(start: str, suffix: str, *, alone: bool) -> bool:
    """Whether a JSON file is one document: names mislead, so the first line with something on it decides."""
    if suffix in _LINES and start[0] != "[" and start.rstrip() != "{":
        return False
    return alone or not _is_json(start)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _line_rows(path: Path, lines: Iterator[Line], on_bad: OnBad) -> Iterator[Row]:
    name = str(path)
    for number, text in lines:
        place = f"{name}:{number}"
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            # Only a file's last line can lack its end.
            cut = not text.endswith("\n") and _is_cut(text, error)
            problem = f"not JSON: {_fault(error)}; write one whole object on each line"
            on_bad(place, _HALF_WRITTEN if cut else problem)
            continue
        if isinstance(fields, dict):
            yield Row(place, fields)
        else:
            on_bad(place, _not_an_object(fields))


def _document_rows(path: Path, lines: list[Line], on_bad: OnBad) -> Iterator[Row]:
    text = "".join(line for _, line in lines)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        at = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        place = f"{path}:{lines[min(at, len(lines)) - 1][0]}"
        refuse(place, _HALF_WRITTEN if _is_cut(text, error) else f"not JSON: {_fault(error)}; mend it there")
    for number, fields in enumerate(_rows_within(path, document), 1):
        if isinstance(fields, dict):
            yield Row(f"{path} item {number}", fields)
        else:
            on_bad(f"{path} item {number}", _not_an_object(fields))


def _rows_within(path: Path, document: Any) -> list[Any]:
    """The rows of a document: an array, the one list in an object, or an object that is the only row."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        refuse(str(path), f"holds {kind_of(document)} alone; bring an array of objects, one for each row")
    lists = [key for key, value in document.items() if isinstance(value, list)]
    if len(lists) == 1 and (len(document) == 1 or lists[0] not in _LISTS_OF_ONE_ROW):
        return cast("list[Any]", document[lists[0]])
    return [document]


def _is_cut(text: str, error: Exception) -> bool:
    """Whether text that is not JSON looks like the beginning of JSON."""
    closing = {"{": "}", "[": "]"}.get(text.lstrip()[:1])
    if closing is None or not isinstance(error, json.JSONDecodeError):
        return False
    ends_early = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    return ends_early or not text.rstrip().endswith(closing)


def _fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number with thousands of digits"


def _not_an_object(value: Any) -> str:
    return f'{kind_of(value)} where a row is expected; write an object such as {{"instruction": "…"}}'


def kind_of(value: Any) -> str:
    """What a value of a row is called in messages, such as `a number` or `a list`."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


# Tables


def _table_rows(path: Path, lines: Iterator[Line], delimiters: str, on_bad: OnBad) -> Iterator[Row]:
    opening = next(lines, None)
    if opening is None:
        return
    # A limit of the whole process, meant against unclosed quotes, which strict reading finds by itself.
    csv.field_size_limit(_LARGEST_CELL)
    delimiter = max(delimiters, key=opening[1].count)
    reader = csv.reader((text for _, text in chain([opening], lines)), delimiter=delimiter, strict=True)
    records = _records(path, reader, on_bad)
    _, header = next(records, (1, []))
    _check_header(path, header)
    for number, record in records:
        place = f"{path} row {number}"
        if len(record) == len(header):
            yield Row(place, dict(zip(header, record, strict=True)))
        else:
            cells = f"the header has {len(header)} cells and this row {len(record)}"
            on_bad(place, f"{cells}; put quotes around a cell that holds {delimiter!r}")


def _records(path: Path, reader: Iterator[list[str]], on_bad: OnBad) -> Iterator[tuple[int, list[str]]]:
    """Records with their numbers as a spreadsheet shows them; blank ones are passed over, and counted."""
    number = 0
    while True:
        number += 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            problem = f"not CSV: {error}; look for a quote that is not closed or not doubled"
            on_bad(f"{path} row {number}", problem)
            continue
        if record is None:
            return
        if record:
            yield number, record


def _check_header(path: Path, header: list[str]) -> None:
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        refuse(f"{path} row 1", f"two columns are called {min(twice)!r}; rename one of them")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
