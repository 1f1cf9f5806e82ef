"""Filters by name: `validity`, `rouge`, `instances`, `elimination`, and those of others by entry point.

A package adds a filter by an entry point in the group `selfinstruct.filters`: the name of the filter, and a module or
object with `Settings` (a pydantic model) and `open(settings) -> Filter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue

from selfinstruct.filters.base import Filter
from selfinstruct.inputs.config import build
from selfinstruct.inputs.plugins import Registry

FILTERS = Registry(
    "filter",
    "selfinstruct.filters",
    {name: f"selfinstruct.filters.{name}" for name in ("validity", "rouge", "instances", "elimination")},
)


def names() -> list[str]:
    """Every filter that can be opened."""
    return FILTERS.names()


def resolve(name: str, settings: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The settings of a filter with every default filled in, as they lie in a run's configuration.

    Raises:
        ConfigError: no such filter, or settings that it does not take.
    """
    model = build(FILTERS.load(name).Settings, settings, where=f"filters.{name}")
    return cast("dict[str, JsonValue]", model.model_dump(mode="json"))


def open_filter(name: str, settings: Mapping[str, Any]) -> Filter:
    """The filter of that name.

    Raises:
        ConfigError: no such filter, or settings that it does not take.
    """
    module = FILTERS.load(name)
    return cast("Filter", module.open(build(module.Settings, settings, where=f"filters.{name}")))
