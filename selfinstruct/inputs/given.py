"""What a person may tell us at all: numbers that are some, text that can be stored, and no secrets, since settings are
stored in `config.toml`, the ledger and what is published."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from selfinstruct.text.secrets import is_in_url, is_key, is_variable, names_secret
from selfinstruct.text.words import encodable

MOST = 2**63
"""What whole numbers stay below: the ledger stores them in 64 bits."""
DEEPEST = 30
"""Tables within tables at most."""
CURE = "put it into an environment variable and name that in `api_key_env`"
FIELDS_CURE = "leave it out, for settings are stored and published"
ARGUMENTS_CURE = "leave it out; a server that we start has our environment, such as VLLM_API_KEY or HF_TOKEN"

Place = tuple[str | int, ...]


class Problem(NamedTuple):
    """Something that is no setting."""

    place: Place
    what: str
    """What is wrong, and what to do; without the value where that is a secret."""


def problems(tree: Any, place: Place = ()) -> Iterator[Problem]:
    """Everything in a tree of settings that cannot be one, whatever setting it is."""
    if len(place) > DEEPEST:
        yield Problem(place[:3], "no setting lies so deep")
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            if what := _of_name(str(key)):
                yield Problem(place, what)
            else:
                yield from problems(value, (*place, str(key)))
    elif isinstance(tree, list | tuple):
        yield from _of_arguments(tree, place)
        for number, value in enumerate(tree):
            yield from problems(value, (*place, number))
    elif what := _of_value(tree, place):
        yield Problem(place, what)


def _of_name(name: str) -> str:
    if is_key(name):
        return f"a key stands where a name is expected: {FIELDS_CURE}"
    return "" if _is_text(name) else f"{json.dumps(name)[:60]} is no name: it holds bytes that are no text"


def _of_value(value: Any, place: Place) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else f" = {value}: input should be a finite number"
    if isinstance(value, int):
        return "" if -MOST <= value < MOST else "a number of more than 64 bits"
    return _of_text(value, place) if isinstance(value, str) else ""


def _of_text(text: str, place: Place) -> str:
    if not _is_text(text):
        return f"{json.dumps(text)[:60]} holds bytes that are no text"
    if "api_key_env" in place:
        wrong = text and not is_variable(text)
        return "takes the name of an environment variable, such as OPENAI_API_KEY, and no key" if wrong else ""
    if "base_url" in place and is_in_url(text):
        return f"a key or password stands in the address: {CURE}"
    if "server_args" in place and (is_key(text) or _argument_is_secret(text)):
        return f"a key or password stands in it: {ARGUMENTS_CURE}"
    if (text and _names_secret(place)) or is_key(text) or ("://" in text and " " not in text and is_in_url(text)):
        return f"a key or password stands in it: {CURE if 'extra' not in place else FIELDS_CURE}"
    return ""


def _names_secret(place: Place) -> bool:
    """Whether a name that is ours to judge says so: not that of a role or a facet, which a person gives."""
    names = place[2:] if place[:1] == ("roles",) else () if "facets" in place else place
    return any(isinstance(name, str) and names_secret(name) for name in names)


def _argument_is_secret(argument: str) -> bool:
    name, _, value = argument.replace("=", " ", 1).strip().partition(" ")
    return bool(value) and names_secret(name)


def _of_arguments(arguments: Any, place: Place) -> Iterator[Problem]:
    """Of the arguments of a server those that are told by the one before: `--api-key`, `x`."""
    if "server_args" not in place:
        return
    for number, (one, other) in enumerate(pairwise(arguments)):
        if isinstance(one, str) and one.startswith("-") and names_secret(one) and not str(other).startswith("--"):
            yield Problem((*place, number + 1), f"a key or password stands in it: {ARGUMENTS_CURE}")


def _is_text(text: str) -> bool:
    return "\0" not in text and encodable(text)
