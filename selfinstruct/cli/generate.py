"""`selfinstruct generate`: begin a run, or continue it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfinstruct.cli.settings import (
    BACKEND,
    MAKING,
    PROMPTS,
    SETTINGS_EPILOG,
    Given,
    Setting,
    enter,
    run_options,
    tree_of,
)

if TYPE_CHECKING:
    from selfinstruct.inputs.config import RunConfig, Tree

EPILOG = """\b
Examples:
  selfinstruct generate
  selfinstruct generate -n 500 --run trial
  selfinstruct generate --seeds my.jsonl --backend vllm --model Qwen/Qwen3-8B -n 50000
  selfinstruct generate --base-url http://localhost:8000/v1 --model my-model
  OPENAI_API_KEY=… selfinstruct generate --backend openai --model gpt-4o-mini -n 1000
  selfinstruct generate --config run.toml --set filters.rouge.threshold=0.6
""" + SETTINGS_EPILOG.format(command="GENERATE")

SETTINGS = [
    Setting(
        "-n/--num-tasks",
        ("n",),
        {
            "type": click.IntRange(1),
            "metavar": "N",
            "help": "Tasks to keep, each with at least one instance.  [default: 30]",
        },
    ),
    Setting("--recipe", ("recipe", "name"), {"help": "self-instruct (default) or alpaca."}),
    Setting(
        "--strict/--no-strict",
        ("recipe", "strict"),
        {"default": None, "help": "Decide item for item as the published code does."},
    ),
    Setting(
        "--seeds",
        ("seeds",),
        {"metavar": "PATH", "help": "Seed tasks: JSONL, JSON, CSV, Parquet, a dataset folder, or a run's folder."},
    ),
    PROMPTS,
    *BACKEND,
    *MAKING,
]


@click.command(epilog=EPILOG)
@run_options(SETTINGS)
def generate(**given: Any) -> int:
    """Expand seed tasks until N tasks are kept, or continue a run.

    With no option at all it uses the seeds that ship and a small embedded model: good for trying everything, not for
    a dataset to train on. `--model` with a backend changes that.
    """
    around = Given.taken(given)
    tree = tree_of(SETTINGS, around, given)
    return enter(tree, around, default_name(tree))


def default_name(tree: Tree) -> str:
    """A run's name when none is given: what is made, and by whom."""
    from selfinstruct.inputs.config import RunConfig, build

    config: RunConfig = build(RunConfig, tree, where="configuration")
    model = Path(config.backend.model).name or (
        "embedded" if config.backend.kind == "llamacpp" else config.backend.kind
    )
    return re.sub(r"[^a-z0-9.]+", "-", f"{config.recipe.name}-{model}".lower()).strip("-.")
