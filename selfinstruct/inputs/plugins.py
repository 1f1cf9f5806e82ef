"""What is found by its name: ours, and what other packages add by entry point.

One `Registry` to a kind of thing. Nothing is imported before it is asked for, and an unknown name answers with the
known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, NamedTuple

from selfinstruct.errors import ConfigError
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
            ConfigError: there is none (the message lists the known ones), or the package that has it cannot be
                imported (the message names it).
        """
        if name in self.ours:
            return resolve_name(self.ours[name])
        for point in entry_points(group=self.group, name=name):
            return self._loaded(point)
        raise unknown_name(self.kind, name, self.names())

    def _loaded(self, point: EntryPoint) -> Any:
        """What an entry point names; a package that cannot be imported is named, whatever went wrong in it."""
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else point.module
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ConfigError(
                f"{self.kind} {point.name!r}: the package {package} cannot be imported ({said:.200}); mend or remove it"
            ) from error
