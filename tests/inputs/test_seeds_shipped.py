"""The seeds that ship are many, of all kinds, unlike one another, and pass the filters that they feed."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfinstruct.filters import open_filter
from selfinstruct.filters.rouge_index import RougeIndex
from selfinstruct.inputs.seeds import check_seeds, load_seeds
from selfinstruct.recipes.alpaca import BANNED_WORDS
from selfinstruct.records import Draft, Seed
from selfinstruct.text.words import rouge_tokens

FILE = Path(__file__).parents[2] / "seeds" / "tasks.jsonl"
CATEGORIES = {
    "writing", "rewriting", "extraction", "reasoning", "mathematics", "code", "planning", "closed_qa", "open_qa",
    "translation", "dialogue", "data_formats", "advice", "science",
}  # fmt: skip


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return load_seeds(FILE)


def test_there_are_enough_of_each_kind(seeds: list[Seed]) -> None:
    without = sum(not any(instance.input for instance in seed.instances) for seed in seeds)
    assert len(seeds) >= 175
    assert sum(seed.is_classification for seed in seeds) >= 26
    assert len({seed.category for seed in seeds}) >= 14
    assert 0.2 <= without / len(seeds) <= 0.35


def test_every_seed_is_whole(seeds: list[Seed]) -> None:
    assert len({seed.id for seed in seeds}) == len({seed.name for seed in seeds}) == len(seeds)
    for seed in seeds:
        assert seed.category, seed.id
        assert seed.instances, seed.id
        assert all(instance.output.strip() == instance.output != "" for instance in seed.instances), seed.id


def test_the_file_has_no_fault_and_no_doubt() -> None:
    assert check_seeds(FILE).problems == ()


def test_no_two_instructions_are_more_alike_than_half(seeds: list[Seed]) -> None:
    index = RougeIndex(0.5, rouge_tokens)
    for seed in seeds:
        assert (seed.id, index.match(seed.instruction)) == (seed.id, None)
        index.add(seed.instruction)


@pytest.mark.parametrize("settings", [{}, {"banned_words": list(BANNED_WORDS)}], ids=["self-instruct", "alpaca"])
def test_every_seed_passes_the_filters_that_it_feeds(seeds: list[Seed], settings: dict[str, list[str]]) -> None:
    judge = open_filter("validity", settings).judge
    for seed in seeds:
        verdict = judge(Draft(stage="seed", instruction=seed.instruction))
        assert (seed.id, verdict.reason, verdict.detail) == (seed.id, "passed", {})
        instances = open_filter("instances", {}).judge(
            Draft(stage="seed", instruction=seed.instruction, instances=seed.instances)
        )
        assert (seed.id, instances.instance_drops) == (seed.id, ())
