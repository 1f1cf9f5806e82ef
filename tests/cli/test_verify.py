"""`selfinstruct verify`, whole outputs."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import AGAIN, Say
from tests.support.cli import Said


def test_verify_says_what_it_derived(first: Said, selfinstruct: Say, here: Path) -> None:
    assert selfinstruct("verify", "first") == (
        0, "outputs/first: verified: 3 jobs, 6 drafts and the exports derive from the stored answers\n", "",
    )  # fmt: skip
    (here / "outputs/first/export/alpaca.json").write_text("[]\n")
    assert selfinstruct("verify", "first") == (
        1,
        f"outputs/first/export/alpaca.json: not what the run's own settings give; {AGAIN}\n",
        "outputs/first: 1 differences\n",
    )
