"""Recipes by name: `self-instruct`, `alpaca`, `evol-instruct`, and those of others by entry point.

A package adds a recipe by an entry point in the group `selfinstruct.recipes`: its name, and a class that is a
`base.Recipe`.
"""

from __future__ import annotations

from typing import Any

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RecipeConfig, build
from selfinstruct.inputs.plugins import Registry
from selfinstruct.recipes.base import Recipe

RECIPES = Registry(
    "recipe",
    "selfinstruct.recipes",
    {
        "self-instruct": "selfinstruct.recipes.self_instruct:SelfInstruct",
        "alpaca": "selfinstruct.recipes.alpaca:Alpaca",
        "evol-instruct": "selfinstruct.recipes.evol_instruct:EvolInstruct",
    },
)


def names() -> list[str]:
    """Every recipe that can be opened."""
    return RECIPES.names()


def find(name: str) -> type[Recipe[Any]]:
    """The recipe of that name.

    Raises:
        ConfigError: no such recipe (the message lists the known ones), or what goes by that name is none.
    """
    found = RECIPES.load(name)
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise ConfigError(f"recipe {name!r}: its entry point names {found!r}, which is no class of recipes.base.Recipe")
    return found


def open(config: RecipeConfig) -> Recipe[Any]:
    """The recipe that a configuration names, with its options; it plans once it has its prompts (`Recipe.open`).

    Raises:
        ConfigError: no such recipe, or options that it does not take.
    """
    recipe = find(config.name)
    return recipe(build(recipe.Options, config.options, where=f"recipe {config.name}"))
