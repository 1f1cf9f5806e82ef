"""`--role NAME=MODEL[@URL][:WEIGHT],…`: who plays a role, as entries of `[[roles.NAME]]`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from selfinstruct.inputs.config import Tree

_NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
"""What is meant for a weight; any other word after a colon belongs to the model's name, such as `qwen2.5:7b`."""
_BEFORE_PORT = re.compile(r".*@https?://([^/@]*@)?(\[[^]]*\]|[^/:@]+)")
"""A model and its address, up to where a port may follow."""
_NO_SCHEME = re.compile(r"@(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/|$)|@\w*:/|@$")
"""What looks like an address but has no `http://`; names of models have an @ too, such as `@cf/meta/llama`."""
_UNCLEAR = re.compile(r".+@\D.*")
"""A name with an @ that neither begins it nor stands before the number of a version, such as `claude@20240229`."""


def role_of(text: str) -> tuple[str, list[Tree]]:
    """The name of a role, and an entry for each model that plays it.

    Args:
        text: `NAME=MODEL[@URL][:WEIGHT],…`. A number after the last colon is a weight, except the port of a URL; any
            other word there belongs to the model's name.

    Raises:
        ValueError: another form; says what is wrong with it.
    """
    name, _, models = text.partition("=")
    if not models or not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ValueError("write NAME=MODEL, NAME=MODEL@URL, or NAME=MODEL:WEIGHT,MODEL:WEIGHT")
    return name, [_player(model.strip()) for model in models.split(",")]


def _player(text: str) -> Tree:
    """One model of a role: `MODEL[@URL][:WEIGHT]`."""
    rest, weight = _weighted(text)
    found = re.fullmatch(r"(.*?)@(https?://.+)", rest)
    model, url = found.groups() if found else (rest, "")
    if not model:
        raise ValueError(f"{text!r} has no model's name")
    if not url and (_NO_SCHEME.search(text) or _NO_SCHEME.search(rest)):
        raise ValueError(f"{text!r}: an address begins with http:// or https://")
    if not url and _UNCLEAR.fullmatch(rest):
        raise ValueError(f"{text!r}: an address begins with http:// or https://; a name like this goes into a file, as"
                         " `model` in [roles.NAME]")  # fmt: skip
    entry = {"model": model, "base_url": url, "weight": weight}
    return {key: value for key, value in entry.items() if value}


def _weighted(text: str) -> tuple[str, float | None]:
    """A text without the weight at its end, and the weight."""
    rest, _, last = text.rpartition(":")
    is_port = last.isdigit() and _BEFORE_PORT.fullmatch(rest)
    if rest and not last:
        raise ValueError(f"{text!r}: a weight is missing after the colon")
    if not rest or is_port or not _NUMBER.fullmatch(last):
        return text, None
    if not 0 < float(last) < math.inf:
        raise ValueError(f"{text!r}: a weight is more than 0" + ("" if math.isfinite(float(last)) else " and finite"))
    return rest, float(last)


class Role(click.ParamType[Any]):
    """A role and who plays it; see `role_of`."""

    name = "role"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its name and its entries."""
        try:
            return role_of(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def once(context: click.Context, option: click.Parameter, roles: Sequence[tuple[str, list[Tree]]]) -> Tree | None:
    """The roles that were given as the table `[roles]`, each given once."""
    for name, times in Counter(name for name, _ in roles).items():
        if times > 1:
            raise click.BadParameter(f"{name} is given twice; write {name}=MODEL,MODEL", context, option)
    return dict(roles) or None
