"""Near-duplicates among rows that people have: the exact ROUGE-L of a run, without a run.

    for decision in decide(texts, against=benchmark_texts):
        if decision.match is None: ...

Greedy, as in a run: rows are taken one by one, and one that is above the threshold with any row kept before, or with any row of the
fixed corpus, is dropped. `dedup_files` does that from files to files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfinstruct.errors import SourceError
from selfinstruct.filters.rouge_index import Match, RougeIndex
from selfinstruct.rows import Row, read_rows
from selfinstruct.text import rouge_tokens
from selfinstruct.writing import write_rows

Keep = Literal["first", "last", "longest"]
"""Which row of a group of near-duplicates stays: the first or last in the files' order, or the one with the longest text."""


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


class Corpus:
    """A fixed corpus and what has been kept so far: `admit` keeps a text, or says what it is too like.

    Args:
        threshold: drop above this ROUGE-L F1 (published by Self-Instruct: 0.7).
        tokenize: what the words of a text are (`selfinstruct.text.TOKENIZERS`).
        against: texts that are compared with and never kept.
    """

    def __init__(
        self,
        threshold: float = 0.7,
        tokenize: Callable[[str], list[str]] = rouge_tokens,
        against: Iterable[str] = (),
    ) -> None:
        self._index = RougeIndex(threshold, tokenize)
        self._index.add_many(against)
        self.fixed = len(self._index)
        """How many texts the fixed corpus has."""

    def admit(self, text: str) -> Match | None:
        """Keep a text, or the match that speaks against it."""
        return self._index.admit(text)


def decide(
    texts: Iterable[str],
    *,
    against: Iterable[str] = (),
    threshold: float = 0.7,
    tokenize: Callable[[str], list[str]] = rouge_tokens,
) -> Iterator[Decision]:
    """The decision on each text, in order; the first of each group of near-duplicates is kept."""
    corpus = Corpus(threshold, tokenize, against)
    for number, text in enumerate(texts):
        yield Decision(number, corpus.admit(text))


def dedup_files(
    sources: Sequence[Path],
    kept: Path,
    dropped: Path,
    *,
    against: Sequence[Path] = (),
    field: str = "instruction",
    threshold: float = 0.7,
    tokenize: Callable[[str], list[str]] = rouge_tokens,
    keep: Keep = "first",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write what is kept of the rows of some files, and what was dropped, with what and how near.

    Rows stay in their order, as they are. A dropped row has a field `near_duplicate` with `of` (the place of the row it is too like),
    `text` and `score`. Files are written beside their places and renamed.

    Args:
        sources: files or folders that `rows.read_rows` reads.
        kept: where to write what is kept; its suffix says how (`.jsonl`, `.json`, `.csv`, `.parquet`).
        dropped: likewise for what is dropped.
        against: files whose rows are compared with, and not written.
        field: the column that is compared.
        progress: is told now and then how many rows are decided, and of how many.

    Raises:
        SourceError: a file cannot be read, a row lacks the field or holds no text there, a file stands in two roles.
    """
    _check_roles(sources, against, kept, dropped)
    fixed, places = _texts(against, field), _texts(sources, field)
    corpus = Corpus(threshold, tokenize, (text for _, text in fixed))
    admitted: list[int] = []
    matches: dict[int, Match] = {}
    for done, number in enumerate(_order([text for _, text in places], keep), start=1):
        match = corpus.admit(places[number][1])
        if match is None:
            admitted.append(number)
        else:
            matches[number] = match
        if done % 1024 == 0 or done == len(places):
            progress(done, len(places))

    def near(match: Match) -> dict[str, Any]:
        """What a dropped row is too like."""
        inside = match.number >= corpus.fixed
        place, text = places[admitted[match.number - corpus.fixed]] if inside else fixed[match.number]
        return {"of": place, "text": text, "score": match.score}

    rows = enumerate(_rows(sources))
    split = (
        (number in matches, row.fields | ({"near_duplicate": near(matches[number])} if number in matches else {}))
        for number, row in rows
    )
    write_rows(split, kept, dropped)
    outside = sum(match.number < corpus.fixed for match in matches.values())
    return Report(len(places), len(admitted), len(matches), outside)


def _rows(paths: Iterable[Path]) -> Iterator[Row]:
    return chain.from_iterable(read_rows(path) for path in paths)


def _texts(paths: Iterable[Path], field: str) -> list[tuple[str, str]]:
    """Place and text of every row.

    Raises:
        SourceError: a row lacks the field (names the fields there are), or holds no text there.
    """
    found = []
    for place, fields in _rows(paths):
        text = fields.get(field)
        if not isinstance(text, str):
            raise SourceError(f"{place}: {_trouble(field, fields)}")
        found.append((place, text))
    return found


def _trouble(field: str, fields: dict[str, Any]) -> str:
    if field not in fields:
        return f"no field {field!r}; there are {', '.join(map(str, fields)) or 'none'}: name one with --field"
    return f"{field} is {type(fields[field]).__name__}, not text: name another field with --field, or mend the row"


def _order(texts: Sequence[str], keep: Keep) -> Iterable[int]:
    """The order in which rows are taken, so that the one to keep of each group comes first."""
    if keep == "first":
        return range(len(texts))
    if keep == "last":
        return reversed(range(len(texts)))
    return sorted(range(len(texts)), key=lambda number: -len(texts[number]))


def _check_roles(sources: Sequence[Path], against: Sequence[Path], kept: Path, dropped: Path) -> None:
    """One file in two roles is a slip of the person's that would cost a file, or drop every row."""
    given = [(path, "a file to deduplicate") for path in sources] + [(path, "--against") for path in against]
    roles: dict[Path, str] = {}
    for path, role in [*given, (kept, "where the kept rows go"), (dropped, "where the dropped rows go")]:
        if (before := roles.get(path.resolve())) is not None:
            raise SourceError(f"{path}: given both as {before} and as {role}; name different files")
        roles[path.resolve()] = role
