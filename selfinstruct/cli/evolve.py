"""`selfinstruct evolve`: Evol-Instruct on a run's tasks, or on a file's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from selfinstruct.cli.flags import (
    BACKEND,
    MAKING,
    PROMPTS,
    SETTINGS_EPILOG,
    Flag,
    Given,
    folder_of,
    is_run,
    known_runs,
    run_options,
    tree_of,
)
from selfinstruct.cli.logs import Command
from selfinstruct.cli.session import enter
from selfinstruct.cli.terminal import say
from selfinstruct.errors import ConfigError, SourceError
from selfinstruct.inputs.config import BackendConfig, RunConfig, Tree
from selfinstruct.recipes.configured import stored
from selfinstruct.recipes.evol_instruct import EvolInstruct
from selfinstruct.store.ledger import Ledger

SAYS_WHO = {"kind", "model", "base_url", "script"}
"""Settings of a backend that say who evolves."""
EPILOG = """\b
Examples:
  selfinstruct evolve self-instruct-embedded
  selfinstruct evolve alpaca_data.json --rounds 4 --backend vllm --model Qwen/Qwen3-8B
  selfinstruct evolve first --operators code --run first-code
  selfinstruct evolve first --operators deepen=2,in_breadth --judge-model gpt-4o --base-url …
  selfinstruct evolve first --strict paper
""" + SETTINGS_EPILOG.format(command="EVOLVE")


class Operators(click.ParamType[Any]):
    """The name of a set, or names with weights: `deepen=2,in_breadth`."""

    name = "operators"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """One name as it is, for it may be that of a set; else names with weights."""
        pairs = [part.strip().partition("=") for part in value.split(",")]
        try:
            weights = [f"{name.strip()}={float(weight or 1)}" for name, _, weight in pairs]
            return weights if "=" in value or len(weights) > 1 else value.strip()
        except ValueError:
            self.fail(f"{value!r}: write general, code, or names with weights such as deepen=2,in_breadth", param, ctx)


FLAGS = [
    Flag(
        "-n/--num-tasks",
        ("n",),
        {"type": click.IntRange(1), "metavar": "N", "help": "Evolved tasks to keep.  [default: all that there are]"},
    ),
    Flag(
        "--rounds",
        ("recipe", "rounds"),
        {"type": click.IntRange(1), "help": "Times that every live task is evolved.  [default: 4]"},
    ),
    Flag(
        "--operators",
        ("recipe", "operators"),
        {
            "type": Operators(),
            "metavar": "NAMES",
            "help": "general (default), code, or names with weights: deepen=2,in_breadth.",
        },
    ),
    Flag(
        "--strict",
        ("recipe", "strict"),
        {"type": click.Choice(["released", "paper"]), "help": "As the repository ran, or as the paper tells."},
    ),
    PROMPTS,
    *BACKEND,
    Flag("--judge-model", ("judge", "model"), {"help": "Another model to judge whether anything was gained."}),
    Flag(
        "--judge-base-url",
        ("judge", "base_url"),
        {"metavar": "URL", "help": "Its server, where that is another.  [default: the same]"},
    ),
    Flag(
        "--judge-api-key-env",
        ("judge", "api_key_env"),
        {"metavar": "NAME", "help": "Environment variable that holds that server's key."},
    ),
    *MAKING,
]


@click.command(cls=Command, epilog=EPILOG)
@click.argument("source")
@run_options(FLAGS)
def evolve(source: str, **given: Any) -> int:
    """Make the tasks of SOURCE harder and rarer, round by round, or continue doing so.

    SOURCE is a run, by its name or folder, or a file of tasks that `seeds check` reads: Alpaca JSON and many others.
    Each round evolves every live task; what fails gives way to its parent.
    """
    around = Given.taken(given)
    tree = tree_of(FLAGS, around, given)
    tree["recipe"] = {**tree.get("recipe", {}), "name": EvolInstruct.name}
    folder = folder_of(source, around.output_dir)
    if not is_run(folder):
        _require_source(source, around.output_dir)
        return enter({**tree, "seeds": source}, around, default_name(Path(source).name))
    config = _stored(folder)
    if config.recipe.name == EvolInstruct.name and not around.run_name:
        say(f"{folder} is an evolution: continuing it; --run evolves what lives in it")
        return enter(tree, around, source)
    name = default_name(folder.resolve().name)
    if not is_run(folder_of(around.run_name or name, around.output_dir)):
        _require_backend(folder, config.backend, tree)
    return enter({**tree, "seeds": str(folder)}, around, name)


def default_name(source: str) -> str:
    """A run's name when none is given, from that of its source."""
    stem = re.sub(r"(\.[a-z]+)+$", "", source)
    return f"{re.sub(r'[^a-zA-Z0-9._-]+', '-', stem).strip('-.')}-evolved"


def _stored(folder: Path) -> RunConfig:
    with Ledger.open(folder) as ledger:
        return stored(ledger).config


def _require_backend(folder: Path, backend: BackendConfig, tree: Tree) -> None:
    """Raise ConfigError where the embedded model would take over, unasked, from the one that wrote a run: that is a
    waste, and to ask the other unasked may cost money."""
    if SAYS_WHO & tree.get("backend", {}).keys() or (backend.kind == "llamacpp" and not backend.model):
        return
    same = f"--backend {backend.kind}" + (f" --model {backend.model}" if backend.model else "")
    raise ConfigError(
        f"{folder}: written by {backend.model or backend.kind} ({backend.kind}); say who evolves it: {same}, or "
        "--backend llamacpp for the embedded model"
    )


def _require_source(source: str, outputs: Path) -> None:
    if not Path(source).exists():
        raise SourceError(f"{source}: neither a file nor a run; runs under {outputs}: {known_runs(outputs)}")
