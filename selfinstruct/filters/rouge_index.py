"""The texts kept so far, and the one a new text resembles most: exact ROUGE-L without looking at every pair.

What it is: an index that answers whether `rouge_score.RougeScorer(["rougeL"], use_stemmer=False)` gives a text
an F-measure above the threshold with any of its texts, to the last bit of that float arithmetic. What it is not:
an approximation (MinHash, LSH, embeddings). Why it is fast: a pair is left out when a bound proves that it cannot
match.

With m and n tokens and a longest common subsequence (LCS) of l, F1 = 2l/(m+n), so each pair of lengths has a
least LCS that passes (`_Bounds`, which asks the very float expression that decides in the end). An LCS is no
longer than the tokens that two texts share:

1. *Rare tokens* (`_Postings`). Order the tokens of each text by rarity. If the rarest that two texts share is the
   p-th of the one (n tokens) and the q-th of the other (m), counted from 0, they share at most min(n - p, m - q).
   So only the rarest few of a text are looked up, and only where they are among the rarest too. (Prefix and
   position filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007; Xiao, Wang, Lin and Yu
   2008.)
2. *Signatures* (`_Shelf`). Each text is a set of bits, one for each token; the bits that two texts share bound
   the tokens that they share, at 1 to 2 ns a text. Where rare tokens exclude too little, all signatures are
   scanned.
3. *LCS* of what is left, bit-parallel, by rapidfuzz, the most promising first.

Texts of similar length stand on one shelf, since long texts need wide signatures. The texts themselves are not
kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from selfinstruct.text.words import rouge_tokens

Ints: TypeAlias = NDArray[np.integer[Any]]
"""Whole numbers of any width."""
Bits: TypeAlias = NDArray[np.uint64]
"""Signatures as words of 64 bits: (texts,) or, of several words, (texts, words); a single one () or (words,)."""

_UNKNOWN = 2**32 - 1  # the id of every token that no text of the pool has
_NEVER = 2**31  # more than any LCS
_FAR = 2**16 - 2  # in postings a longer reach counts as this one, which only lets more through
_SHORT = 32  # tokens that 64 bits tell apart well
_RARE = 128  # tokens up to which rare tokens are worth their memory; docs/lab-rouge.md
_FRESH = 4096  # texts that a shelf gathers before it sorts them into its postings
_FEW = 16  # texts to put on their shelves one by one rather than at once
_MANY = 2**15  # texts added in a row that are put on their shelves at once; takes about 600 bytes for each
_BATCH = 2**17  # texts sorted into the postings in one go, which takes about 300 bytes for each
_SCAN = 2**15  # words of signatures looked at in one go: they stay in the processor's cache
_TOGETHER = 32  # texts compared with a part of the pool at once: 8 MB of scores
_NARROW = 512  # postings of a token to scan rather than to search: about where both take 1 µs
_NO_ROWS: Ints = np.zeros(0, np.uint32)


class Match(NamedTuple):
    """A text of the pool and how similar it is."""

    number: int
    """Its place in the order of adding, from 0."""
    score: float
    """ROUGE-L F1, as `rouge_score` computes it."""


class _Vocabulary(dict[str, int]):
    """Numbers words in the order in which they are met."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class RougeIndex:
    """A growing pool of texts that finds near-duplicates.

    >>> index = RougeIndex(threshold=0.7)
    >>> index.add("Write a poem about the sea.")
    0
    >>> index.match("Write a poem about the moon.")
    Match(number=0, score=0.8333333333333334)
    >>> index.match("Name three rivers.") is None
    True

    Args:
        threshold: a pair matches when its F1 is above this, in (0, 1].
        tokenize: what the words of a text are.
    """

    def __init__(self, threshold: float = 0.7, tokenize: Callable[[str], list[str]] = rouge_tokens) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
        self._bounds = _Bounds(threshold)
        self._tokenize = tokenize
        self._vocabulary = _Vocabulary()
        self._rarity = array("q")  # by token id, smaller is rarer; fixed between two calls of _reorder
        self._tokens = array("I")  # the token ids of all texts, end to end
        self._ends = array("q", [0])  # text i is _tokens[_ends[i]:_ends[i + 1]]
        self._shelves: dict[int, _Shelf] = {}
        self._shelved = 0  # texts that stand on their shelves; those added since are put there when one is looked for
        self._ordered = 0  # texts there were at the last _reorder

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, text: str) -> int:
        """Takes `text` into the pool and returns its number."""
        return self._add(self._tokenize(text))

    def add_many(self, texts: Iterable[str]) -> list[int]:
        """Takes all `texts` into the pool, in order, and returns their numbers."""
        return [self.add(text) for text in texts]

    def match(self, text: str) -> Match | None:
        """The most similar text above the threshold, the earliest of equals; None where there is none."""
        return self._match(self._tokenize(text))

    def admit(self, text: str) -> Match | None:
        """What `text` matches; or None, and it is in the pool now: one step of keeping the first of each kind."""
        words = self._tokenize(text)
        found = self._match(words)
        if found is None:
            self._add(words)
        return found

    def _known(self, words: list[str]) -> array[int]:
        known = self._vocabulary.get
        return array("I", [known(word, _UNKNOWN) for word in words])

    def _text(self, number: int) -> array[int]:
        return self._tokens[self._ends[number] : self._ends[number + 1]]

    def _add(self, words: list[str]) -> int:
        number = len(self)
        self._tokens.extend(array("I", map(self._vocabulary.__getitem__, words)))
        self._ends.append(len(self._tokens))
        if len(self) - self._shelved >= _MANY:
            self._shelve()
        return number

    def _shelve(self) -> None:
        """Puts the texts added since on their shelves."""
        fresh = range(self._shelved, len(self))
        self._shelved = len(self)
        for number in fresh if len(fresh) <= _FEW else self._shelve_short(fresh):
            ids = self._text(number).tolist()
            if ids:
                shelf = self._shelf(len(ids))
                shelf.add(number, len(ids), _marks(ids))
                self._sort_if_due(shelf)

    def _shelve_short(self, fresh: range) -> list[int]:
        """Puts the short ones among these texts on their shelf, all at once, and returns the numbers of the others."""
        ends = np.array(self._ends[fresh.start : fresh.stop + 1])
        lengths = np.diff(ends)
        short = (lengths > 0) & (lengths <= _SHORT)
        tokens = np.array(self._tokens[ends[0] : ends[-1]])[np.repeat(short, lengths)]
        numbers, lengths = np.flatnonzero(short) + fresh.start, lengths[short]
        if len(numbers):
            shelf = self._shelf(1)
            shelf.add_many(numbers, lengths, _signatures(tokens, lengths))
            self._sort_if_due(shelf)
        return [fresh[place] for place in np.flatnonzero(~short).tolist()]

    def _shelf(self, length: int) -> _Shelf:
        size = max(_SHORT, 1 << (length - 1).bit_length())
        if size not in self._shelves:
            self._shelves[size] = _Shelf(size, self._bounds)
        return self._shelves[size]

    def _match(self, words: list[str]) -> Match | None:
        self._shelve()
        query = self._query(self._known(words))
        if query is None:
            return None
        shelves = [shelf for shelf in self._shelves.values() if shelf.holds(query.plan)]
        return self._best(query, [found for shelf in shelves if (found := shelf.candidates(query))])

    def _query(self, ids: array[int]) -> _Query | None:
        """What the shelves need to know of a text; None when no text at all can match it."""
        plan = self._bounds.plan(len(ids))
        known = [token for token in ids if token != _UNKNOWN]
        unknown = len(ids) - len(known)
        if unknown >= plan.prefix:
            return None
        self._rank_new()
        rarest = sorted(known, key=self._rarity.__getitem__)[: plan.prefix - unknown]
        return _Query(ids, plan, _marks(known), rarest, plan.spans[unknown:])

    def _rank_new(self) -> None:
        """Tokens learnt since the last _reorder are the rarest, the latest first."""
        if len(self._rarity) < len(self._vocabulary):
            self._rarity.extend(range(-len(self._rarity), -len(self._vocabulary), -1))

    def _best(self, query: _Query, found: list[_Candidates]) -> Match | None:
        """The best of the candidates; those that cannot be better than the best so far are not compared."""
        best = Match(_NEVER, self._bounds.threshold)
        for number, bound in self._promising(query, found):
            if (bound, -number) <= (best.score, -best.number):
                break
            other = self._text(number)
            lcs = LCSseq.similarity(query.ids, other)
            score = _score(lcs, len(query.ids), len(other)) if lcs else 0.0
            if (score, -number) > (best.score, -best.number):
                best = Match(number, score)
        return best if best.score > self._bounds.threshold else None

    def _promising(self, query: _Query, found: list[_Candidates]) -> Iterable[tuple[int, float]]:
        """The candidates' numbers, and what their score is at most: the highest first, then the lowest number."""
        if sum(len(part.numbers) for part in found) <= 8:  # not worth the 30 µs of bounding them
            return zip(sorted(number for part in found for number in part.numbers.tolist()), repeat(1.0))
        numbers, overlap, lengths = (np.concatenate(column) for column in zip(*found, strict=True))
        length = len(query.ids)
        bounds = _score(np.minimum(overlap, np.minimum(lengths, length)), length, lengths)
        order = np.lexsort((numbers, -bounds))
        return zip(numbers[order].tolist(), bounds[order].tolist(), strict=True)

    def highest(self, texts: Sequence[str], *, but: Sequence[int] | None = None) -> NDArray[np.float64]:
        """For each of `texts` the F1 of the text that it resembles most, 0 where there is none.

        Looks at every pair: about 20 ns each for short texts.

        Args:
            but: for each text the number of the one that is not looked at: itself.
        """
        queries = [self._known(self._tokenize(text)) for text in texts]
        best = np.zeros(len(queries))
        for part in self._parts():
            others = [self._text(number) for number in part]
            for first in range(0, len(queries), _TOGETHER):
                block = slice(first, first + _TOGETHER)
                scores = _compare(queries[block], others)
                for row, number in enumerate(but[block] if but else ()):
                    if number in part:
                        scores[row, number - part.start] = 0.0
                best[block] = np.maximum(best[block], scores.max(axis=1))
        return best

    def _parts(self) -> Iterator[range]:
        """The numbers of all texts, some at a time."""
        return (range(start, min(start + _SCAN, len(self))) for start in range(0, len(self), _SCAN))

    def _sort_if_due(self, shelf: _Shelf) -> None:
        """Sorts a shelf's fresh texts in, if they are many; all shelves anew, by today's rarity, when the pool has
        doubled."""
        if not shelf.impatient:
            return
        if len(self) >= 2 * self._ordered:
            self._reorder()
        else:
            self._post(shelf)

    def _reorder(self) -> None:
        counts = np.bincount(np.frombuffer(self._tokens, np.uint32), minlength=len(self._vocabulary))
        ranks = np.empty(len(counts), np.int64)
        ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts))
        self._rarity = array("q", ranks.tobytes())
        self._ordered = len(self)
        for shelf in self._shelves.values():
            shelf.forget()
            self._post(shelf)

    def _post(self, shelf: _Shelf) -> None:
        """Lets the shelf look at our arrays, which cannot grow while it does."""
        self._rank_new()
        tokens, ends, rarity = self._tokens, self._ends, self._rarity
        shelf.post(np.frombuffer(tokens, np.uint32), np.frombuffer(ends, np.int64), np.frombuffer(rarity, np.int64))


