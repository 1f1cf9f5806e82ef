"""`selfinstruct retry`: ask again for what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfinstruct.cli.flags import BUDGET, command, existing, run_argument, tree_of_flags, with_flags
from selfinstruct.cli.session import Session
from selfinstruct.run.session import Run


@command("retry first", "retry first --max-cost 8")
@run_argument
@with_flags(BUDGET)
def retry(run: str, output_dir: Path, **given: Any) -> int:
    """Ask again for every job of RUN that failed; the run's budget holds."""
    return Session(Run.of(existing(run, output_dir), tree_of_flags(BUDGET, given))).drive(retry=True)
