"""Options that several commands share, as decorators, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from selfinstruct.errors import RunError

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_OUTPUTS = "outputs"
LEDGER = "ledger.sqlite"


def examples(*commands: str) -> str:
    """The end of a command's help: examples to paste."""
    return "\n".join(
        ["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  selfinstruct {c}" for c in commands)]
    )


def output_dir(command: Command) -> Command:
    """`--output-dir`: where runs are."""
    return click.option(
        "--output-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_OUTPUTS,
        show_default=True,
        help="Folder that holds the runs.",
    )(command)


def run_argument(command: Command) -> Command:
    """`RUN`: the name of a run under the output folder, or the path of its folder."""
    return output_dir(click.argument("run")(command))


def as_json(command: Command) -> Command:
    """`--json`: for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def implied(backend: dict[str, Any]) -> None:
    """Fill in the kind of backend that an address or a script means."""
    for key, kind in (("base_url", "openai"), ("script", "scripted")):
        if backend.get(key):
            backend.setdefault("kind", kind)


def folder_of(run: str, outputs: Path) -> Path:
    """The folder of a run that was named, by its name under `outputs` or by its path."""
    named = outputs / run
    return (
        Path(run)
        if (os.sep in run or run in (".", "..") or Path(run, LEDGER).is_file()) and not named.is_dir()
        else named
    )


def existing(run: str, outputs: Path) -> Path:
    """The folder of a run that exists.

    Raises:
        RunError: it does not; the message lists those that do.
    """
    folder = folder_of(run, outputs)
    if (folder / LEDGER).is_file():
        return folder
    there = ", ".join(runs(outputs)) or "none yet; `selfinstruct generate` begins one"
    raise RunError(f"{folder}: no run here; runs under {outputs}: {there}")


def runs(outputs: Path) -> list[str]:
    """The names of the runs under a folder, the latest first."""
    found = [path.parent for path in outputs.glob(f"[!.]*/{LEDGER}")]
    return [folder.name for folder in sorted(found, key=lambda folder: -(folder / LEDGER).stat().st_mtime)]
