"""The pool holds what prompts show, and is sampled from as a list would be."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.recipes.demonstrations import DemonstrationOptions, draw
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import Instance, Sample, Seed

TEXT = st.text(max_size=20) | st.just("half a pair \ud83d")
SAMPLES = st.lists(
    st.builds(
        Sample,
        id=st.from_regex(r"[1-9]\d*\.[1-9]", fullmatch=True),
        stage=st.just("s"),
        instruction=TEXT,
        instances=st.lists(st.builds(Instance, input=TEXT, output=TEXT), max_size=2).map(tuple),
        meta=st.dictionaries(TEXT, TEXT, max_size=1),
        parent=st.none() | TEXT,
    ),
    max_size=30,
)


def joined(samples: list[Sample], *, shows_kept: bool = True) -> Pool:
    pool = Pool([], "s", shows_kept=shows_kept)
    for sample in samples:
        pool.join(sample)
    return pool


@given(SAMPLES)
def test_what_joined_comes_out_but_for_what_no_prompt_shows(samples: list[Sample]) -> None:
    shown = [sample.model_copy(update={"meta": {}, "parent": None}) for sample in samples]
    kept = joined(samples).kept
    assert list(kept) == shown
    assert kept[2:9] == shown[2:9]


@given(SAMPLES, st.integers(0, 8), st.integers())
def test_a_prompt_shows_what_it_would_show_of_a_list(samples: list[Sample], count: int, seed: int) -> None:
    seeds = [Seed(id=f"s{number}", instruction="Say it.") for number in range(8)]
    options = DemonstrationOptions(demonstrations=8, kept_demonstrations=count)
    of_list = draw(samples, seeds, Random(seed), options)
    of_pool = draw(joined(samples).kept, seeds, Random(seed), options)
    assert [(task.id, task.instruction) for task in of_pool] == [(task.id, task.instruction) for task in of_list]


def test_a_pool_that_no_prompt_shows_holds_nothing() -> None:
    sample = Sample(id="1.1", stage="s", instruction="Say it.")
    assert len(joined([sample], shows_kept=False).kept) == 0
    assert len(joined([sample]).kept) == 1
