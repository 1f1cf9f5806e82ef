"""What every runner of a peer is told, and says: the same prompts, the same server, one line of JSON.

    python NAME.py URL PROMPTS IN_FLIGHT FOLDER

The seconds are those of the work alone: from the call that generates to its return, without imports and start-up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

MODEL = "sim"
KEY = "none"
QUIET = {
    "TELEMETRY_ENABLED": "false",
    "NEMO_TELEMETRY_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "OPENAI_API_KEY": KEY,
}
"""Of the environment: no peer asks anything but the simulated server."""


class Work(NamedTuple):
    """What is to be done."""

    url: str
    """Of the API, with its `/v1`."""
    prompts: list[str]
    in_flight: int
    folder: Path
    """For whatever the peer writes."""


class Words:
    """Stands in for tiktoken's encoding, which some download whatever server they ask: a token to a word."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * len(text.split())


def without_tiktoken() -> None:
    """Let nothing be downloaded to count tokens with."""
    import tiktoken

    tiktoken.get_encoding = lambda _: Words()


def prompts(count: int) -> list[str]:
    """So many prompts, all different: one short question each."""
    return [f"Tell in a few words what the number {n} is good for." for n in range(count)]


def run(
    package: str, work_of: Callable[[Work], Callable[[], int]], answers: Callable[[Path], int] | None = None
) -> None:
    """Print version, seconds, rows and answers of a peer.

    Args:
        package: its name on PyPI.
        work_of: prepares the work and returns what does it, which returns the number of rows.
        answers: counts what was answered in a folder; without it, one for each prompt.
    """
    url, count, in_flight, folder = sys.argv[1:]
    work = Work(url, prompts(int(count)), int(in_flight), Path(folder))
    do = work_of(work)
    began = time.perf_counter()
    rows = do()
    seconds = time.perf_counter() - began
    answered = answers(work.folder) if answers else len(work.prompts)
    print(json.dumps({"version": version(package), "seconds": seconds, "rows": rows, "answers": answered}))
