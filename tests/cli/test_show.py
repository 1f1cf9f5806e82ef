"""`selfinstruct show`, whole outputs; families have a file of their own."""

from __future__ import annotations

import json
import re

from tests.cli.conftest import BUS, TIDE, Say
from tests.support.cli import Said


def test_show_tells_the_latest_tasks_with_their_story(first: Said, selfinstruct: Say) -> None:
    shown = "s3, s5, s6, s4, s2, s7, s1, s0"
    assert (
        re.sub("shown .*", f"shown {shown}", selfinstruct("show", "first").out)
        == f"""\
2.1 (instances) kept
  instruction: {TIDE}
  input: the sea
  output: It is wide.
  job 1 (instructions), shown {shown}
  job 2 (instances)

3.1 (instances) kept
  instruction: {BUS}
  input: the sea
  output: It is wide.
  job 1 (instructions), shown {shown}
  job 3 (instances)

"""
    )


def test_show_tells_why_a_draft_was_dropped(first: Said, selfinstruct: Say) -> None:
    assert selfinstruct("show", "first", "1.2").out.splitlines()[:2] == [
        '1.2 (instructions) dropped by validity: banned_word {"word": "Draw"}',
        "  instruction: Draw a map of the town.",
    ]


def test_show_prints_what_was_asked_and_answered(first: Said, selfinstruct: Say) -> None:
    told = selfinstruct("show", "first", "2.1", "--prompts").out
    assert "    asked: A list of varied tasks" in told
    assert "    answered (stop): No\n" in told
    story = json.loads(selfinstruct("show", "first", "2.1", "--json").out)
    assert [step["stage"] for step in story["lineage"]] == ["instructions", "instances"]
    assert story["instances"] == [{"input": "the sea", "output": "It is wide."}]
