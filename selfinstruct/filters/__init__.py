"""Filters by name: `validity`, `rouge`, `instances`, and those of others by entry point.

A package adds a filter by an entry point in the group `selfinstruct.filters`: the name of the filter, and a module or
object with `Settings` (a pydantic model) and `open(settings) -> Filter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from pydantic import JsonValue

from selfinstruct.config import build, unknown_name
from selfinstruct.filters.base import Filter

BUILT_IN = ("validity", "rouge", "instances")


def names() -> list[str]:
    """Every filter that can be opened."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group="selfinstruct.filters"))})


def resolve(name: str, settings: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The settings of a filter with every default filled in, as they lie in a run's configuration.

    Raises:
        ConfigError: no such filter, or settings that it does not take.
    """
    model = build(_module(name).Settings, settings, where=f"filters.{name}")
    return cast("dict[str, JsonValue]", model.model_dump(mode="json"))


def open_filter(name: str, settings: Mapping[str, Any]) -> Filter:
    """The filter of that name.

    Raises:
        ConfigError: no such filter, or settings that it does not take.
    """
    module = _module(name)
    return cast("Filter", module.open(build(module.Settings, settings, where=f"filters.{name}")))


def _module(name: str) -> Any:
    if name in BUILT_IN:
        return import_module(f"selfinstruct.filters.{name}")
    for point in entry_points(group="selfinstruct.filters", name=name):
        return point.load()
    raise unknown_name("filter", name, names())
