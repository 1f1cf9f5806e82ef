"""Recipes by name: `self-instruct`, `alpaca`, and those of others by entry point.

A package adds a recipe by an entry point in the group `selfinstruct.recipes`: its name, and a module or object with
`Options` (a pydantic model), `STAGES`, `PROMPTS` (names of its prompt files), `filter_defaults(options)` and
`open(options, setting)`.
"""

from __future__ import annotations

from typing import Any, cast

from selfinstruct.config import RecipeConfig, build
from selfinstruct.plugins import Registry
from selfinstruct.recipes.base import Recipe, Setting

RECIPES = Registry(
    "recipe",
    "selfinstruct.recipes",
    {"self-instruct": "selfinstruct.recipes.self_instruct", "alpaca": "selfinstruct.recipes.alpaca"},
)


def names() -> list[str]:
    """Every recipe that can be opened."""
    return RECIPES.names()


def module_of(name: str) -> Any:
    """The module of a recipe: its `Options`, `PROMPTS`, `filter_defaults` and `open`.

    Raises:
        ConfigError: no such recipe; the message lists the known ones.
    """
    return RECIPES.load(name)


def task_stage(name: str) -> str:
    """The last stage of a recipe: the one whose kept drafts are the tasks that `-n` counts."""
    return str(module_of(name).STAGES[-1])


def options_of(config: RecipeConfig) -> Any:
    """The validated options of a configured recipe.

    Raises:
        ConfigError: no such recipe, or options that it does not take.
    """
    return build(module_of(config.name).Options, config.options, where=f"recipe {config.name}")


def open_recipe(config: RecipeConfig, setting: Setting) -> Recipe:
    """The recipe that a configuration names, ready to plan.

    Raises:
        ConfigError: no such recipe, or options that it does not take.
    """
    return cast("Recipe", module_of(config.name).open(options_of(config), setting))
