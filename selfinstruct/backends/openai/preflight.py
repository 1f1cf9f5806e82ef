"""What is asked of a server before anything is paid for: is it there, does it take the key, which models has it.

Only `GET …/models` is used, which costs nothing. A server that has no such list is let through: its first answer
will tell.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Sequence

from selfinstruct.backends.openai.boundary import NotFound, parsed
from selfinstruct.backends.openai.server import Server
from selfinstruct.errors import EndpointError, Fault, Transient, Unreachable
from selfinstruct.inputs.config import is_local

Get = Callable[[str], Awaitable[str]]
"""Fetches the text at an address, absolute or below the server's; raises what `boundary` raises."""

_NOBODY = ("connection_refused", "connection", "no_such_host", "timeout")
"""Faults of those who met nobody."""
_LONGEST_NAME, _COMPARED = 300, 1_000
"""Characters of a model's name, and models compared with one that is not there: a list may be of any length."""
_LISTED = 8
"""Models that a message names at most."""


async def resolve_model(get: Get, server: Server, wanted: str) -> str:
    """The model to ask: the wanted one if the server has it, or the only one it has.

    Raises:
        EndpointError: nothing answers, the key is refused, the address is not an API's, or the model is not there.
    """
    try:
        models = await _models_or_advice(get, server)
    except Fault as fault:
        if not wanted:
            raise EndpointError(f"{fault}: its list of models cannot be read: name one with --model") from None
        return wanted
    if not wanted:
        return _only(models, server)
    if models and is_local(server.url) and not _served(wanted, models):
        raise no_such_model(server, wanted, models)
    return wanted


async def not_found(get: Get, server: Server, wanted: str, missing: NotFound, path: str) -> EndpointError:
    """What to say about a 404 for `path`, after another look at what the server has."""
    try:
        models = await served_models(get)
    except (NotFound, Fault):
        return await _wrong_path(get, server) or EndpointError(f"{server.url}: has no {path}: {missing}")
    if missing.names_model and _served(wanted, models):
        return EndpointError(
            f"{server.url}: lists {wanted!r} and says that there is none ({missing}): look there, or name another with"
            " --model"
        )
    if missing.names_model:
        return no_such_model(server, wanted, models)
    other = "chat" if path == "/completions" else "completion"
    return EndpointError(f'{server.url}: answers, but has no {path}: set dialect = "{other}" ({missing})')


async def served_models(get: Get) -> list[str]:
    """The names in the server's list of models.

    Raises:
        NotFound, Fault, EndpointError: there is no list to be had.
    """
    text = await get("/models")
    try:
        listed = parsed(text)
    except ValueError:
        raise NotFound("its /models is not JSON", names_model=False) from None
    entries = listed.get("data") if isinstance(listed, dict) else listed
    if not isinstance(entries, list):
        return []
    return [str(entry["id"])[:_LONGEST_NAME] for entry in entries if isinstance(entry, dict) and "id" in entry]


def no_such_model(server: Server, wanted: str, models: Sequence[str]) -> EndpointError:
    """The error for a model that is not served: names those that are, the nearest first."""
    if not models:
        return EndpointError(f"{server.url}: has no model {wanted!r}")
    return EndpointError(f"{server.url}: has no model {wanted!r}; it serves {_list(_nearest(wanted, models))}")


async def _models_or_advice(get: Get, server: Server) -> list[str]:
    try:
        return await served_models(get)
    except NotFound:
        if advice := await _wrong_path(get, server):
            raise advice from None
    except Transient as fault:
        if fault.status is None:
            raise Unreachable(_nobody(fault)) from None
        raise
    return []


def _nobody(fault: Transient) -> str:
    """What to say where the first question was not answered over HTTP at all."""
    if fault.kind in _NOBODY:
        return f"nothing answers at {fault}: is the server running?"
    return f"{fault}: is this the right address?"


async def _wrong_path(get: Get, server: Server) -> EndpointError | None:
    """The error to show when the API turns out to live below `/v1` of the address that was given."""
    below = server.url.rstrip("/") + "/v1"
    try:
        await served_models(lambda path: get(below + path))
    except (NotFound, Fault, EndpointError):
        return None
    return EndpointError(f"{server.url}: no API here, but there is one at {below}: set base_url to that")


def _only(models: Sequence[str], server: Server) -> str:
    if not models:
        raise EndpointError(f"{server.url}: does not list its models: name one with --model")
    if len(models) > 1:
        raise EndpointError(f"{server.url}: serves {_list(sorted(models))}: choose one with --model")
    return models[0]


def _served(wanted: str, models: Sequence[str]) -> bool:
    """Whether the list has the model, also as Ollama (`name:latest`), Gemini (`models/name`) or a wildcard has it."""
    return any(name in (wanted, f"{wanted}:latest", f"models/{wanted}") or "*" in name for name in models)


def _nearest(wanted: str, models: Sequence[str]) -> list[str]:
    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, wanted.lower(), name.lower()).ratio()

    return sorted(models[:_COMPARED], key=likeness, reverse=True) + list(models[_COMPARED:])


def _list(models: Sequence[str]) -> str:
    more = len(models) - _LISTED
    return ", ".join(models[:_LISTED]) + (f" and {more} more" if more > 0 else "")
