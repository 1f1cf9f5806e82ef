"""Identity: a tagged hash of canonical JSON.

The tag names the algorithm, so that a later change is seen as one instead of silently missing every stored answer.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Literal

from selfinstruct.text.words import encodable

TAG = "b2:"


# Made once: `json.dumps` makes one for every text, which takes longer than a short one does.
_PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_ESCAPED = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and no escapes: equal values give equal text. Lone surrogates survive as
    escapes."""
    if value in ({}, ()):
        return "{}" if value == {} else "[]"  # as most are
    text = _PLAIN.encode(value)
    return text if encodable(text) else _ESCAPED.encode(value)


Kind = Literal["completion", "execution", "result"]
"""What a question is answered by: a model's completion, a program's execution, a tool's result."""


def answer_key(job: int, question: str, nth: int, kind: Kind = "completion") -> str:
    """The name under which an answer is stored: which job put which canonical question for the n-th time (from 0).

    The n-th time matters: four samples of one prompt would otherwise collapse into one. A question to a model stands
    for itself, any other begins with its kind.
    """
    told = question if kind == "completion" else f"{kind}\n{question}"
    digest = blake2b(f"{job}\n{nth}\n{told}".encode(), digest_size=16)
    return TAG + digest.hexdigest()
