"""`selfinstruct check`, whole outputs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Say
from tests.support.cli import write


def test_check_tells_what_answers(here: Path, selfinstruct: Say) -> None:
    script = write(here, "short.jsonl", [" 4, 5", "Yes."])
    said = selfinstruct("check", "--script", script)
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "model scripted at scripted\n  completion: answers, such as '4, 5'\n  chat: answers, such as 'Yes.'\n"
        "  prompts will be in the completion dialect (--dialect overrides)\n"
    )
    assert json.loads(selfinstruct("check", "--script", script, "--json").out)["dialect"] == "completion"
