"""What commands are told: flags that are settings, each with its place in the configuration's tree; the options that
several commands share; and the runs that an argument names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from selfinstruct.cli.logs import Command
from selfinstruct.cli.roles import Role, once
from selfinstruct.errors import RunError
from selfinstruct.inputs.config import Tree, assignment, load, merge, written_out
from selfinstruct.store.ledger import NAME as LEDGER

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MOST = 10**9
"""Entries that a command shows at most."""
SETTINGS_EPILOG = """
Run it again to continue: what is in the ledger is never asked twice.
Every setting above has an environment variable, such as SELFINSTRUCT_{command}_MODEL; flags win
over the environment, that over the file, that over the recipe's defaults.
"""


class Flag(NamedTuple):
    """A flag that is a setting."""

    names: str
    """As it is written, such as `-n/--num-tasks`."""
    place: tuple[str, ...]
    """Its place in the configuration's tree."""
    how: dict[str, Any]
    """How click reads it."""

    @property
    def parameter(self) -> str:
        """The name of its parameter, which is also that of its environment variable: `--base-url`, `base_url`."""
        long = next(name for name in self.names.split("/") if name.startswith("--"))
        return long.removeprefix("--").replace("-", "_")

    def __call__(self, command: Decorated) -> Decorated:
        """Decorate a command with it."""
        names = self.names.split("/") if self.names.startswith("-n") else [self.names]
        return click.option(*names, self.parameter, **self.how)(command)


class Seconds(click.ParamType[Any]):
    """A time: seconds, or with a unit: `90`, `30m`, `2h`."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Seconds, more than 0."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]] if found else 0.0
        return seconds or self.fail(f"{value!r} is no time; write seconds, or 30m, 2h", param, ctx)


class Finite(click.FloatRange):
    """A number in a range, and no NaN, which is in every one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value} is no finite number", param, ctx)


