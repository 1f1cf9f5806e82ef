"""The drafts of a run, packed for a page: columns of JSON, compressed, a few hundred to a block.

A draft that was kept only to be carried further (an instruction that became a task) is told by the one that carries it:
its id stands in that one's `chain`. Where not all fit, whole families are drawn by a fixed seed until the room is used.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

from selfinstruct.errors import RunError
from selfinstruct.records import Instance, Review
from selfinstruct.store.ledger import Ledger, StoredDraft, job_of
from selfinstruct.store.lineage import GOES_ROUND, origins
from selfinstruct.store.readings import carried, ends, shown
from selfinstruct.text.words import storable

AT_ONCE = 400
"""Rows to a block."""


class Packed(NamedTuple):
    """Drafts as a page holds them."""

    blocks: list[str]
    """Each a gzipped JSON object of columns, in base64."""
    shown: int
    """Drafts in the blocks."""
    of: int
    """Drafts in all."""


def pack(ledger: Ledger, stage: str, room: int | None) -> Packed:
    """The drafts of a run.

    Args:
        stage: the recipe's last stage.
        room: characters that the blocks may take; None takes all.
    """
    ids = _families(ledger, stage)
    parents, made_from = carried(ledger, stage), origins(ledger, stage)
    blocks: list[str] = []
    shown = 0
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        block = _compressed(_block(ledger, parents, made_from, some))
        if room is not None and sum(map(len, blocks)) + len(block) > room:
            break
        blocks.append(block)
        shown += len(some)
    return Packed(blocks, shown, len(ids))


def _families(ledger: Ledger, stage: str) -> list[str]:
    """The ids of all drafts that end a chain, families together, the families in an order drawn by a fixed seed."""
    families: dict[str, list[str]] = {}
    for id, family in ends(ledger, stage):
        families.setdefault(family, []).append(id)
    order = list(families)
    Random(len(order)).shuffle(order)
    return [id for family in order for id in families[family]]


def _block(ledger: Ledger, parents: Mapping[int, str], made_from: Mapping[str, str], ids: list[str]) -> dict[str, Any]:
    """The drafts of these ids as columns, and the instructions of those that they speak of."""
    chains = {id: _chain(id, parents) for id in ids}
    first = {id: job_of([id, *chain][-1]) for id, chain in chains.items()}
    prompts, reviews = shown(ledger, first.values()), ledger.reviews(ids)
    rows = [
        {**_row(draft), "parent": made_from.get(draft.id),
         "chain": chains[draft.id], "from": prompts[first[draft.id]], "review": _review(draft, reviews)}
        for draft in ledger.drafts(ids=ids)
    ]  # fmt: skip
    named = {row[key] for row in rows for key in ("of", "parent", "family") if row[key]}
    return {
        "rows": {key: [row[key] for row in rows] for key in rows[0]},
        "named": ledger.instructions(named - set(ids)),
    }


def _row(stored: StoredDraft) -> dict[str, Any]:
    """What the page knows of a draft."""
    draft, meta = stored.draft, stored.draft.meta
    detail = {key: value for key, value in stored.detail.items() if key not in ("of", "score")}
    return {
        "id": stored.id,
        "stage": draft.stage,
        "kept": int(stored.kept),
        "filter": stored.filter,
        "reason": stored.reason,
        "of": stored.detail.get("of"),
        "score": stored.detail.get("score"),
        "detail": ", ".join(f"{key}: {value}" for key, value in detail.items()),
        "system": draft.system,
        "tools": [tool.name for tool in draft.tools],
        "instruction": draft.instruction,
        "instances": [_instance(instance) for instance in stored.instances],
        "answer": meta.get("answer"),
        "category": _category(meta),
        "facets": draft.facets,
        "family": draft.family or None,
    }


def _review(stored: StoredDraft, reviews: Mapping[str, Review]) -> dict[str, Any] | None:
    """What a person decided, with the task as it is now."""
    if (review := reviews.get(stored.id)) is None:
        return None
    return {
        "keep": review.keep,
        "edited": review.edited,
        "instruction": review.instruction or stored.draft.instruction,
        "instances": [_instance(instance) for instance in review.instances or stored.instances],
    }


def _instance(instance: Instance) -> list[Any]:
    """Input and output; of what else there is an object more."""
    rest = instance.model_dump(mode="json", exclude_defaults=True, exclude={"input", "output"})
    return [instance.input, instance.output, *([rest] if rest else [])]


def _category(meta: Mapping[str, Any]) -> str | None:
    """What kind of task it is, as far as the recipe knows."""
    if "category" in meta or "is_classification" not in meta:
        return None if meta.get("category") is None else str(meta["category"])
    return "classification" if meta["is_classification"] else "generation"


def _chain(id: str, parents: Mapping[int, str]) -> list[str]:
    """The drafts that this one carries further, the nearest first."""
    chain: list[str] = []
    while (parent := parents.get(job_of([id, *chain][-1]))) is not None:
        if parent in chain:
            raise RunError(f"the run's ledger: {GOES_ROUND.format(id=parent)}")
        chain.append(parent)
    return chain


def _compressed(value: Any) -> str:
    text = storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
