"""What a backend is: one question in, one answer out, and a way to close it.

Not here: retries, rate limits and the ledger. They stand before every backend alike (`retry.ask`, the engine), so
that a backend has only its server to know.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from selfinstruct.config import BackendConfig
from selfinstruct.records import Completion, Request

Notice = Callable[[str], None]
"""Takes one line for the person: what is being waited for, or what had to be done differently."""


class Backend(Protocol):
    """Whoever answers."""

    @property
    def model(self) -> str:
        """The model's name, resolved: what requests should carry and what the ledger notes."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Ask once.

        Raises:
            Transient: another attempt may be answered; `RateLimited` when the server asks for fewer requests.
            Refused: this request will never be answered.
            EndpointError: no request will be; the run stops.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections and whatever else is held; nothing may be asked afterwards."""
        ...


class Opener(Protocol):
    """How a kind of backend is opened: what an entry point of the group `selfinstruct.backends` names."""

    def __call__(
        self, config: BackendConfig, *, folder: Path | None, notice: Notice
    ) -> AbstractAsyncContextManager[Backend]: ...
