"""Flags that are settings: each with its place in the configuration's tree, and the options around them that every
command which makes or continues a run has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from selfinstruct.cli.options import LEDGER, folder_of, implied, output_dir

if TYPE_CHECKING:
    from selfinstruct.inputs.config import Tree

SETTINGS_EPILOG = """
Run it again to continue: what is in the ledger is never asked twice.
Every setting above has an environment variable, such as SELFINSTRUCT_{command}_MODEL; flags win
over the environment, that over the file, that over the recipe's defaults.
"""


class Setting(NamedTuple):
    """A flag that is a setting."""

    flag: str
    place: tuple[str, ...]
    """Its place in the configuration's tree."""
    how: dict[str, Any]
    """How click reads it."""

    @property
    def parameter(self) -> str:
        """The name of its parameter, which is also that of its environment variable: `--base-url`, `base_url`."""
        long = next(name for name in self.flag.split("/") if name.startswith("--"))
        return long.removeprefix("--").replace("-", "_")


class Seconds(click.ParamType[Any]):
    """A time: seconds, or with a unit: `90`, `30m`, `2h`."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Seconds, more than 0."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
        return seconds or self.fail(f"{value!r} is no time; write seconds, or 30m, 2h", param, ctx)


PROMPTS = Setting(
    "--prompts", ("prompts",), {"metavar": "DIR", "help": "Folder of prompt files that replace the shipped ones."}
)
BACKEND = [
    Setting(
        "--backend",
        ("backend", "kind"),
        {"metavar": "KIND", "help": "llamacpp (embedded, default), vllm, openai (any such server), scripted."},
    ),
    Setting("--model", ("backend", "model"), {"help": "Model name, or a GGUF file for llamacpp."}),
    Setting(
        "--base-url",
        ("backend", "base_url"),
        {
            "multiple": True,
            "metavar": "URL",
            "help": "A running server: http://localhost:8000/v1; implies --backend openai. Several times for several"
            " that serve the same model.",
        },
    ),
    Setting(
        "--api-key-env",
        ("backend", "api_key_env"),
        {"metavar": "NAME", "help": "Environment variable that holds the key.  [default: OPENAI_API_KEY]"},
    ),
    Setting(
        "--dialect",
        ("backend", "dialect"),
        {
            "type": click.Choice(["completion", "chat"]),
            "help": "Prompts for base or for instruct models; the model's name decides.",
        },
    ),
    Setting(
        "--structured/--no-structured",
        ("backend", "structured"),
        {"default": None, "help": "Ask for JSON by schema (chat; the server must know how)."},
    ),
    Setting(
        "--batch/--no-batch",
        ("backend", "batch"),
        {"default": None, "help": "Ask in batches: half the price, answers within a day (openai)."},
    ),
    Setting(
        "--concurrency",
        ("backend", "concurrency"),
        {"type": click.IntRange(1), "help": "Requests in flight at most.  [default: finds itself]"},
    ),
    Setting(
        "--rpm",
        ("backend", "rpm"),
        {"type": click.FloatRange(0, min_open=True), "metavar": "N", "help": "Requests a minute at most."},
    ),
    Setting(
        "--tpm",
        ("backend", "tpm"),
        {"type": click.FloatRange(0, min_open=True), "metavar": "N", "help": "Tokens a minute at most, in and out."},
    ),
    Setting(
        "--timeout",
        ("backend", "timeout"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "SECONDS",
            "help": "How long to wait for one answer.  [default: 600]",
        },
    ),
    Setting(
        "--script",
        ("backend", "script"),
        {"metavar": "FILE", "help": "Answers from a file; implies --backend scripted."},
    ),
    Setting(
        "--price-in",
        ("backend", "price_in"),
        {
            "type": click.FloatRange(0),
            "metavar": "DOLLARS",
            "help": "US dollars for a million tokens of prompts.  [default: the list price]",
        },
    ),
    Setting(
        "--price-out",
        ("backend", "price_out"),
        {"type": click.FloatRange(0), "metavar": "DOLLARS", "help": "The same of answers."},
    ),
]
BUDGET = [
    Setting(
        "--max-cost",
        ("budget", "cost"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "DOLLARS",
            "help": "Stop before the run has cost more, with all its attempts and however often it is continued.",
        },
    ),
    Setting(
        "--max-tokens",
        ("budget", "tokens"),
        {"type": click.IntRange(1), "help": "The same for tokens, in and out together."},
    ),
    Setting(
        "--max-requests",
        ("budget", "requests"),
        {"type": click.IntRange(1), "help": "The same for requests sent."},
    ),
    Setting(
        "--max-time",
        ("budget", "time"),
        {"type": Seconds(), "metavar": "TIME", "help": "The same for time at work: seconds, or 30m, 2h."},
    ),
]
MAKING = [
    Setting(
        "--temperature",
        ("recipe", "sampling", "temperature"),
        {"type": float, "help": "Of the stage that makes instructions."},
    ),
    Setting("--top-p", ("recipe", "sampling", "top_p"), {"type": float, "help": "Of the same stage."}),
    Setting(
        "--answer-tokens",
        ("recipe", "sampling", "max_tokens"),
        {"type": click.IntRange(1), "help": "Tokens that an answer of the same stage may have."},
    ),
    Setting(
        "--threshold",
        ("filters", "rouge", "threshold"),
        {"type": float, "help": "ROUGE-L above which an instruction is a near-duplicate.  [default: 0.7]"},
    ),
    Setting("--seed", ("seed",), {"type": int, "help": "Number that all randomness derives from.  [default: 42]"}),
    Setting(
        "--ordered/--no-ordered",
        ("ordered",),
        {"default": None, "help": "The same result whatever the timing, for some throughput."},
    ),
    *BUDGET,
]


class Given(NamedTuple):
    """What a command that makes or continues a run was given beside its flags."""

    config_file: Path | None
    assignments: tuple[str, ...]
    formats: tuple[str, ...]
    run_name: str | None
    output_dir: Path
    dry_run: bool
    as_json: bool
    quiet: bool

    @classmethod
    def taken(cls, parameters: dict[str, Any]) -> Given:
        """These out of a command's parameters; the flags of settings are left there."""
        return cls(**{name: parameters.pop(name) for name in cls._fields})


