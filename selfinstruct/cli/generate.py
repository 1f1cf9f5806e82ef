"""`selfinstruct generate`: begin a run, or continue it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfinstruct.cli.options import LEDGER, folder_of, implied, output_dir

if TYPE_CHECKING:
    from selfinstruct.config import RunConfig, Tree

EPILOG = """\b
Examples:
  selfinstruct generate
  selfinstruct generate -n 500 --run trial
  selfinstruct generate --seeds my.jsonl --backend vllm --model Qwen/Qwen3-8B -n 50000
  selfinstruct generate --base-url http://localhost:8000/v1 --model my-model
  OPENAI_API_KEY=… selfinstruct generate --backend openai --model gpt-4o-mini -n 1000
  selfinstruct generate --config run.toml --set filters.rouge.threshold=0.6

Run it again to continue: what is in the ledger is never asked twice.
Every setting above has an environment variable, such as SELFINSTRUCT_GENERATE_MODEL; flags win
over the environment, that over the file, that over the recipe's defaults.
"""

# Flag, its place in the configuration's tree, and how click reads it.
_SETTINGS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    (
        "-n/--num-tasks",
        ("n",),
        {
            "type": click.IntRange(1),
            "metavar": "N",
            "help": "Tasks to keep, each with at least one instance.  [default: 30]",
        },
    ),
    ("--recipe", ("recipe", "name"), {"help": "self-instruct (default) or alpaca."}),
    (
        "--strict/--no-strict",
        ("recipe", "strict"),
        {"default": None, "help": "Decide item for item as the published code does."},
    ),
    ("--seeds", ("seeds",), {"metavar": "PATH", "help": "Seed tasks: JSONL, JSON, CSV, Parquet, or a dataset folder."}),
    ("--prompts", ("prompts",), {"metavar": "DIR", "help": "Folder of prompt files that replace the shipped ones."}),
    (
        "--backend",
        ("backend", "kind"),
        {"metavar": "KIND", "help": "llamacpp (embedded, default), vllm, openai (any such server), scripted."},
    ),
    ("--model", ("backend", "model"), {"help": "Model name, or a GGUF file for llamacpp."}),
    (
        "--base-url",
        ("backend", "base_url"),
        {"metavar": "URL", "help": "A running server: http://localhost:8000/v1; implies --backend openai."},
    ),
    (
        "--api-key-env",
        ("backend", "api_key_env"),
        {"metavar": "NAME", "help": "Environment variable that holds the key.  [default: OPENAI_API_KEY]"},
    ),
    (
        "--dialect",
        ("backend", "dialect"),
        {
            "type": click.Choice(["completion", "chat"]),
            "help": "Prompts for base or for instruct models; the model's name decides.",
        },
    ),
    (
        "--structured/--no-structured",
        ("backend", "structured"),
        {"default": None, "help": "Ask for JSON by schema (chat; the server must know how)."},
    ),
    (
        "--concurrency",
        ("backend", "concurrency"),
        {"type": click.IntRange(1), "help": "Requests in flight.  [default: by backend]"},
    ),
    (
        "--timeout",
        ("backend", "timeout"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "SECONDS",
            "help": "How long to wait for one answer.  [default: 600]",
        },
    ),
    (
        "--script",
        ("backend", "script"),
        {"metavar": "FILE", "help": "Answers from a file; implies --backend scripted."},
    ),
    (
        "--temperature",
        ("recipe", "sampling", "temperature"),
        {"type": float, "help": "Of the stage that invents instructions."},
    ),
    ("--top-p", ("recipe", "sampling", "top_p"), {"type": float, "help": "Of the same stage."}),
    ("--max-tokens", ("recipe", "sampling", "max_tokens"), {"type": click.IntRange(1), "help": "Of the same stage."}),
    (
        "--threshold",
        ("filters", "rouge", "threshold"),
        {"type": float, "help": "ROUGE-L above which an instruction is a near-duplicate.  [default: 0.7]"},
    ),
    ("--seed", ("seed",), {"type": int, "help": "Number that all randomness derives from.  [default: 42]"}),
    (
        "--ordered/--no-ordered",
        ("ordered",),
        {"default": None, "help": "The same result whatever the timing, for some throughput."},
    ),
]


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, _, how in reversed(_SETTINGS):
        names = flag.split("/") if flag.startswith("-n") else [flag]
        command = click.option(*names, parameter(flag), **how)(command)
    return command


def parameter(flag: str) -> str:
    """The name of a flag's parameter, which is also that of its environment variable: `--base-url`, `base_url`."""
    long = next(name for name in flag.split("/") if name.startswith("--"))
    return long.removeprefix("--").replace("-", "_")


@click.command(epilog=EPILOG)
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file that may hold any setting.",
)
@_settings
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any setting by its dotted name; may be repeated."
)
@click.option("--run", "run_name", metavar="NAME", help="Name of the run, or a path.  [default: recipe and model]")
@output_dir
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="NAME",
    help="What is written at the end; may be repeated.  [default: alpaca, jsonl]",
)
@click.option("--dry-run", is_flag=True, help="Print the first prompt and an estimate; ask no model.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines, for machines.")
@click.option("--quiet", is_flag=True, help="Show nothing but the result.")
def generate(
    config_file: Path | None,
    assignments: tuple[str, ...],
    run_name: str | None,
    output_dir: Path,
    formats: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Expand seed tasks until N tasks are kept, or continue a run.

    With no option at all it uses the seeds that ship and a small embedded model: good for trying everything, not for
    a dataset to train on. `--model` with a backend changes that.
    """
    from selfinstruct.cli.session import Session

    tree = given(config_file, flags, assignments, formats)
    folder = folder_of(run_name or default_name(tree), output_dir)
    session = Session(folder, as_json=as_json, quiet=quiet)
    if dry_run:
        return session.dry_run(tree)
    return session.resume(tree) if (folder / LEDGER).is_file() else session.begin(tree)


def given(
    config_file: Path | None, flags: dict[str, Any], assignments: tuple[str, ...], formats: tuple[str, ...]
) -> Tree:
    """The tree that the person gave: file, then environment and flags, then `--set`."""
    from selfinstruct.config import assignment, load, merge

    tree = load(config_file) if config_file else {}
    for flag, place, _ in _SETTINGS:
        if (value := flags[parameter(flag)]) is not None:
            tree = merge(tree, _nested(place, value))
    for text in assignments:
        tree = merge(tree, assignment(text))
    if formats:
        tree["formats"] = list(formats)
    if isinstance(backend := tree.get("backend"), dict):
        implied(backend)
    return tree


def _nested(place: tuple[str, ...], value: Any) -> Tree:
    for key in reversed(place):
        value = {key: value}
    return dict(value)


def default_name(tree: Tree) -> str:
    """A run's name when none is given: what is made, and by whom."""
    from selfinstruct.config import RunConfig, build

    config: RunConfig = build(RunConfig, tree, where="configuration")
    model = Path(config.backend.model).name or (
        "embedded" if config.backend.kind == "llamacpp" else config.backend.kind
    )
    return re.sub(r"[^a-z0-9.]+", "-", f"{config.recipe.name}-{model}".lower()).strip("-.")
