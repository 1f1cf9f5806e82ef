"""`selfinstruct verify`: everything derived again from the stored answers, and compared."""

from __future__ import annotations

from pathlib import Path

from selfinstruct.cli.flags import command, existing, run_argument
from selfinstruct.cli.terminal import say
from selfinstruct.run.verify import verify as derive_again

SHOWN = 20
"""Differences printed; more are counted."""


@command("verify first")
@run_argument
def verify(run: str, output_dir: Path) -> int:
    """Derive all of RUN again from its stored answers, and compare byte for byte.

    That is every plan, draft, verdict and export. No model is asked.
    """
    folder = existing(run, output_dir)
    found, jobs, drafts = derive_again(folder)
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more")
    if found:
        say(f"{folder}: {len(found)} differences")
        return 1
    print(f"{folder}: verified: {jobs} jobs, {drafts} drafts and the exports derive from the stored answers")
    return 0
