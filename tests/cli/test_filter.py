"""`selfinstruct filter`, whole outputs."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import EXPORTS, Say
from tests.support.cli import Said


def test_filter_judges_again_into_a_copy(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct("filter", "first", "--set", 'filters.validity.banned_words=["bus"]')
    assert said.code == 0
    assert said.out == EXPORTS.replace("first/", "first-filtered/").replace("2 rows", "1 rows")
    assert said.err == (
        "instances: kept 2 -> 1\ninstances: parent_dropped 0 -> 1\n"
        "instructions: kept 2 -> 2\ninstructions: banned_word 1 -> 1\ninstructions: near_duplicate 1 -> 1\n"
    )
    assert "filtered copy" in selfinstruct("status", "first-filtered").out
    assert "2 of 2 tasks kept" in selfinstruct("status", "first").out
    assert selfinstruct("filter", "first").err == (
        "selfinstruct: outputs/first-filtered: exists already; name another with --into\n"
    )
