"""Imports point down: the layers as a list, and nothing that goes against it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "selfinstruct"
LAYERS = [
    ("errors", "records"),
    ("text",),
    ("inputs", "store"),
    ("filters", "backends", "tools"),
    ("recipes",),
    ("dataset",),
    ("run",),
    ("cli",),
]
"""The rooms from the ground up; no room imports another of its own floor, but for the ground."""
LAYER = {part: level for level, parts in enumerate(LAYERS) for part in parts}
HEAVY = (
    "openai",
    "huggingface_hub",
    "py3langid",
    "datasets",
    "pyarrow",
    "rich",
    "numpy",
    "jinja2",
    "pydantic",
    "asyncio",
    "aiohttp",
    "rapidfuzz",
    "sqlite3",
    "orjson",
    "yaml",
)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.AST, *, at_run_time: bool = False) -> Iterator[str]:
    """The modules of ours that a module imports, inside functions too; at run time not those for type checkers."""
    for node in _at_run_time(tree) if at_run_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("selfinstruct."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "selfinstruct":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else str(node.module)


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All of a module but what is there for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from _at_run_time(node)


def part(module: str) -> str:
    return module.split(".")[1]


INNER = [name for name in modules() if name not in ("selfinstruct", "selfinstruct.__main__")]


def test_every_module_has_its_layer() -> None:
    assert {part(name) for name in INNER} == set(LAYER)


@pytest.mark.parametrize("module", INNER)
def test_imports_point_down(module: str) -> None:
    for other in imported(modules()[module]):
        assert LAYER[part(other)] <= LAYER[part(module)], f"{module} imports {other}, which lies above it"
        if LAYER[part(module)] and part(other) != part(module):
            assert LAYER[part(other)] < LAYER[part(module)], f"{module} imports its neighbour {other}"


def test_no_import_goes_round() -> None:
    graph = {name: set(imported(tree, at_run_time=True)) - {name} for name, tree in modules().items()}
    standing = dict(graph)
    while free := [name for name, others in standing.items() if not others & set(standing)]:
        for name in free:
            del standing[name]
    assert standing == {}, f"a cycle among {sorted(standing)}"


A_PROGRAM_OF_ITS_OWN = "selfinstruct.backends.local.llamacpp_server"
"""Started as a child process; it tells its parent its address on standard output."""


@pytest.mark.parametrize("module", [name for name in INNER if part(name) != "cli" and name != A_PROGRAM_OF_ITS_OWN])
def test_only_the_command_line_prints(module: str) -> None:
    tree = modules()[module]
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"print", "sys.stdout.write", "sys.stderr.write", "click.echo"}
    assert not any(name.split(".")[0] in ("click", "rich") for name in _outside(tree))


def _outside(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
sys.argv = ["selfinstruct", "--help"]
from selfinstruct.cli.main import run
try:
    run()
except SystemExit:
    pass
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: selfinstruct")
    assert done.stderr == "[]\n"
