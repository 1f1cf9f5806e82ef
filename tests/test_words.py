"""A recipe's own words stand in its file, its filter and its command; SQL stands in the store."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from selfinstruct import recipes
from tests.test_architecture import INNER, modules, part

HOMES = {
    "self-instruct": ("selfinstruct.recipes.reading",),
    "evol-instruct": ("selfinstruct.filters.elimination", "selfinstruct.cli.evolve", "selfinstruct.cli.main"),
}
"""Where a recipe's words may stand beside its own file: how its answers are read, its filter, its command."""
_SQL = re.compile(r"\b(SELECT\s|INSERT\s|DELETE\s+FROM|UPDATE\s+\w+\s+SET|PRAGMA\s|json_extract|json_each)")


def texts(tree: ast.AST) -> Iterator[str]:
    """The string constants of a module, docstrings and other texts that are statements left out."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def identifiers(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives, and those that it uses and Python does not have itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Store) or not hasattr(builtins, node.id)):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def keys(text: str) -> set[str]:
    """What a text is a key of: its words where there is no space in it, else those after a dot or two dashes."""
    return set(re.findall(r"\w+" if " " not in text else r"(?:[.]|--)(\w+)", text))


@pytest.mark.parametrize("recipe", recipes.names())
def test_a_recipes_words_stand_in_its_file(recipe: str) -> None:
    """No other module has them as an identifier or a key: the rest of the house knows facets, families and lineage."""
    found = recipes.find(recipe)
    homes = {found.__module__, *HOMES.get(recipe, ())}
    for name in INNER:
        if name not in homes:
            said = set(identifiers(modules()[name])).union(*map(keys, texts(modules()[name])))
            assert not said & set(found.words), name


@pytest.mark.parametrize("module", [name for name in INNER if part(name) != "store"])
def test_sql_stands_in_the_store(module: str) -> None:
    """No other room has a word of SQL, or asks a ledger for the rows of a query."""
    tree = modules()[module]
    assert not [text for text in texts(tree) if _SQL.search(text)]
    asked = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not [call for call in asked if call.endswith(("ledger.query", "ledger._rows", "ledger._db.execute"))]


def attribute_docstrings(tree: ast.Module) -> Iterator[str]:
    """The texts that stand below an attribute or a constant."""
    for node in ast.walk(tree):
        for above, text in pairwise(node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else ()):
            match above, text:
                case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(told))):
                    yield told.strip()


@pytest.mark.parametrize("module", modules())
def test_attribute_docstrings_stand_alone(module: str) -> None:
    """Each begins with a capital and ends with a stop, for an editor shows it by itself."""
    told = attribute_docstrings(modules()[module])
    assert [text for text in told if not re.fullmatch(r"[^a-z].*[.:…]`*", text, re.DOTALL)] == []
