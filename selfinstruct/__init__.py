"""Turns a handful of seed tasks into a large, diverse, explained instruction dataset; see `selfinstruct --help`.

    import selfinstruct as si

    run = si.Run.open("outputs/first", seeds="my.jsonl", n=500, backend={"base_url": "http://localhost:8000/v1"})
    ended = run.finish()

The names of `__all__` are public; docs/api.md tells of them. Each is imported when it is first used.
"""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfinstruct.dataset.dedup import Deduplicated, Duplicate, dedup
    from selfinstruct.dataset.files import Written
    from selfinstruct.errors import (
        ConfigError,
        EndpointError,
        Fault,
        HubError,
        PromptError,
        RunError,
        SelfInstructError,
        SourceError,
        UserError,
    )
    from selfinstruct.inputs.rows import Row, read_rows
    from selfinstruct.recipes.base import Ask, Recipe, RecipeOptions, SamplingOptions, Stage
    from selfinstruct.records import (
        Call,
        Check,
        Completion,
        Draft,
        Execution,
        Instance,
        Job,
        Plan,
        Program,
        Reason,
        Result,
        Rival,
        Sample,
        Seed,
        Tool,
        Turn,
        Verdict,
    )
    from selfinstruct.run.events import Answered, Ended, Failed, Faulted, Planned, Settled
    from selfinstruct.run.session import Run, Settings
    from selfinstruct.run.verify import Verified
    from selfinstruct.store.ledger import StoredDraft

    __version__: str

__all__ = [
    "Answered", "Ask", "Call", "Check", "Completion", "ConfigError", "Deduplicated", "Draft", "Duplicate", "Ended",
    "EndpointError", "Execution", "Failed", "Fault", "Faulted", "HubError", "Instance", "Job", "Plan", "Planned",
    "Program", "PromptError", "Reason", "Recipe", "RecipeOptions", "Result", "Rival", "Row", "Run", "RunError",
    "Sample", "SamplingOptions", "Seed", "SelfInstructError", "Settings", "Settled", "SourceError", "Stage",
    "StoredDraft", "Tool", "Turn", "UserError", "Verdict", "Verified", "Written", "dedup", "read_rows",
]  # fmt: skip

_HOMES = {
    "dataset.dedup": ("Deduplicated", "Duplicate", "dedup"),
    "dataset.files": ("Written",),
    "errors": (
        "ConfigError", "EndpointError", "Fault", "HubError", "PromptError", "RunError", "SelfInstructError",
        "SourceError", "UserError",
    ),
    "inputs.rows": ("Row", "read_rows"),
    "recipes.base": ("Ask", "Recipe", "RecipeOptions", "SamplingOptions", "Stage"),
    "records": (
        "Call", "Check", "Completion", "Draft", "Execution", "Instance", "Job", "Plan", "Program", "Reason", "Result",
        "Rival", "Sample", "Seed", "Tool", "Turn", "Verdict",
    ),
    "run.events": ("Answered", "Ended", "Failed", "Faulted", "Planned", "Settled"),
    "run.session": ("Run", "Settings"),
    "run.verify": ("Verified",),
    "store.ledger": ("StoredDraft",),
}  # fmt: skip
"""Where each public name is from."""
_HOME = {name: home for home, names in _HOMES.items() for name in names}

# The library is silent unless whoever uses it listens; on the command line `-v` and `--debug` do.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used; every other is an AttributeError."""
    from importlib import import_module, metadata

    if name == "__version__":
        found: Any = metadata.version("selfinstruct")
    elif name in _HOME:
        found = getattr(import_module(f"selfinstruct.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
