"""Everything a person can name has its place in the docs, what is generated is as the code says, and examples run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from selfinstruct import backends, filters, recipes
from selfinstruct.backends.scripted import Line
from selfinstruct.cli.main import Lazy, cli
from selfinstruct.dataset import exports
from selfinstruct.dataset.exports.base import ExportContext
from selfinstruct.records import Instance, Reason, Sample
from selfinstruct.store.ledger import NAME, Ledger
from tests.support.cli import answers, say, seeds
from tests.support.pages import DOCS, blocks, page


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_as_the_code_says(generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert (generator.main(["--check"]), capsys.readouterr().err) == (0, "")


def names() -> list[tuple[str, str]]:
    """Every name with the page that must have it."""
    found = [("recipes", f"`{name}`") for name in recipes.names()]
    for recipe in recipes.names():
        found_recipe = recipes.find(recipe)
        stages, options = (stage.name for stage in found_recipe.stages), found_recipe.Options
        switches = type(options().switches).model_fields
        found += [("recipes", f"| `{name}` |") for name in (*stages, *switches)]
        found += [("config", f"| `{name}`") for name in (*options.model_fields, *switches)
                  if name != "switches"]  # fmt: skip
    for name in filters.names():
        found += [("filters", f"`{name}`")]
        found += [("filters", f"`{key}`") for key in filters.FILTERS.load(name).Settings.model_fields]
    found += [("filters", f"| `{reason}` |") for reason in Reason]
    found += [("formats", f"| `{name}` |") for name in exports.names()]
    found += [("formats", f"`{file}`") for name in exports.names() for file in exports.open_export(name).FILES]
    found += [("backends", f"| `{kind}` |") for kind in backends.kinds()]
    found += [("backends", f"{key}") for key in Line.model_fields]
    return sorted(set(found))


@pytest.mark.parametrize(("where", "name"), names(), ids=str)
def test_everything_that_has_a_name_is_on_its_page(where: str, name: str) -> None:
    assert name in page(where)


def test_every_command_is_on_its_page() -> None:
    def walk(command: click.Command, path: str) -> list[str]:
        command = command.load() if isinstance(command, Lazy) else command
        inner = command.commands.items() if isinstance(command, click.Group) else []
        return [path, *(line for name, one in inner for line in walk(one, f"{path} {name}"))]

    assert re.findall(r"^## (.*)", page("cli"), re.MULTILINE) == walk(cli, "selfinstruct")


def test_every_link_between_pages_leads_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_prose_has_one_width() -> None:
    """No line of a page that people write is longer than 120 characters, tables and blocks aside."""
    generated = {"cli.md", "config.md"}
    written = [path for path in DOCS.glob("*.md") if path.name not in generated and not path.name.startswith("lab")]
    for path in [*written, *(DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]:
        prose = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")] == [], path.name


def test_every_command_in_the_examples_parses() -> None:
    for name in ("backends", "budgets", "recipes", "formats", "filters", "ledger", "hub", "report"):
        for line in re.findall(r"^\$ (?:\w+=\S+ )?selfinstruct (.*)$", page(name), re.MULTILINE):
            command, *arguments = shlex.split(line)
            # The names of the help option are kept with the command, so they must be those that the pages show.
            cli.commands[command].make_context(command, arguments, help_option_names=["-h", "--help"])


def test_the_schema_on_the_page_is_a_new_ledgers(tmp_path: Path) -> None:
    """Its tables, views, indexes and triggers are those that a new ledger has, and make the same file (F2)."""

    def made(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
        return db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()

    Ledger.create(tmp_path, facts={}, seeds=[], prompts={}, target=1).close()
    [schema] = [block for block in blocks("ledger", "sql") if block.startswith("CREATE")]
    with closing(sqlite3.connect(tmp_path / NAME)) as ledger, closing(sqlite3.connect(":memory:")) as page_says:
        page_says.executescript(schema)
        assert made(page_says) == made(ledger)
        names = {(kind, name) for kind, name, _ in made(ledger)}
    assert set(re.findall(r"^CREATE (TABLE|VIEW|INDEX|TRIGGER) (\w+)", schema, re.MULTILINE)) == {
        (kind.upper(), name) for kind, name in names
    }
    assert {kind for kind, _ in names} == {"table", "view", "index", "trigger"}


def test_the_queries_of_the_ledger_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = answers(
        tmp_path, " Explain why the tide rises.\n10. Name three rivers of Europe!\n11. Draw it now please."
    )
    flags = (
        "--script",
        script,
        "--seeds",
        seeds(tmp_path),
        "-n",
        "1",
        "--concurrency",
        "1",
        "--run",
        "first",
        "--quiet",
    )
    assert say(capsys, "generate", *flags).code == 0
    queries = [block for block in blocks("ledger", "sql") if block.startswith(("SELECT", "WITH"))]
    assert len(queries) >= 10
    db = sqlite3.connect(tmp_path / "outputs" / "first" / "ledger.sqlite")
    found = {query.splitlines()[0]: db.execute(query).fetchall() for query in queries}
    db.close()
    assert found["SELECT stage, filter, reason, count(*) AS drafts FROM drops GROUP BY 1, 2, 3 ORDER BY 4 DESC;"] == [
        ("instructions", "rouge", "near_duplicate", 1), ("instructions", "validity", "banned_word", 1),
    ]  # fmt: skip
    [(_, score, text, resembles)] = found[
        "SELECT d.id, round(json_extract(d.detail, '$.score'), 3) AS score, d.instruction,"
    ]
    assert (score, text, resembles) == (1.0, "Name three rivers of Europe!", "Name three rivers of Europe.")
    [(_, instruction, given, made)] = found["SELECT k.id, k.instruction, json_extract(i.value, '$.input') AS input,"]
    assert (instruction, given, made) == ("Explain why the tide rises.", "the sea", "It is wide.")
    assert all(
        lost == 0
        for *_, lost in found["SELECT d.stage, count(*) AS drafts, sum(d.kept) AS kept, count(*) - sum(d.kept)"]
    )


def test_the_format_of_the_formats_page_works() -> None:
    [code] = blocks("formats", "python")
    module: dict[str, Any] = {}
    exec(compile(code, "chatty.py", "exec", dont_inherit=True), module)
    sample = Sample(id="1.1", stage="tasks", instruction="Add.", instances=(Instance(input="1, 2", output="3"),))
    assert module["FILES"] == ("chatty.jsonl",)
    assert list(module["rows"](sample, None)) == [{"question": "Add.\n1, 2", "answer": "3"}]
    [entry] = blocks("formats", "toml")
    assert tomllib.loads(entry)["project"]["entry-points"]["selfinstruct.exports"] == {"chatty": "my_package.chatty"}


def test_each_format_has_a_section_with_a_row_of_its_columns() -> None:
    sample = Sample(
        id="1.1", stage="s", instruction="Add the numbers.", instances=(Instance(input="1, 2", output="3"),)
    )
    context = ExportContext(None)  # type: ignore[arg-type]
    shown = re.findall(r"^### (\S+)\n.*?^```json\n(.*?)^```", page("formats"), re.DOTALL | re.MULTILINE)
    assert sorted(name for name, _ in shown) == sorted(exports.EXPORTS.ours)
    for name, row in shown:
        if name == "jsonl":
            assert set(json.loads(row)) >= {"id", "instruction", "instances", "lineage"}
        elif name != "self-instruct":
            assert [json.loads(row)] == list(exports.open_export(name).rows(sample, context))


def test_the_answers_of_the_backends_page_are_a_script() -> None:
    [script] = blocks("backends", "json")
    for line in script.splitlines():
        answer = json.loads(line)
        Line.model_validate({"text": answer} if isinstance(answer, str) else answer)
