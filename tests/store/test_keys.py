"""Identity: equal values have equal names, different ones do not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.store.keys import answer_key, canonical

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(anything)
def test_canonical_text_says_the_value_again(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(st.text(max_size=5), anything, max_size=5))
def test_the_order_of_keys_makes_no_difference(value: dict[str, Any]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.text(st.characters(categories=["L", "Cs"])))
def test_canonical_text_can_be_written_whatever_it_holds(text: str) -> None:
    assert canonical(text).encode()


asked = st.tuples(st.integers(1), st.text(), st.integers(0, 9))


@given(asked, asked)
def test_every_question_of_every_job_has_a_key_of_its_own(
    one: tuple[int, str, int], other: tuple[int, str, int]
) -> None:
    assert (answer_key(*one) == answer_key(*other)) == (one == other)


def test_a_key_names_the_hash_that_made_it() -> None:
    """Stored keys outlive versions: this one must never change."""
    assert answer_key(7, '{"model":"m","prompt":"1."}', 0) == "b2:aa0bacdaf6f62ae50753735199d3c992"
