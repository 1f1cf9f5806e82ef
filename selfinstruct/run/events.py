"""What happens in a run, as its driver is told."""

from __future__ import annotations

from typing import Literal, NamedTuple

from selfinstruct.errors import Fault
from selfinstruct.records import Answer, Job, Outcome

Ending = Literal["complete", "interrupted", "budget", "exhausted", "barren", "failing"]
"""Why a run ended: the target is reached, or all is done where there is none; it was told to stop; a budget is reached;
nothing more can be planned; too many jobs in a row kept nothing, or failed."""


class Planned(NamedTuple):
    """A job was numbered and stored."""

    job: Job


class Answered(NamedTuple):
    """A question was answered and the answer is stored."""

    job: Job
    answer: Answer
    seconds: float
    """From asking to the answer, retries included."""
    door: str
    """Who answered: a model by its name in the run, `sandbox`, or `tools`."""


class Faulted(NamedTuple):
    """An attempt brought no answer; another may follow."""

    job: Job
    fault: Fault
    attempt: int


class Settled(NamedTuple):
    """A job was judged and stored."""

    job: Job
    outcomes: list[Outcome]


class Failed(NamedTuple):
    """A job failed and is stored as such."""

    job: Job
    kind: str
    message: str


class Ended(NamedTuple):
    """The run is over for now."""

    ending: Ending
    tasks: int
    message: str = ""


Event = Planned | Answered | Faulted | Settled | Failed | Ended
