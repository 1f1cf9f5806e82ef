"""Writes what the code already says: docs/cli.md, docs/config.md, and the schema in docs/ledger.md.

python docs/generate.py            writes them
python docs/generate.py --check    says which are not what the code says, and exits 1
"""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from selfinstruct.cli.evolve import FLAGS as EVOLVE
from selfinstruct.cli.generate import FLAGS as GENERATE
from selfinstruct.cli.main import Lazy, cli
from selfinstruct.filters import FILTERS
from selfinstruct.inputs.config import (
    BackendConfig,
    BudgetConfig,
    ExportConfig,
    RoleConfig,
    RunConfig,
    SandboxConfig,
    ToolsConfig,
    may_change,
)
from selfinstruct.recipes import RECIPES, find
from selfinstruct.recipes.base import SamplingOptions
from selfinstruct.recipes.evol_instruct import EvolInstruct
from selfinstruct.store.schema import migrate

DOCS = Path(__file__).parent
MARKS = "<!-- schema: made by docs/generate.py -->", "<!-- end of schema -->"
TABLES = ("recipe", "then", "backend", "roles", "sandbox", "tools", "filters", "budget", "export")
"""Tables of a configuration that have a section of their own."""
NOTE = "<!-- Made by docs/generate.py from the code; edit there. -->"

CLI = f"""\
# Commands

{NOTE}

Standard output is for results, standard error for everything said on the way. Exit codes: 0 done · 1 finished with
failures · 2 usage, or something to fix · 130 interrupted.

`-v` logs what is done, on standard error; `--debug` logs it in detail, with tracebacks of errors. Both may stand
before a command or after it.
"""
CONFIG = f"""\
# Configuration

{NOTE}

One TOML file may hold every setting: `selfinstruct generate --config run.toml`. Flags win over the environment, that
over the file, that over the defaults below. `--set KEY=VALUE` reaches every setting by its dotted name, such as
`--set filters.rouge.threshold=0.6`. A setting that has a flag has an environment variable too, named after the flag:
`--base-url`, `SELFINSTRUCT_GENERATE_BASE_URL`. The resolved configuration of a run lies in its folder as
`config.toml`, and `--config` takes it for another run.

Settings marked `*` may differ when a run is continued; any other makes another run.
"""
THEN = """\
Each table `[[then]]` names one more recipe of the same run, in order; its keys are those of `[recipe]`. A recipe goes
on with every task that the one before it keeps: [recipes.md](recipes.md#chains). Names alone do as well:
`then = ["evol-instruct"]`.
"""
ROLES = """\
The model of one role, such as `[roles.judge]`; written as `[[roles.answerer]]`, several times, the models of which each
job draws one. The keys are those of `[backend]` and the one below: [backends.md](backends.md#roles). A name alone does
as well: `judge = "gpt-4o"` in `[roles]`.
"""
OTHERS = "Only a recipe {does} needs it. Further keys are options of its kind."
BUDGET = "The most that a run may take, counted over all attempts and all sessions: [budgets.md](budgets.md)."
EXPORT = """\
How kept tasks are written when a run ends, and by `selfinstruct export`, whose options have the same names:
[formats.md](formats.md).
"""


