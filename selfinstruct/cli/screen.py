"""A console of rich's on which text is only text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from selfinstruct.text.display import visible
from selfinstruct.text.secrets import scrubbed


class Screen(Console):
    """Draws on a stream; what obeys is rich's own, and whatever stands in a text is shown."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich has it, with control characters in texts made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(scrubbed(segment.text), indent=""))
