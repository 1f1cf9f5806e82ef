"""Texts and amounts as a person is shown them."""

from __future__ import annotations

import json

import pytest

from selfinstruct.text.display import bill, json_line, one_line, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\tb\nc", "a\tb\n  c"),
        ("\x1b[0m\x00\x7f\x9b\u202e", "␛[0m␀\\u007f\\u009b\\u202e"),
        ("東京　です\u00a0می\u200cشود", "東京　です\u00a0می\u200cشود"),
    ],
)
def test_what_is_visible(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert "\n" not in one_line(text)
    assert json.loads(json_line(text)) == text
    assert json_line(text).isprintable()


@pytest.mark.parametrize(
    ("dollars", "text"), [(None, "price unknown"), (0, "no cost"), (0.00314, "$0.0031"), (1234.5, "$1,234.50")]
)
def test_a_cost_is_told(dollars: float | None, text: str) -> None:
    assert bill(dollars) == text
