"""`selfinstruct drops`, whole outputs."""

from __future__ import annotations

import json

from tests.cli.conftest import Say
from tests.support.cli import Said


def test_drops_names_filter_reason_and_for_a_near_duplicate_of_what(first: Said, selfinstruct: Say) -> None:
    near = (
        "1.3  near_duplicate (rouge)  Name three rivers of Europe!\n      1.000 like s0: Name three rivers of Europe.\n"
    )
    banned = "1.2  banned_word (validity)  Draw a map of the town.\n      word: Draw\n"
    assert selfinstruct("drops", "first").out == banned + near
    assert selfinstruct("drops", "first", "--reason", "near_duplicate").out == near
    assert selfinstruct("drops", "first", "--filter", "validity").out == banned
    assert selfinstruct("drops", "first", "-n", "1").out == banned
    assert json.loads(selfinstruct("drops", "first", "--json", "--filter", "rouge").out) == {
        "id": "1.3", "stage": "instructions", "filter": "rouge", "reason": "near_duplicate",
        "detail": {"of": "s0", "score": 1.0}, "instruction": "Name three rivers of Europe!",
    }  # fmt: skip
