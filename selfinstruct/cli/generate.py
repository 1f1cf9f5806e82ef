"""`selfinstruct generate`: begin a run, or continue it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from selfinstruct.cli.flags import (
    BACKEND,
    MAKING,
    PROMPTS,
    SETTINGS_EPILOG,
    THEN,
    Flag,
    Given,
    folder_of,
    is_run,
    run_options,
    tree_of,
)
from selfinstruct.cli.logs import Command
from selfinstruct.cli.session import enter
from selfinstruct.inputs.config import RunConfig, Tree, accept

LONGEST_NAME = 100
"""Characters of a run's name where none is given."""
EPILOG = """\b
Examples:
  selfinstruct generate
  selfinstruct generate -n 500 --run trial
  selfinstruct generate my.jsonl --backend vllm --model Qwen/Qwen3-8B -n 50000
  selfinstruct generate --base-url http://localhost:8000/v1 --model my-model
  OPENAI_API_KEY=… selfinstruct generate --backend openai --model gpt-4o-mini -n 1000
  selfinstruct generate --then evol-instruct -n 200
  selfinstruct generate --config run.toml --set filters.rouge.threshold=0.6
""" + SETTINGS_EPILOG.format(command="GENERATE")

FLAGS = [
    Flag(
        "-n/--num-tasks",
        ("n",),
        {
            "type": click.IntRange(1),
            "metavar": "N",
            "help": "Tasks to keep, each with at least one instance.  [default: 30]",
        },
    ),
    Flag(
        "--recipe",
        ("recipe", "name"),
        {"metavar": "NAME", "help": "What is made and how; `recipes` lists them.  [default: self-instruct]"},
    ),
    THEN,
    Flag(
        "--strict/--no-strict",
        ("recipe", "strict"),
        {"default": None, "help": "Decide item for item as the published code does."},
    ),
    Flag(
        "--seeds",
        ("seeds",),
        {"metavar": "PATH", "help": "Seed tasks: JSONL, JSON, CSV, Parquet, a dataset folder, or a run's folder."},
    ),
    PROMPTS,
    *BACKEND,
    *MAKING,
]


@click.command(cls=Command, epilog=EPILOG)
@click.argument("source", type=click.Path(), required=False)
@run_options(FLAGS)
@click.pass_context
def generate(context: click.Context, /, source: str | None, **given: Any) -> int:
    """Expand seed tasks until N tasks are kept, or continue a run.

    SOURCE holds the seed tasks: the same as --seeds. Without it, the seeds that ship are used, and without a model a
    small embedded one: good for trying everything, not for a dataset to train on. `--model` with a backend changes
    that.
    """
    if source is not None:
        if context.get_parameter_source("seeds") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"seeds are given twice, {source} and --seeds {given['seeds']}: leave one out")
        given["seeds"] = source
    around = Given.taken(given)
    if source is not None and is_run(folder := folder_of(source, around.output_dir)):
        given["seeds"] = str(folder)
    tree = tree_of(FLAGS, around, given)
    return enter(tree, around, around.run_name or default_name(tree))


def default_name(tree: Tree) -> str:
    """A run's name when none is given: what is made, and by whom."""
    config: RunConfig = accept(RunConfig, tree, where="configuration")
    model = Path(config.backend.model).name or (
        "embedded" if config.backend.kind == "llamacpp" else config.backend.kind
    )
    recipes = "-".join(told.name for told in (config.recipe, *config.then))
    return re.sub(r"[^a-z0-9.]+", "-", f"{recipes}-{model}".lower()).strip("-.")[:LONGEST_NAME]