def _tables(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> list[Tree] | None:
    """The recipes that were named as entries of `[[then]]`, which `--set then.…` can add to."""
    return [{"name": name} for name in names] or None


# -- the flags --------------------------------------------------------------------------------------------------------

PROMPTS = Flag(
    "--prompts", ("prompts",), {"metavar": "DIR", "help": "Folder of prompts that replace the shipped ones."}
)
THEN = Flag(
    "--then",
    ("then",),
    {
        "multiple": True,
        "callback": _tables,
        "metavar": "NAME",
        "help": "A recipe that goes on with each task the one before keeps; -n counts what the last keeps. May be"
        " repeated.",
    },
)
BACKEND = [
    Flag(
        "--backend",
        ("backend", "kind"),
        {"metavar": "KIND", "help": "llamacpp (embedded, default), vllm, openai (any such server), scripted."},
    ),
    Flag("--model", ("backend", "model"), {"help": "Model name, or a GGUF file for llamacpp."}),
    Flag(
        "--base-url",
        ("backend", "base_url"),
        {
            "multiple": True,
            "metavar": "URL",
            "help": "A running server, such as http://localhost:8000/v1; implies --backend openai. May be repeated for"
            " several servers of the same model.",
        },
    ),
    Flag(
        "--api-key-env",
        ("backend", "api_key_env"),
        {"metavar": "NAME", "help": "Environment variable that holds the key.  [default: OPENAI_API_KEY]"},
    ),
    Flag(
        "--role",
        ("roles",),
        {
            "type": Role(),
            "multiple": True,
            "callback": once,
            "metavar": "NAME=MODEL[@URL]",
            "help": "Another model for one role, such as judge=gpt-4o@https://host/v1; several with weights:"
            " answerer=a:0.5,b:0.5. May be repeated.",
        },
    ),
    Flag(
        "--dialect",
        ("backend", "dialect"),
        {
            "type": click.Choice(["completion", "chat"]),
            "help": "Prompt style, for base or instruct models.  [default: inferred from the model name]",
        },
    ),
    Flag(
        "--structured/--no-structured",
        ("backend", "structured"),
        {"default": None, "help": "Ask for JSON by schema (chat; the server must support it)."},
    ),
    Flag(
        "--batch/--no-batch",
        ("backend", "batch"),
        {"default": None, "help": "Ask in batches: half the price, answers within a day (openai)."},
    ),
    Flag(
        "--concurrency",
        ("backend", "concurrency"),
        {"type": click.IntRange(1), "help": "Maximum concurrent requests.  [default: automatic]"},
    ),
    Flag(
        "--rpm",
        ("backend", "rpm"),
        {"type": click.FloatRange(0, min_open=True), "metavar": "N", "help": "Maximum requests per minute."},
    ),
    Flag(
        "--tpm",
        ("backend", "tpm"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "N",
            "help": "Maximum tokens per minute (prompt + completion).",
        },
    ),
    Flag(
        "--timeout",
        ("backend", "timeout"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "SECONDS",
            "help": "How long to wait for one answer.  [default: 600]",
        },
    ),
    Flag(
        "--script",
        ("backend", "script"),
        {"metavar": "FILE", "help": "Answers from a file; implies --backend scripted."},
    ),
    Flag(
        "--price-in",
        ("backend", "price_in"),
        {
            "type": click.FloatRange(0),
            "metavar": "DOLLARS",
            "help": "US dollars per million prompt tokens.  [default: the list price]",
        },
    ),
    Flag(
        "--price-out",
        ("backend", "price_out"),
        {
            "type": click.FloatRange(0),
            "metavar": "DOLLARS",
            "help": "US dollars per million completion tokens.",
        },
    ),
]
BUDGET = [
    Flag(
        "--max-cost",
        ("budget", "cost"),
        {
            "type": click.FloatRange(0, min_open=True),
            "metavar": "DOLLARS",
            "help": "Hard cap on cost in US dollars, across retries and resumed sessions.",
        },
    ),
    Flag(
        "--max-tokens",
        ("budget", "tokens"),
        {"type": click.IntRange(1), "help": "Hard cap on total tokens (prompt + completion)."},
    ),
    Flag(
        "--max-requests",
        ("budget", "requests"),
        {"type": click.IntRange(1), "help": "Hard cap on requests."},
    ),
    Flag(
        "--max-time",
        ("budget", "time"),
        {"type": Seconds(), "metavar": "TIME", "help": "Hard cap on running time: 90, 30m, 2h."},
    ),
]
MAKING = [
    Flag(
        "--temperature",
        ("recipe", "sampling", "temperature"),
        {"type": float, "help": "Sampling temperature for the instruction stage."},
    ),
    Flag("--top-p", ("recipe", "sampling", "top_p"), {"type": float, "help": "Top-p for the instruction stage."}),
    Flag(
        "--answer-tokens",
        ("recipe", "sampling", "max_tokens"),
        {"type": click.IntRange(1), "help": "Maximum tokens of an answer in the instruction stage."},
    ),
    Flag(
        "--threshold",
        ("filters", "rouge", "threshold"),
        {"type": float, "help": "ROUGE-L above which an instruction is a near-duplicate.  [default: 0.7]"},
    ),
    Flag("--seed", ("seed",), {"type": int, "help": "Seed of all randomness.  [default: 42]"}),
    Flag(
        "--ordered/--no-ordered",
        ("ordered",),
        {"default": None, "help": "Make results independent of timing, at some cost in throughput."},
    ),
    *BUDGET,
]


def with_flags(flags: Iterable[Flag]) -> Callable[[Decorated], Decorated]:
    """Decorate a command with these flags, in this order."""

    def decorate(command: Decorated) -> Decorated:
        for flag in reversed(list(flags)):
            command = flag(command)
        return command

    return decorate


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


def run_options(flags: Iterable[Flag]) -> Callable[[Decorated], Decorated]:
    """These flags, and around them `--config`, `--set`, `--run` and how the run is shown."""
    around = [
        click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE",
            help="Any setting by its dotted name; may be repeated.",
        ),
        click.option("--run", "run_name", metavar="NAME", help="Name of the run, or a path.  [default: RECIPE-MODEL]"),
        output_dir,
        click.option(
            "--format", "formats", multiple=True, metavar="NAME",
            help="Export formats to write when the run ends; may be repeated.  [default: alpaca, jsonl]",
        ),
        click.option("--dry-run", is_flag=True, help="Print the first prompt and an estimate; ask no model."),
        click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines, for machines."),
        click.option("--quiet", is_flag=True, help="Show nothing but the result."),
    ]  # fmt: skip
    file = click.option(
        "-c", "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file that may hold any setting.",
    )  # fmt: skip

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(around):
            command = option(command)
        return file(with_flags(flags)(command))

    return decorate


