"""Recipes by name: `self-instruct`, `alpaca`, `evol-instruct`, and those of others by entry point.

A package adds a recipe by an entry point in the group `selfinstruct.recipes`: its name, and a module or object that is
a `base.RecipeModule`.
"""

from __future__ import annotations

from typing import cast

from selfinstruct.inputs.config import RecipeConfig, build
from selfinstruct.inputs.plugins import Registry
from selfinstruct.recipes.base import Recipe, RecipeModule, RecipeOptions, Setting

RECIPES = Registry(
    "recipe",
    "selfinstruct.recipes",
    {
        "self-instruct": "selfinstruct.recipes.self_instruct",
        "alpaca": "selfinstruct.recipes.alpaca",
        "evol-instruct": "selfinstruct.recipes.evol_instruct",
    },
)


def names() -> list[str]:
    """Every recipe that can be opened."""
    return RECIPES.names()


def module_of(name: str) -> RecipeModule:
    """The module of a recipe.

    Raises:
        ConfigError: no such recipe; the message lists the known ones.
    """
    return cast("RecipeModule", RECIPES.load(name))


def task_stage(name: str) -> str:
    """The last stage of a recipe: the one whose kept drafts are the tasks that `-n` counts."""
    return module_of(name).STAGES[-1]


def options_of(config: RecipeConfig) -> RecipeOptions:
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
    return module_of(config.name).open(options_of(config), setting)
