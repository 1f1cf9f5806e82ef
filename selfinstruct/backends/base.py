"""What a backend is: one question in, one answer out, and a way to close it.

Not here: retries, rate limits and the ledger. They stand before every backend alike (`retry.ask`, the engine), so
that a backend has only its server to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from selfinstruct.errors import Fault
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.inputs.plugins import Notice
from selfinstruct.records import Completion, Request


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


class Again(Fault):
    """A request was not taken as it stood and nothing was charged for it; asked again at once, it is put otherwise."""

    def __init__(self, message: str) -> None:
        super().__init__("put_otherwise", message, status=400)


@runtime_checkable
class Repeating(Backend, Protocol):
    """A backend that may have to put a request otherwise, and so to send it more than once."""

    async def once(self, request: Request) -> Completion:
        """Ask once, with one request to the server.

        Raises:
            Again: it is worth asking at once; beside what `complete` raises.
        """
        ...


class Left(NamedTuple):
    """What a server says is left."""

    amount: float
    reset: float
    """Seconds until there is more."""
    most: float = 0.0
    """What there is when nothing was asked; 0 where it does not say."""


class Limits(NamedTuple):
    """What a server says is left of requests, and of tokens."""

    requests: Left | None = None
    tokens: Left | None = None


class Queue(NamedTuple):
    """What a server says of the requests that it has."""

    running: int
    waiting: int


@runtime_checkable
class Telling(Backend, Protocol):
    """A backend whose server says how it is; none has to."""

    @property
    def limits(self) -> Limits | None:
        """What the last answer said is left; None when it did not say."""
        ...

    @property
    def tells_queue(self) -> bool:
        """Whether `queue` may say something."""
        ...

    async def queue(self) -> Queue | None:
        """How many requests the server has; None when it does not say."""
        ...


class Several:
    """Backends that serve the same model; which is asked when is the fleet's to say."""

    def __init__(self, endpoints: Sequence[Backend]) -> None:
        self.endpoints = endpoints
        self.model = endpoints[0].model

    async def complete(self, request: Request) -> Completion:
        """The first one's answer: for a question that is asked outside a run."""
        return await self.endpoints[0].complete(request)

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        for endpoint in self.endpoints:
            await endpoint.aclose()


class Opener(Protocol):
    """How a kind of backend is opened: what an entry point of the group `selfinstruct.backends` names."""

    def __call__(
        self, config: BackendConfig, *, folder: Path | None, notice: Notice
    ) -> AbstractAsyncContextManager[Backend]: ...


LONGEST_WAIT = 15 * 60.0
"""Seconds: a server that asks for a longer pause has, for this run, said no."""
LONGEST_WISH = 60.0
"""Seconds that one request waits at most because the server which failed to answer it wished so."""
