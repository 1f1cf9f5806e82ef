"""Near-duplicates among rows that people have: the exact ROUGE-L of a run, without a run.

    kept, dropped = dedup(rows, against=benchmark)

Greedy, as in a run: rows are taken one by one, and one that is above the threshold with any row kept before, or with
any row of the fixed corpus, is dropped. `dedup_files` does that from files to files, whatever their size.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

from selfinstruct.dataset.writing import write_rows
from selfinstruct.errors import ConfigError, SourceError
from selfinstruct.filters.rouge_index import Match, RougeIndex
from selfinstruct.inputs.config import unknown_name
from selfinstruct.inputs.rows import Row, kind_of, read_rows
from selfinstruct.inputs.seeds import instruction_of
from selfinstruct.text.words import TOKENIZERS, rouge_tokens

Item = TypeVar("Item", bound=str | Mapping[str, Any] | Row)
"""A text, or a row: its fields, or as `read_rows` gives it."""
Keep = Literal["first", "last", "longest"]
"""Which row of a group of near-duplicates stays: the first or last in the files' order, or the one with the longest
text."""


class Decision(NamedTuple):
    """What becomes of one text."""

    number: int
    """Its place among the texts, from 0."""
    match: Match | None
    """None when it is kept; else what it is too like. Numbers count the fixed corpus first, then the kept texts."""


class Report(NamedTuple):
    """What `dedup_files` did."""

    rows: int
    kept: int
    dropped: int
    against: int
    """Dropped for a text of the fixed corpus; part of `dropped`."""


class Duplicate(NamedTuple, Generic[Item]):
    """One that was dropped."""

    item: Item
    of: Any
    """What it is too like: one that was kept, or one of the fixed corpus."""
    score: float
    """ROUGE-L F1 of the two, above the threshold and at most 1."""


class Deduplicated(NamedTuple, Generic[Item]):
    """What became of texts or rows: each of them is in one of the two, in its order."""

    kept: list[Item]
    dropped: list[Duplicate[Item]]


def dedup(
    items: Iterable[Item],
    *,
    against: Iterable[str | Mapping[str, Any] | Row] = (),
    threshold: float = 0.7,
    field: str | None = None,
    tokenizer: str = "unicode",
    keep: Keep = "first",
) -> Deduplicated[Item]:
    """Part near-duplicates from the rest, exactly, as `selfinstruct dedup` does from files to files.

        kept, dropped = dedup(["Name a river.", "Name a river!"])

    Args:
        items: texts, or rows: dicts, or what `read_rows` gives.
        against: a fixed corpus of texts or rows that all are compared with.
        threshold: ROUGE-L F1 above which one is dropped, above 0 and at most 1.
        field: of rows, the field that is compared; None for the instruction, or a chat's first question.
        tokenizer: what a word is: `unicode`, or `rouge` as published; the two are equal on ASCII.
        keep: which of near-duplicates stays: `first`, `last` or `longest`.

    Raises:
        ConfigError: a threshold, tokenizer or `keep` that cannot be.
        SourceError: a row lacks the field, or holds no text there.
    """
    _check_settings(threshold, tokenizer, keep)
    given, fixed = _listed(items), _listed(against)
    index = RougeIndex(threshold, TOKENIZERS[tokenizer])
    index.add_many(_compared(fixed, "against, row", field))
    drops, cited = _drops(index, _compared(given, "row", field), keep), [*fixed, *given]
    kept = [item for number, item in enumerate(given) if number not in drops]
    dropped = [Duplicate(given[number], cited[of], score) for number, (of, score) in sorted(drops.items())]
    return Deduplicated(kept, dropped)


def _check_settings(threshold: float, tokenizer: str, keep: str) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold = {threshold}: takes a number above 0 and at most 1, such as 0.7")
    for kind, name, known in (("tokenizer", tokenizer, list(TOKENIZERS)), ("keep", keep, list(get_args(Keep)))):
        if name not in known:
            raise unknown_name(kind, name, known)


def _listed(items: Iterable[Any]) -> list[Any]:
    if isinstance(items, str | Path | Mapping):
        raise SourceError(f"{items!s:.60}: one thing, where many are compared; of a file, hand in read_rows(…)")
    return list(items)


def _compared(items: Sequence[Any], place: str, field: str | None) -> list[str]:
    """What of each is compared; one without a place of its own is called by its number, from 1."""
    return [_text_of(item, f"{place} {number}", field) for number, item in enumerate(items, 1)]


def _text_of(item: Any, place: str, field: str | None) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping | Row):
        raise SourceError(f"{place}: {kind_of(item)}, where a text or a row is compared; take it out")
    return _text(item if isinstance(item, Row) else Row(place, dict(item)), field)


def decide(
    texts: Iterable[str],
    *,
    against: Iterable[str] = (),
    threshold: float = 0.7,
    tokenize: Callable[[str], list[str]] = rouge_tokens,
) -> Iterator[Decision]:
    """The decision on each text, in order; the first of each group of near-duplicates is kept."""
    index = RougeIndex(threshold, tokenize)
    index.add_many(against)
    return _decisions(index, texts)


def _decisions(index: RougeIndex, texts: Iterable[str]) -> Iterator[Decision]:
    return (Decision(number, index.admit(text)) for number, text in enumerate(texts))


def dedup_files(
    sources: Sequence[Path],
    kept: Path,
    dropped: Path,
    *,
    against: Sequence[Path] = (),
    field: str | None = None,
    threshold: float = 0.7,
    tokenize: Callable[[str], list[str]] = rouge_tokens,
    keep: Keep = "first",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write what is kept of the rows of some files, and what was dropped, with what and how near.

    Rows stay in their order, as they are. A dropped row has a field `near_duplicate` with `of` (the place of the row
    it is too like), `text` and `score`. Files are written beside their places and renamed.

    Args:
        sources: files or folders that `rows.read_rows` reads.
        kept: where to write what is kept; its suffix says how (`.jsonl`, `.json`, `.csv`, `.parquet`).
        dropped: likewise for what is dropped.
        against: files whose rows are compared with, and not written.
        field: the column that is compared; without one the instruction, as seeds have it (`seeds.instruction_of`).
        progress: is told now and then how many rows are decided, and of how many.

    Raises:
        SourceError: a file cannot be read, a row lacks the field or holds no text there, a file stands in two roles.
    """
    check_roles(sources, against, kept, dropped)
    index = RougeIndex(threshold, tokenize)
    index.add_many(_texts(against, field))
    fixed, texts = len(index), _texts(sources, field)
    drops = _drops(index, texts, keep, progress)
    # A row is cited by its number among all that were read: the fixed corpus first, then the files.
    cited = _cited(chain(_rows(against), _rows(sources)), {of for of, _ in drops.values()}, field)

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in enumerate(_rows(sources)):
            if (drop := drops.get(number)) is None:
                yield 0, row.fields
            else:
                of, score = drop
                yield 1, {**row.fields, "near_duplicate": {**cited[of], "score": score}}

    write_rows(rows(), kept, dropped)
    return Report(len(texts), len(texts) - len(drops), len(drops), sum(of < fixed for of, _ in drops.values()))


