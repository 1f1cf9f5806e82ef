"""A packed list is a list of texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.text.packed import Packed

TEXTS = st.lists(st.text() | st.just("half a pair \ud83d"))


@given(TEXTS, st.slices(20))
def test_texts_come_out_as_they_went_in(texts: list[str], some: slice) -> None:
    packed = Packed(texts)
    assert (list(packed), len(packed), packed[some]) == (texts, len(texts), texts[some])
    assert [packed[-place] for place in range(1, len(texts) + 1)] == texts[::-1]


@given(TEXTS)
def test_what_is_not_there_is_refused(texts: list[str]) -> None:
    for place in (len(texts), -len(texts) - 1):
        try:
            Packed(texts)[place]
        except IndexError:
            continue
        raise AssertionError("a text from nowhere")
