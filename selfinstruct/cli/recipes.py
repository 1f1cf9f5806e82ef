"""`selfinstruct recipes`: what can be made, and how."""

from __future__ import annotations

from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from selfinstruct import recipes as registry
from selfinstruct.cli.flags import as_json, command
from selfinstruct.errors import UserError
from selfinstruct.inputs.config import dump
from selfinstruct.recipes.base import Recipe
from selfinstruct.text.display import json_line, one_line

Facts = dict[str, Any]


@command("recipes", "recipes evol-instruct", "recipes --json")
@click.argument("name", required=False)
@as_json
def recipes(name: str | None, as_json: bool) -> int:
    """List the recipes: what goes in, what comes out; with NAME, all settings of one."""
    if name is not None:
        facts = _facts(registry.find(name))
        print(json_line(facts) if as_json else _page(facts))
        return 0
    found = [_facts_or_fault(known) for known in registry.names()]
    print(json_line(found) if as_json else "\n".join(map(_line, found)))
    return 0


def _facts_or_fault(name: str) -> Facts:
    """One recipe that cannot be imported does not hide the others."""
    try:
        return _facts(registry.find(name))
    except UserError as error:
        return {"name": name, "error": str(error)}


def _facts(recipe: type[Recipe[Any]]) -> Facts:
    options = recipe.Options()
    asked = dict.fromkeys(door for stage in recipe.stages for door in stage.doors)
    return {
        "name": recipe.name,
        "takes": recipe.takes,
        "makes": recipe.makes,
        "after": not recipe.samples(),
        "stages": [stage.name for stage in recipe.stages],
        "asks": list(asked),
        "default n": recipe.target,
        "strict": recipe.published,
        "settings": dump(options),
        "switches": list(type(switches).model_fields) if (switches := _switches(options)) is not None else [],
        "example": recipe.example,
    }


def _switches(options: BaseModel) -> BaseModel | None:
    found = getattr(options, "switches", PydanticUndefined)
    return found if isinstance(found, BaseModel) else None


def _line(facts: Facts) -> str:
    if "error" in facts:
        return f"{facts['name']}: {one_line(facts['error'])}"
    then = "  (also after --then)" if facts["after"] else ""
    return f"{facts['name']}: {facts['takes']} -> {facts['makes']}{then}"


def _page(facts: Facts) -> str:
    """All of one recipe, for a person."""
    settings = {key: value for key, value in facts["settings"].items() if key != "switches"}
    rows = [
        ("takes", facts["takes"]),
        ("makes", facts["makes"]),
        ("stages", ", ".join(facts["stages"])),
        ("asks", ", ".join(facts["asks"])),
        ("default -n", facts["default n"] or "all that the source makes"),
        ("strict", f"as published, in the {facts['strict']} dialect" if facts["strict"] else "nothing was published"),
        ("--then", "goes on with what another recipe keeps" if facts["after"] else "only first: samples from a pool"),
    ]
    lines = [facts["name"], *(f"  {key}: {one_line(str(value))}" for key, value in rows)]
    lines += ["  settings, as --set recipe.NAME=VALUE:", *_settings(settings, "recipe.")]
    if facts["switches"]:
        lines += ["  switches, as --set recipe.switches.NAME=false:", *(f"    {name}" for name in facts["switches"])]
    return "\n".join([*lines, f"  example: {facts['example']}"] if facts["example"] else lines)


def _settings(tree: Facts, place: str) -> list[str]:
    """A line for each setting, with its default."""
    lines: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            lines += _settings(value, f"{place}{key}.")
        else:
            lines.append(f"    {place}{key} = {json_line(value)}")
    return lines