def _compare(queries: Sequence[array[int]], others: Sequence[array[int]]) -> NDArray[np.float64]:
    """The F1 of each query with each of the others: (queries, others)."""
    lcs = cdist(queries, others, scorer=LCSseq.similarity, dtype=np.int32).astype(np.int64)
    lengths = np.fromiter(map(len, others), np.int64, len(others))
    scores = np.zeros(lcs.shape)
    for row, query in enumerate(queries):
        common = lcs[row] > 0
        scores[row, common] = _score(lcs[row, common], len(query), lengths[common])
    return scores


class _Plan(NamedTuple):
    """What follows from the length of a text alone."""

    shortest: int
    """Tokens of the shortest text that may match."""
    longest: int
    """Tokens of the longest that may match; less than of the shortest where none may."""
    prefix: int
    """How many of the rarest tokens a text may lack and still match."""
    spans: list[Ints]
    """For each of the rarest tokens, which reach its postings must have: from and below. Empty for long texts."""


class _Query(NamedTuple):
    """A text that looks for its like."""

    ids: array[int]
    plan: _Plan
    marks: list[int]
    """The marks (`_marks`) of its known tokens."""
    rarest: list[int]
    """Its rarest known tokens, the rarest first, with repeats."""
    spans: list[Ints]
    """What `_Plan.spans` says of each of the rarest tokens."""


