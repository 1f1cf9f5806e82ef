"""`selfinstruct retry`."""

from __future__ import annotations

from tests.cli.conftest import Say
from tests.support.cli import Said


def test_retry_of_a_run_without_failures_says_so(first: Said, selfinstruct: Say) -> None:
    assert selfinstruct("retry", "first") == (0, "", "outputs/first: no job has failed\n")