def _drops(
    index: RougeIndex, texts: Sequence[str], keep: Keep, progress: Callable[[int, int], None] | None = None
) -> dict[int, tuple[int, float]]:
    """For each row to drop, by its place among `texts`: the row that it is too like, and the score.

    The row that speaks against it is numbered with the fixed corpus first, which `index` holds already.
    """
    fixed = len(index)
    kept = array("q", range(fixed))
    drops: dict[int, tuple[int, float]] = {}
    order = _order(texts, keep)
    for number, (place, match) in zip(order, _decisions(index, map(texts.__getitem__, order)), strict=True):
        if match is None:
            kept.append(fixed + number)
        else:
            drops[number] = (kept[match.number], match.score)
        if progress is not None and ((done := place + 1) % 1024 == 0 or done == len(texts)):
            progress(done, len(texts))
    return drops


def _cited(rows: Iterable[Row], numbers: set[int], field: str | None) -> dict[int, dict[str, str]]:
    """Place and text of the rows of these numbers: read once more, which costs less than to hold every place."""
    return {
        number: {"of": row.place, "text": _text(row, field)} for number, row in enumerate(rows) if number in numbers
    }


def _rows(paths: Iterable[Path]) -> Iterator[Row]:
    return chain.from_iterable(read_rows(path) for path in paths)


def _texts(paths: Iterable[Path], field: str | None) -> list[str]:
    """The text of every row."""
    return [_text(row, field) for row in _rows(paths)]


def _text(row: Row, field: str | None) -> str:
    """What of a row is compared.

    Raises:
        SourceError: the row lacks the field (names the fields there are), or holds no text there.
    """
    text = instruction_of(row.fields) if field is None else row.fields.get(field)
    if not isinstance(text, str):
        raise SourceError(f"{row.place}: {_trouble(field, row.fields)}")
    return text


def _trouble(field: str | None, fields: dict[str, Any]) -> str:
    there = ", ".join(map(str, fields)) or "none"
    if field is None:
        return f"no instruction; there are {there}: name a field with --field, or take the row out"
    if field not in fields:
        return f"no field {field!r}; there are {there}: name one with --field"
    return f"{field} is {type(fields[field]).__name__}, not text: name another field with --field, or mend the row"


def _order(texts: Sequence[str], keep: Keep) -> Sequence[int]:
    """The order in which rows are taken, so that the one to keep of each group comes first."""
    if keep == "first":
        return range(len(texts))
    if keep == "last":
        return range(len(texts))[::-1]
    return sorted(range(len(texts)), key=lambda number: -len(texts[number]))


def check_roles(sources: Sequence[Path], against: Sequence[Path], kept: Path, dropped: Path) -> None:
    """One file in two roles is a slip that would cost a file, or drop every row.

    Raises:
        SourceError: names the file and both roles.
    """
    given = [(path, "a file to deduplicate") for path in sources] + [(path, "--against") for path in against]
    roles: dict[Path, str] = {}
    for path, role in [*given, (kept, "where the kept rows go"), (dropped, "where the dropped rows go")]:
        if (before := roles.get(path.resolve())) is not None:
            raise SourceError(f"{path}: given both as {before} and as {role}; name different files")
        roles[path.resolve()] = role