def run_options(settings: Iterable[Setting]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flags of these settings, and around them `--config`, `--set`, `--run` and how it is shown."""
    around = [
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE",
            help="Any setting by its dotted name; may be repeated.",
        ),
        click.option("--run", "run_name", metavar="NAME", help="Name of the run, or a path.  [default: what is made]"),
        output_dir,
        click.option(
            "--format", "formats", multiple=True, metavar="NAME",
            help="What is written at the end; may be repeated.  [default: alpaca, jsonl]",
        ),
        click.option("--dry-run", is_flag=True, help="Print the first prompt and an estimate; ask no model."),
        click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines, for machines."),
        click.option("--quiet", is_flag=True, help="Show nothing but the result."),
    ]  # fmt: skip
    file = click.option(
        "-c", "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file that may hold any setting.",
    )  # fmt: skip
    flags = [click.option(*_names(setting.flag), setting.parameter, **setting.how) for setting in settings]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([file, *flags, *around]):
            command = option(command)
        return command

    return decorate


def _names(flag: str) -> list[str]:
    return flag.split("/") if flag.startswith("-n") else [flag]


def tree_of(settings: Iterable[Setting], given: Given, flags: dict[str, Any]) -> Tree:
    """The tree that the person gave: file, then environment and flags, then `--set`."""
    from selfinstruct.inputs.config import assignment, load, merge

    tree = merge(load(given.config_file) if given.config_file else {}, tree_of_flags(settings, flags))
    for text in given.assignments:
        tree = merge(tree, assignment(text))
    if given.formats:
        tree["formats"] = list(given.formats)
    for key in ("backend", "judge"):
        if isinstance(backend := tree.get(key), dict):
            implied(backend)
    return tree


def tree_of_flags(settings: Iterable[Setting], flags: dict[str, Any]) -> Tree:
    """The tree of the flags that were given."""
    from selfinstruct.inputs.config import merge

    tree: Tree = {}
    for setting in settings:
        if (value := flags[setting.parameter]) not in (None, ()):
            tree = merge(tree, _nested(setting.place, list(value) if isinstance(value, tuple) else value))
    return tree


def setting_flags(settings: Iterable[Setting]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flags of these settings."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(list(settings)):
            command = click.option(*_names(setting.flag), setting.parameter, **setting.how)(command)
        return command

    return decorate


def _nested(place: tuple[str, ...], value: Any) -> Tree:
    for key in reversed(place):
        value = {key: value}
    return dict(value)


def enter(tree: Tree, given: Given, name: str) -> int:
    """Begin the run, continue it, or only tell what it would do; the exit code.

    Args:
        name: of the run where none was given.
    """
    from selfinstruct.cli.session import Session

    folder = folder_of(given.run_name or name, given.output_dir)
    session = Session(folder, as_json=given.as_json, quiet=given.quiet)
    if given.dry_run:
        return session.dry_run(tree)
    return session.resume(tree) if (folder / LEDGER).is_file() else session.begin(tree)
