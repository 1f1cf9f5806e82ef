"""Which request parameters a server turned out not to take, learnt from its refusals.

Modern hosted models want `max_completion_tokens` for `max_tokens` and refuse a temperature, a stop sequence or a
penalty. Which of them do is known only to them, and changes; so the first refusal that names a parameter teaches it
to the session, the person is told once, and the question is asked again without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from selfinstruct.backends.openai.boundary import Said
from selfinstruct.inputs.plugins import Notice

_NEVER_DROPPED = {"model", "prompt", "messages"}
_RENAMED = {"max_tokens": "max_completion_tokens"}
_NOT_TAKEN = re.compile(
    r"unsupported|unrecognized|unknown (name|parameter|field|argument)|not (supported|permitted|allowed|enabled)"
    r"|unavailable|does ?n[o']t support|extra_forbidden|unexpected",
    re.IGNORECASE,
)


class Parameters:
    """The parameters that one server does not take, for as long as the session lasts."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._refused: dict[str, str | None] = {}

    def fitted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body with refused parameters renamed or left out."""
        if not self._refused:
            return dict(body)
        renamed = {self._refused.get(name, name): value for name, value in body.items()}
        return {name: value for name, value in renamed.items() if name is not None}

    def learn(self, said: Said, body: Mapping[str, Any]) -> bool:
        """Whether the refusal names a parameter of `body` that can be done without; then it is, from now on."""
        name = _named(said, body)
        if name is None:
            return False
        if name not in self._refused:
            self._refused[name] = _RENAMED.get(name)
            self._tell(name, said)
        return True

    def _tell(self, name: str, said: Said) -> None:
        other = self._refused[name]
        how = f"sending {other} instead" if other else "asking without it"
        self._notice(f"the model does not take {name}: {how} ({said.message})")


def _named(said: Said, body: Mapping[str, Any]) -> str | None:
    """The parameter of `body` that the server says it does not take."""
    if not (_NOT_TAKEN.search(said.code) or _NOT_TAKEN.search(said.message)):
        return None
    droppable = [name for name in body if name not in _NEVER_DROPPED and name not in _RENAMED.values()]
    if said.param.split(".")[0] in droppable:
        return said.param.split(".")[0]
    words = set(re.findall(r"\w+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", said.message).lower()))
    return next((name for name in droppable if name in words), None)