def tree_of(flags: Iterable[Flag], given: Given, values: dict[str, Any]) -> Tree:
    """The tree that the person gave: file, then environment and flags, then `--set`."""
    file = written_out(load(given.config_file)) if given.config_file else {}
    tree = merge(file, tree_of_flags(flags, values))
    for text in given.assignments:
        tree = merge(tree, written_out(assignment(text)))
    if given.formats:
        tree["formats"] = list(given.formats)
    for backend in _backends(tree):
        implied(backend)
    return tree


def tree_of_flags(flags: Iterable[Flag], values: dict[str, Any]) -> Tree:
    """The tree of the flags that were given."""
    tree: Tree = {}
    for flag in flags:
        if (value := values[flag.parameter]) not in (None, ()):
            tree = merge(tree, _nested(flag.place, list(value) if isinstance(value, tuple) else value))
    return tree


def _nested(place: tuple[str, ...], value: Any) -> Tree:
    for key in reversed(place):
        value = {key: value}
    return dict(value)


def _backends(tree: Tree) -> list[Tree]:
    """Every table of the tree that says who is asked; a role has one, or a list of them."""
    roles = tree.get("roles")
    found = [tree.get("backend"), tree.get("judge"), *(roles.values() if isinstance(roles, dict) else ())]
    each = [one for entry in found for one in (entry if isinstance(entry, list) else [entry])]
    return [one for one in each if isinstance(one, dict)]


def implied(backend: Tree) -> None:
    """Fill in the kind of backend that an address or a script means."""
    for key, kind in (("base_url", "openai"), ("script", "scripted")):
        if backend.get(key):
            backend.setdefault("kind", kind)


# -- what commands share ----------------------------------------------------------------------------------------------


def command(*pastes: str) -> Callable[[Callable[..., Any]], Command]:
    """A command whose help ends with these examples to paste."""
    return click.command(cls=Command, epilog=examples(*pastes))


def examples(*pastes: str) -> str:
    """The end of a command's help: examples to paste."""
    return "\n".join(["\b", "Example:" if len(pastes) == 1 else "Examples:", *(f"  selfinstruct {p}" for p in pastes)])


def output_dir(command: Decorated) -> Decorated:
    """`--output-dir`: where runs are."""
    return click.option(
        "--output-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default="outputs",
        show_default=True,
        help="Folder that holds the runs.",
    )(command)


def run_argument(command: Decorated) -> Decorated:
    """`RUN`: the name of a run under the output folder, or the path of its folder."""
    return output_dir(click.argument("run")(command))


def as_json(command: Decorated) -> Decorated:
    """`--json`: for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def published(command: Decorated) -> Decorated:
    """The options of what is published: formats and licence."""
    for option in (
        click.option("--license-link", "licence_link", default="", metavar="URL",
                     help="With --license other: where its text is."),
        click.option("--license-name", "licence_name", default="", metavar="NAME",
                     help="With --license other: what it is called."),
        click.option("--license", "licence", default="", metavar="ID",
                     help="Licence as the Hub names it: cc-by-4.0, apache-2.0, …, other.  [default: none is claimed]"),
        click.option("--format", "formats", multiple=True, metavar="NAME", default=["alpaca"], show_default=True,
                     help="A configuration of the dataset; may be repeated, the first is the default one."),
    ):  # fmt: skip
        command = option(command)
    return command


# -- runs -------------------------------------------------------------------------------------------------------------


def is_run(folder: Path) -> bool:
    """Whether a run has begun in a folder."""
    return (folder / LEDGER).is_file()


def folder_of(run: str, outputs: Path) -> Path:
    """The folder of a run that was named, by its name under `outputs` or by its path."""
    named = outputs / run
    is_path = (os.sep in run or run in (".", "..") or is_run(Path(run))) and not named.is_dir()
    return Path(run) if is_path else named


def existing(run: str, outputs: Path) -> Path:
    """The folder of a run that exists.

    Raises:
        RunError: it does not; the message lists those that do.
    """
    folder = folder_of(run, outputs)
    if is_run(folder):
        return folder
    raise RunError(f"{folder}: no run here; runs under {outputs}: {known_runs(outputs)}")


def known_runs(outputs: Path) -> str:
    """The runs under a folder in one line, or how to begin one."""
    return ", ".join(runs(outputs)) or "none yet; `selfinstruct generate` begins one"


def runs(outputs: Path) -> list[str]:
    """The names of the runs under a folder, the latest first."""
    found = [path.parent for path in outputs.glob(f"[!.]*/{LEDGER}")]
    return [folder.name for folder in sorted(found, key=lambda folder: -(folder / LEDGER).stat().st_mtime)]
