"""The index decides as `rouge_score` does: the reference itself, pair by pair, is the judge in every test here."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.filters import rouge_index
from selfinstruct.filters.rouge_index import Match, RougeIndex
from selfinstruct.text.words import unicode_tokens

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
WORDS = [f"w{i}" for i in range(12)]
THRESHOLDS = st.one_of(st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0]), st.floats(0.3, 1.0))
TEXTS = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def score(a: str, b: str) -> float:
    return float(SCORER.score(a, b)["rougeL"].fmeasure)


def nearest(pool: list[str], text: str, threshold: float) -> Match | None:
    """What the reference finds, by comparing with each text."""
    scores = [score(other, text) for other in pool]
    best = max(scores, default=0.0)
    return Match(scores.index(best), best) if best > threshold else None


@given(pool=st.lists(TEXTS, max_size=40))
@settings(deadline=None)
def test_the_highest_similarity_to_any_other_is_what_the_reference_finds(pool: list[str]) -> None:
    index = RougeIndex()
    index.add_many(pool)
    with patch.multiple(rouge_index, _SCAN=7, _TOGETHER=3):
        found = index.highest(pool, but=range(len(pool)))
    assert found.tolist() == [
        max((score(other, text) for j, other in enumerate(pool) if j != i), default=0.0) for i, text in enumerate(pool)
    ]


@contextmanager
def small() -> Iterator[None]:
    """Shelving at once, sorting, ordering anew, searching in postings and scanning in parts, all at sizes that a test
    has."""
    with patch.multiple(rouge_index, _FEW=2, _MANY=11, _FRESH=5, _NARROW=2, _SCAN=16, _BATCH=7):
        yield


@given(pool=st.lists(TEXTS, max_size=40), text=TEXTS, threshold=THRESHOLDS)
@example(pool=["", "a"], text="", threshold=0.3)
@example(pool=["a"], text="a", threshold=1.0)
@example(pool=["a a a a"], text="a a a", threshold=0.7)
@example(pool=["a b", "b a"], text="a b", threshold=0.3)
@settings(deadline=None)
def test_match_is_the_nearest_by_the_reference(pool: list[str], text: str, threshold: float) -> None:
    with small():
        index = RougeIndex(threshold)
        index.add_many(pool)
        assert index.match(text) == nearest(pool, text, threshold)


@given(pool=st.lists(st.text(), max_size=8), text=st.text(), threshold=THRESHOLDS)
@settings(deadline=None)
def test_match_is_the_nearest_for_any_text_whatever(pool: list[str], text: str, threshold: float) -> None:
    index = RougeIndex(threshold)
    index.add_many(pool)
    assert index.match(text) == nearest(pool, text, threshold)


def test_a_pair_at_exactly_the_threshold_passes_and_one_bit_above_it_does_not() -> None:
    for m in range(1, 13):
        for n in range(1, 13):
            for lcs in range(1, min(m, n) + 1):
                a = " ".join([f"c{i}" for i in range(lcs)] + [f"a{i}" for i in range(m - lcs)])
                b = " ".join([f"c{i}" for i in range(lcs)] + [f"b{i}" for i in range(n - lcs)])
                exactly = score(a, b)
                for threshold, found in [(exactly, None), (math.nextafter(exactly, 0), Match(0, exactly))]:
                    index = RougeIndex(threshold)
                    index.add(a)
                    assert index.match(b) == found


def test_seven_words_of_ten_go_the_way_the_reference_goes_at_seven_tenths() -> None:
    pool = "a b c d e f g x y z"
    index = RougeIndex(0.7)
    index.add(pool)
    assert (index.match("a b c d e f g u v w") is not None) == (score(pool, "a b c d e f g u v w") > 0.7)


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("length", [6, 30, 40, 70])
def test_match_is_the_nearest_at_every_size_of_a_growing_pool(threshold: float, length: int) -> None:
    rng = random.Random(length)
    with small():
        index, pool = RougeIndex(threshold), [""]
        index.add("")
        for step in range(60):
            text = edited(rng, rng.choice(pool), length)
            if step % (1 if length < 10 else 5) == 0:
                assert index.match(text) == nearest(pool, text, threshold)
            assert index.add(text) == len(pool)
            pool.append(text)


def test_match_is_the_nearest_at_the_sizes_of_the_real_thing() -> None:
    rng = random.Random(0)
    index, pool = RougeIndex(0.7), [edited(rng, "", 8) for _ in range(9000)]
    index.add_many(pool)
    for text in [edited(rng, pool[number], 8) for number in (10, 4000, 8990)] + ["t1 t2 t3 t1 t2", "u1 t0 t1 t3"]:
        assert index.match(text) == nearest(pool, text, 0.7)


def edited(rng: random.Random, text: str, length: int) -> str:
    """A text near `text`, or one of about `length` words; some of them new, some frequent, some twice."""
    words = text.split() if rng.random() < 0.7 else []
    if not words:
        words = [f"t{int(rng.paretovariate(0.8)) % 60}" for _ in range(rng.randint(length * 2 // 3, length * 3 // 2))]
    for _ in range(rng.randint(0, len(words) // 4)):
        where = rng.randrange(len(words))
        words[where : where + rng.randint(0, 2)] = [f"t{rng.randrange(80)}"] * rng.randint(0, 2)
        words = words or ["t"]
    return " ".join(words)


@given(pool=st.lists(TEXTS, max_size=30), texts=st.lists(TEXTS, max_size=5))
@settings(deadline=None)
def test_many_at_once_is_one_by_one(pool: list[str], texts: list[str]) -> None:
    def looked_for(text: str) -> int:
        # What is looked for between two texts puts the first on its shelf by itself.
        one.match("")
        one.match(text)
        return one.add(text)

    with small():
        one, many = RougeIndex(), RougeIndex()
        assert many.add_many(iter(pool)) == [looked_for(text) for text in pool]
        assert [many.match(text) for text in texts] == [one.match(text) for text in texts]


@given(pool=st.lists(TEXTS, max_size=30), text=TEXTS, seed=st.integers())
@settings(deadline=None)
def test_the_score_of_the_nearest_does_not_depend_on_the_order_of_the_pool(
    pool: list[str], text: str, seed: int
) -> None:
    shuffled = random.Random(seed).sample(pool, len(pool))
    with small():
        a, b = RougeIndex(0.5), RougeIndex(0.5)
        a.add_many(pool)
        b.add_many(shuffled)
        first, second = a.match(text), b.match(text)
        assert (first and first.score) == (second and second.score)


@given(texts=st.lists(TEXTS, max_size=40), threshold=THRESHOLDS)
@settings(deadline=None)
def test_admit_keeps_what_matches_nothing_kept(texts: list[str], threshold: float) -> None:
    kept: list[str] = []
    with small():
        index = RougeIndex(threshold)
        for text in texts:
            expected = nearest(kept, text, threshold)
            assert index.admit(text) == expected
            if expected is None:
                kept.append(text)
        assert len(index) == len(kept)


def test_an_empty_pool_is_similar_to_nothing() -> None:
    index = RougeIndex()
    assert (index.match("a"), index.highest(["a"]).tolist(), len(index)) == (None, [0.0], 0)


def test_looking_changes_nothing() -> None:
    index = RougeIndex()
    index.add("a b c")
    index.match("d e f")
    index.highest(["g h i"])
    assert index.match("d e f") is None
    assert index.match("a b c") == Match(0, 1.0)


def test_of_equals_the_earliest_is_found() -> None:
    index = RougeIndex(0.5)
    index.add_many(["z", *["a b c d"] * 50])
    assert index.match("a b c d") == Match(1, 1.0)
    assert index.match("a b c e") == Match(1, 0.75)


def test_many_texts_of_one_template_do_not_hide_the_nearest() -> None:
    index = RougeIndex(0.7)
    pool = [f"what is the capital city of country number x{i} in the year y{i}" for i in range(300)]
    index.add_many(pool)
    text = "what is the capital city of country number x250 in the year z"
    assert index.match(text) == nearest(pool, text, 0.7)


def test_texts_of_very_different_lengths_live_side_by_side() -> None:
    words = random.Random(0).choices([f"t{i}" for i in range(3000)], k=1200)
    long, shorter = " ".join(words), " ".join(words[:-100])
    index = RougeIndex(0.7)
    index.add_many(["a b c", long, shorter[:100]])
    assert index.match(shorter) == Match(1, score(long, shorter))
    assert index.match("a b c") == Match(0, 1.0)


def test_the_tokenizer_is_the_users_choice() -> None:
    published, unicode = RougeIndex(), RougeIndex(tokenize=unicode_tokens)
    for index in (published, unicode):
        index.add("写一首关于大海的诗")
    assert published.match("写一首关于大海的诗") is None
    assert unicode.match("写一首关于大山的诗") == Match(0, 16 / 18)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, math.nan])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        RougeIndex(threshold)