class _Candidates(NamedTuple):
    """Texts that no bound excludes; the same text may stand here several times."""

    numbers: Ints
    overlap: Ints
    """At least how many tokens each shares with the query, if not more than it has."""
    lengths: Ints


class _Bounds:
    """Which lengths and overlaps can be above the threshold, by the float expression that decides in the end."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._plans: dict[int, _Plan] = {}

    def least(self, length: int, lengths: Ints) -> Ints:
        """The least LCS that passes for a text of `length` with texts of `lengths`; `_NEVER` where none does."""
        lcs = np.maximum((self.threshold * (length + lengths) / 2).astype(np.int64) - 1, 1)
        while (short := ~self._passes(lcs, length, lengths)).any():
            lcs = lcs + short
        return np.where(lcs > np.minimum(length, lengths), _NEVER, lcs)

    def reach(self, length: int) -> Ints:
        """By p, the longest text that may match one of `length` with which it shares none of its p rarest tokens.

        As many numbers as there are p for which any text may match.
        """
        return self._longest(np.arange(length, self._shortest(length) - 1, -1), length)

    def _longest(self, shared: Ints, lengths: Ints | int) -> Ints:
        """The longest texts with which texts of these lengths may match when they have `shared` tokens in common."""
        longest = np.minimum(2 * shared / self.threshold - lengths + 1, _NEVER).astype(np.int64)
        while (far := ~self._passes(shared, lengths, longest)).any():
            longest = longest - far
        return longest

    def plan(self, length: int) -> _Plan:
        if length not in self._plans:
            self._plans[length] = self._planned(length)
        return self._plans[length]

    def _planned(self, length: int) -> _Plan:
        reach = self.reach(length)
        if not length or not len(reach):
            return _Plan(1, 0, 0, [])
        spans: list[Ints] = []
        if length <= 4 * _RARE:  # longer ones scan: their table would be long, and of little use
            below = np.minimum(self._longest(reach, reach), _FAR) + 1
            spans = list(np.stack([np.full(len(reach), length), below], axis=1).astype(np.uint16))
        return _Plan(self._shortest(length), int(reach[0]), len(reach), spans)

    def _shortest(self, length: int) -> int:
        other = max(1, int(length * self.threshold / (2 - self.threshold)) - 1)
        while other <= length and not self._passes(other, length, other):
            other += 1
        return other

    def _passes(self, lcs: Any, length: Any, other: Any) -> Any:
        return _score(lcs, length, other) > self.threshold


class _Shelf:
    """The texts of more than `size` / 2 and up to `size` tokens (the first shelf: of all up to `size`).

    A text is a row here; `_numbers` says which of the pool it is. The first rows are in the postings, the others
    are fresh.
    """

    def __init__(self, size: int, bounds: _Bounds) -> None:
        self._bounds = bounds
        self._longest = size
        self._shortest = 1 if size == _SHORT else size // 2 + 1
        self._bits = 64 if size == _SHORT else 4 * size
        self._rows = 0
        self._numbers = np.zeros(64, np.uint32)
        self._lengths = np.zeros(64, np.uint32)
        self._signatures = np.zeros(64 if self._bits == 64 else (64, self._bits // 64), np.uint64)
        self._postings = _Postings()
        self._leasts: dict[int, tuple[Ints, int]] = {}

    @property
    def impatient(self) -> bool:
        """Whether so many rows are fresh that it is time to sort them in, which copies all postings."""
        return self._longest <= _RARE and self._rows - self._postings.rows > _FRESH + self._rows // 256

    def holds(self, plan: _Plan) -> bool:
        """Whether a text that may match can stand here."""
        return plan.shortest <= self._longest and plan.longest >= self._shortest

    def add(self, number: int, length: int, marks: list[int]) -> None:
        row = self._rows
        if row == len(self._numbers):
            self._numbers, self._lengths = _grown(self._numbers), _grown(self._lengths)
            self._signatures = _grown(self._signatures)
        self._numbers[row] = number
        self._lengths[row] = length
        self._signatures[row] = self._sign(marks)[0]
        self._rows += 1

    def add_many(self, numbers: Ints, lengths: Ints, signatures: Bits) -> None:
        first, last = self._rows, self._rows + len(numbers)
        while last > len(self._numbers):
            self._numbers, self._lengths = _grown(self._numbers), _grown(self._lengths)
            self._signatures = _grown(self._signatures)
        self._numbers[first:last] = numbers
        self._lengths[first:last] = lengths
        self._signatures[first:last] = signatures
        self._rows = last

    def candidates(self, query: _Query) -> _Candidates | None:
        """The texts here that may match `query`; None when there are none."""
        signature, slack = self._sign(query.marks)
        least, lowest = self._least(len(query.ids))
        floor = max(0, lowest - slack)
        posted = self._posted(query, signature, floor)
        first = 0 if posted is None else self._postings.rows
        parts = [_NO_ROWS if posted is None else posted, *self._scan(first, signature, floor)]
        rows = np.concatenate(parts, dtype=np.intp)
        return self._bound(rows, signature, slack, least) if len(rows) else None

    def _posted(self, query: _Query, signature: Bits, floor: int) -> Ints | None:
        """Rows with one of the query's rarest tokens and `floor` bits of its signature; None if a scan is cheaper."""
        slices = self._postings.find(query)
        entries = sum([part.stop - part.start for part in slices])
        if 2 * entries > self._postings.rows or not query.spans:
            return None
        if not entries:
            return _NO_ROWS
        rows = np.concatenate([self._postings.row[part] for part in slices])
        if self._bits == 64:
            signatures = np.concatenate([self._postings.signature[part] for part in slices])
        else:
            signatures = self._signatures.take(rows, axis=0)
        return rows[_common(signatures, signature) >= floor]

    def _scan(self, first: int, signature: Bits, floor: int) -> Iterator[Ints]:
        """Rows from `first` on with `floor` bits of the signature."""
        step = max(1, _SCAN * 64 // self._bits)
        for start in range(first, self._rows, step):
            part = self._signatures[start : min(self._rows, start + step)]
            yield (_common(part, signature) >= floor).nonzero()[0] + start

    def _bound(self, rows: Ints, signature: Bits, slack: int, least: Ints) -> _Candidates | None:
        """Those of the rows that share enough bits for their length."""
        signatures, lengths = self._signatures.take(rows, axis=0), self._lengths.take(rows)
        doubled = lengths - _common(signatures, signatures)
        overlap = _common(signatures, signature) + np.minimum(doubled, slack)
        near = overlap >= least.take(lengths - self._shortest)
        if not near.any():
            return None
        return _Candidates(self._numbers.take(rows[near]), overlap[near], lengths[near])

    def _least(self, length: int) -> tuple[Ints, int]:
        """By length of the texts here, the shortest first, the least LCS that passes; and the lowest of these."""
        known = self._leasts.get(length)
        if known is None:
            least = self._bounds.least(length, np.arange(self._shortest, self._longest + 1))
            known = least, int(least.min())
            if self._longest <= 4 * _RARE:  # others would fill the memory, and take no time beside their scan
                self._leasts[length] = known
        return known

    def _sign(self, marks: list[int]) -> tuple[Bits, int]:
        """A signature, one bit for each mark, and how many marks found their bit taken."""
        if self._bits > 64:
            flags = np.zeros(self._bits, np.bool_)
            flags[np.array(marks, np.int64) % self._bits] = True
            return np.packbits(flags, bitorder="little").view(np.uint64), len(marks) - int(np.count_nonzero(flags))
        bits = 0
        for mark in marks:
            bits |= 1 << (mark & 63)
        return np.array(bits, np.uint64), len(marks) - bits.bit_count()

    def forget(self) -> None:
        """All rows are fresh again."""
        self._postings = _Postings()

    def post(self, tokens: Ints, ends: Ints, rarity: Ints) -> None:
        """Sorts the fresh rows into the postings, given the pool's arrays (see `RougeIndex`)."""
        while self._longest <= _RARE and self._postings.rows < self._rows:
            first, last = self._postings.rows, min(self._rows, self._postings.rows + _BATCH)
            lengths, starts = self._lengths[first:last], ends[self._numbers[first:last]]
            parts = []
            for length in np.unique(lengths).tolist():
                places = np.flatnonzero(lengths == length)
                texts = tokens[starts[places][:, None] + np.arange(length)]
                parts.append(_rarest(texts, places + first, rarity, self._bounds.reach(length)))
            token, row, reach = (np.concatenate(column) for column in zip(*parts, strict=True))
            signature = self._signatures[row] if self._bits == 64 else np.zeros(0, np.uint64)
            self._postings.insert(token, np.minimum(reach, _FAR), row, signature)
            self._postings.rows = last


class _Postings:
    """By token, the rows that have it among their rarest, those that can match only short texts first.

    The entries of token t are those from `_starts[t]` to `_starts[t + 1]` of the columns.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.row = np.zeros(0, np.uint32)
        self.signature = np.zeros(0, np.uint64)  # of the row, here too because it is read in this order; or nothing
        self._reach = np.zeros(0, np.uint16)  # the longest text that the row may match by this token
        self._starts = array("q", [0])

    def find(self, query: _Query) -> list[slice]:
        """Which entries may lead to a match."""
        found = []
        starts, known, previous = self._starts, len(self._starts) - 1, -1
        for token, span in zip(query.rarest, query.spans, strict=False):
            if token == previous or token >= known:
                continue
            first, last = starts[token], starts[token + 1]
            if last - first > _NARROW:
                low, high = self._reach[first:last].searchsorted(span).tolist()
                first, last = first + low, first + high
            if first < last:
                found.append(slice(first, last))
            previous = token
        return found

    def insert(self, token: Ints, reach: Ints, row: Ints, signature: Bits) -> None:
        """Merges entries in; all are columns of equal length, or nothing."""
        keys = token.astype(np.int64) << 16 | reach
        order = np.argsort(keys, kind="stable")
        starts: Ints = np.frombuffer(self._starts, np.int64)
        counts = starts[1:] - starts[:-1]
        old = np.repeat(np.arange(len(counts)), counts) << 16 | self._reach
        places = np.searchsorted(old, keys[order]) + np.arange(len(keys))
        stay = np.ones(len(old) + len(keys), np.bool_)
        stay[places] = False
        self._reach = _merged(self._reach, reach, order, places, stay)
        self.row = _merged(self.row, row, order, places, stay)
        if len(signature):
            self.signature = _merged(self.signature, signature, order, places, stay)
        more = np.bincount(token, minlength=len(counts))
        more[: len(counts)] += counts
        self._starts = array("q", np.append(0, np.cumsum(more)).tobytes())


def _score(lcs: Any, length: Any, other: Any) -> Any:
    """F1 of texts with `lcs` > 0 tokens in common order, numbers or arrays, as `rouge_score` computes it."""
    precision, recall = lcs / length, lcs / other
    return 2 * precision * recall / (precision + recall)


def _common(signatures: Bits, others: Bits) -> Ints:
    """How many bits are in both, by text."""
    counts: NDArray[Any] = np.bitwise_count(signatures & others)
    return counts if counts.ndim == 1 else np.einsum("ij->i", counts, dtype=np.uint32)


def _signatures(tokens: Ints, lengths: Ints) -> Bits:
    """The signatures of one word of texts, whose tokens stand end to end; none is empty."""
    keys = np.repeat(np.arange(len(lengths)), lengths) << 32 | tokens
    keys.sort()  # texts stay together, and so do the repeats of a token
    places = np.arange(len(keys))
    repeats = np.concatenate([[False], keys[1:] == keys[:-1]])
    times = places - np.maximum.accumulate(np.where(repeats, 0, places))
    marks = (keys & 2**32 - 1) + 31 * times
    bits = np.left_shift(np.uint64(1), (marks & 63).astype(np.uint64))
    return np.bitwise_or.reduceat(bits, np.cumsum(lengths) - lengths)


def _marks(ids: list[int]) -> list[int]:
    """The tokens, repeats made different, so that two texts share at least as many marks as tokens."""
    if len(set(ids)) == len(ids):
        return ids
    times: dict[int, int] = {}
    marks = []
    for token in ids:
        marks.append(token + 31 * times.get(token, 0))
        times[token] = times.get(token, 0) + 1
    return marks


def _rarest(texts: Ints, rows: Ints, rarity: Ints, reach: Ints) -> tuple[Ints, Ints, Ints]:
    """The postings of texts of one length: tokens, rows, and how far each reaches.

    Args:
        texts: token ids (texts, tokens).
        rows: one number for each text.
        rarity: by token id.
        reach: by place in the order of rarity, for the first places.
    """
    order = np.argsort(rarity[texts], axis=1)[:, : len(reach)]
    rarest = np.take_along_axis(texts, order, axis=1)
    first = np.ones(rarest.shape, np.bool_)  # two texts that share a token share its first occurrence
    first[:, 1:] = rarest[:, 1:] != rarest[:, :-1]
    return rarest[first], np.broadcast_to(rows[:, None], first.shape)[first], np.broadcast_to(reach, first.shape)[first]


def _grown(column: NDArray[Any]) -> NDArray[Any]:
    """A copy with room for a quarter more rows."""
    more = np.zeros((len(column) // 4, *column.shape[1:]), column.dtype)
    return np.concatenate([column, more])


def _merged(
    column: NDArray[Any], more: NDArray[Any], order: Ints, places: Ints, stay: NDArray[np.bool_]
) -> NDArray[Any]:
    """`column` where `stay`, and `more` in this order at these places."""
    merged = np.empty(len(stay), column.dtype)
    merged[stay] = column
    merged[places] = more[order]
    return merged
