"""What is found by its name: ours, and what other packages add by entry point.

One `Registry` to a kind of thing. Nothing is imported before it is asked for, and an unknown name answers with the
known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any, NamedTuple

from selfinstruct.inputs.config import unknown_name

Notice = Callable[[str], None]
"""Takes one line for the person: what is being waited for, or what had to be done differently. What is opened by its
name is handed one."""


class Registry(NamedTuple):
    """The things of one kind, by name."""

    kind: str
    """What messages call it, such as `filter`."""
    group: str
    """The entry-point group in which others add theirs."""
    ours: Mapping[str, str]
    """Name to where it stands: `package.module` or `package.module:attribute`."""

    def names(self) -> list[str]:
        """Every name that can be loaded, ours first."""
        theirs = (point.name for point in entry_points(group=self.group))
        return [*self.ours, *sorted(set(theirs) - set(self.ours))]

    def load(self, name: str) -> Any:
        """The thing of that name, imported.

        Raises:
            ConfigError: there is none; the message lists the known ones.
        """
        if name in self.ours:
            return resolve_name(self.ours[name])
        for point in entry_points(group=self.group, name=name):
            return point.load()
        raise unknown_name(self.kind, name, self.names())
