"""Consecutive prompts begin alike, and each alone shows what it would have shown anyway."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.recipes.base import NEIGHBOURS, SHARED, Pool, draw, draw_alike
from selfinstruct.recipes.self_instruct import Options
from selfinstruct.records import Sample, Seed
from tests.recipes.playing import planned, state_of


def pool_of(seeds: int, kept: int = 0, planned: int = 0) -> Pool:
    pool = Pool([Seed(id=f"s{number}", instruction=f"Seed {number}.") for number in range(seeds)])
    for number in range(kept):
        pool.kept.append(Sample(id=f"{number}.1", stage="instructions", instruction=f"Kept {number}."))
    pool.planned = planned
    return pool


def shown(pool: Pool, options: Options, job: int, seed: int = 42) -> list[str]:
    return [task.id for task in draw_alike(pool, pool.seeds, Random(f"{seed}:{job}"), options, seed)]


def consecutive(count: int, kept: int = 0, options: Options | None = None, seed: int = 42) -> list[list[str]]:
    return [shown(pool_of(100, kept, place), options or Options(), place, seed) for place in range(count)]


@given(
    st.integers(1, 30).flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most))),
    st.integers(0, 40),
    st.integers(0, 3),
    st.integers(0, 500),
)
def test_a_prompt_shows_as_many_seeds_and_kept_ones_as_without(
    counts: tuple[int, int], more_seeds: int, kept: int, place: int
) -> None:
    options = Options(demonstrations=counts[0], kept_demonstrations=counts[1])
    pool = pool_of(counts[0] + more_seeds, kept, place)
    alike, published = shown(pool, options, place), draw(pool.kept, pool.seeds, Random(1), options)
    assert len(set(alike)) == len(alike) == len(published)
    assert sum("." in id for id in alike) == sum("." in task.id for task in published)


def test_neighbours_begin_with_the_same_seeds_and_go_on_with_their_own() -> None:
    prompts = consecutive(4 * NEIGHBOURS, kept=50)
    groups = [prompts[first : first + NEIGHBOURS] for first in range(0, len(prompts), NEIGHBOURS)]
    shared = int(SHARED * 8)
    beginnings = {tuple(prompt[:shared]) for prompt in prompts}
    assert [len({tuple(prompt[:shared]) for prompt in group}) for group in groups] == [1] * 4
    assert len(beginnings) == 4
    own = [prompt[shared:] for prompt in prompts]
    assert {sum("." in id for id in rest) for rest in own} == {2}
    assert len({id for rest in own for id in rest if "." in id}) > 30
    assert len({rest.index(id) for rest in own for id in rest if "." in id}) == 8 - shared, "a kept one stands anywhere"


def test_no_two_prompts_are_the_same_while_nothing_is_kept() -> None:
    assert len({tuple(sorted(prompt)) for prompt in consecutive(500)}) == 500


def test_each_seed_is_shown_as_often_as_any_other_on_the_whole() -> None:
    drawn = Counter(id for prompt in (consecutive(1, seed=seed)[0] for seed in range(4000)) for id in prompt)
    assert len(drawn) == 100
    # 4,000 prompts of 8 out of 100: 320 each, give or take four deviations of 17.
    assert all(250 < count < 390 for count in drawn.values())


@pytest.mark.parametrize("on", [True, False])
def test_the_switch_draws_each_prompt_anew_when_it_is_off(on: bool) -> None:
    state = state_of("self-instruct", seeds=pool_of(1000).seeds, demonstrations=8, switches={"shared_prefixes": on})
    beginnings = {planned(state).payload["from"][0] for _ in range(NEIGHBOURS)}
    assert (len(beginnings) == 1) is on


def test_another_seed_of_the_run_shares_other_beginnings() -> None:
    assert consecutive(1, seed=1)[0][:2] != consecutive(1, seed=2)[0][:2]