# -- the command line
# ----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """`--help` of every command."""
    parts = [CLI]
    for path, command in commands(cli, "selfinstruct"):
        names = ["-h", "--help"]
        with click.Context(command, info_name=path, terminal_width=100, help_option_names=names) as context:
            parts.append(f"## {path}\n\n```text\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its path, groups before what is in them."""
    command = command.load() if isinstance(command, Lazy) else command
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")


# -- the configuration
# ---------------------------------------------------------------------------------------------------


def config_page() -> str:
    """Every setting, from the models that own them."""
    flags = {".".join(flag.place): flag.names for flag in (*EVOLVE, *GENERATE)}
    evolving = flags | {".".join(flag.place): flag.names for flag in EVOLVE}
    parts = [
        CONFIG,
        section("Run", RunConfig, "", flags, skip=TABLES),
        f"## `[[then]]`\n\n{THEN}",
        section("`[backend]`", BackendConfig, "backend.", flags),
        section("`[roles.NAME]`", RoleConfig, "roles.NAME.0.", {}, intro=ROLES, skip=tuple(BackendConfig.model_fields)),
        section("`[sandbox]`", SandboxConfig, "sandbox.", {}, intro=OTHERS.format(does="that runs programs")),
        section("`[tools]`", ToolsConfig, "tools.", {}, intro=OTHERS.format(does="that calls tools")),
        section("`[budget]`", BudgetConfig, "budget.", flags, intro=BUDGET),
        section("`[export]`", ExportConfig, "export.", {}, intro=EXPORT),
    ]
    for name in RECIPES.ours:
        options = find(name).Options
        title, theirs = f'`[recipe]` with `name = "{name}"`', evolving if name == EvolInstruct.name else flags
        parts.append(section(title, options, "recipe.", theirs, skip=("switches",)))
        title = f'`[recipe.switches]` of "{name}"'
        parts.append(section(title, type(options().switches), "recipe.switches.", flags))
    intro = "Of `[recipe.sampling]` and its like only what is named changes; the rest stays as published."
    parts.append(section("Tables of sampling", SamplingOptions, "", {}, intro=intro))
    tables = (
        section(f"`[filters.{name}]`", FILTERS.load(name).Settings, f"filters.{name}.", flags) for name in FILTERS.ours
    )
    return "\n".join([*parts, *tables])


def section(
    title: str,
    model: type[BaseModel],
    prefix: str,
    flags: dict[str, str],
    *,
    skip: tuple[str, ...] = (),
    intro: str = "",
) -> str:
    """A table of one model's fields with their defaults and meanings."""
    meanings = attribute_docs(model)
    fields = [(name, field) for name, field in model.model_fields.items() if name not in skip]
    rows = [
        f"| `{name}`{mark(prefix, name)} | {kind(field.annotation)} | {default(field.default)}"
        f" | {meanings[name]}{flag_of(flags, prefix + name)} |"
        for name, field in fields
    ]
    head = "| key | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {title}\n", *([f"{intro.strip()}\n"] if intro else []), head, *rows, ""])


def mark(prefix: str, name: str) -> str:
    """The star of a setting that may differ, by itself or with its whole table."""
    return "*" if may_change(prefix + name) else ""


def flag_of(flags: dict[str, str], key: str) -> str:
    """The flag of a setting, where it has one."""
    return f" `{flags[key]}`" if key in flags else ""


def attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """What stands under each field of a model."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = re.sub(r"\s+", " ", str(text.value.value)).strip().replace("|", "\\|")
    return found


def kind(annotation: Any) -> str:
    """A type as TOML has it."""
    names = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): ""}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return f"list of {kind(arguments[0])}s"
    if annotation in names or origin in names:
        return names.get(annotation) or names.get(origin, "")
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    if origin is Literal:
        return " or ".join(f"`{str(argument).lower()}`" for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(filter(None, map(kind, arguments)))
    return kind(arguments[0])


def default(value: Any) -> str:
    """A default as TOML has it."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} {number:g}" for key, number in value.model_dump(exclude_none=True).items())
    if isinstance(value, dict) and value:
        return ", ".join(f"{key} {number:g}" for key, number in value.items())
    if value is None or value is PydanticUndefined or value in ((), {}):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else '`""`'


# -- the ledger
# ----------------------------------------------------------------------------------------------------------


def ledger_page(page: str) -> str:
    """The page with the schema of a new ledger, as SQLite keeps it."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db)
        made = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")]
    schema = ";\n\n".join(made)
    return f"{before}{MARKS[0]}\n\n```sql\n{schema};\n```\n\n{MARKS[1]}{after}"


def pages() -> dict[Path, str]:
    """Each page that is made, with what it should be."""
    ledger = DOCS / "ledger.md"
    return {
        DOCS / "cli.md": cli_page(),
        DOCS / "config.md": config_page(),
        ledger: ledger_page(ledger.read_text(encoding="utf-8")),
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` say which are behind the code."""
    behind = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        for path in behind:
            print(f"{path}: not what the code says; run python docs/generate.py", file=sys.stderr)
        return 1 if behind else 0
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
