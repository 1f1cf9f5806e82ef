"""The drafts of a run, packed for a page: columns of JSON, compressed, a few hundred to a block.

A draft that was kept only to be carried further (an instruction that became a task) is told by the one that carries it:
its id stands in that one's `chain`. Where not all fit, whole families are drawn by a fixed seed until the room is used.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, NamedTuple

from selfinstruct.records import Review
from selfinstruct.store.ledger import Ledger, StoredDraft
from selfinstruct.text.words import storable

AT_ONCE = 400
"""Rows to a block."""
ENDS = (
    "(NOT d.kept OR d.stage = ? OR d.id NOT IN"
    " (SELECT c.parent FROM jobs c JOIN drafts e ON e.job = c.number WHERE c.parent IS NOT NULL))"
)
"""SQL: a draft that no other carries further."""


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
    carried = "SELECT c.number, c.parent FROM jobs c JOIN drafts d ON d.id = c.parent WHERE d.stage <> ?"
    parents = dict(ledger.query(carried, stage))
    blocks: list[str] = []
    shown = 0
    for first in range(0, len(ids), AT_ONCE):
        some = ids[first : first + AT_ONCE]
        block = _compressed(_block(ledger, parents, some))
        if room is not None and sum(map(len, blocks)) + len(block) > room:
            break
        blocks.append(block)
        shown += len(some)
    return Packed(blocks, shown, len(ids))


def _families(ledger: Ledger, stage: str) -> list[str]:
    """The ids of all drafts that end a chain, families together, the families in an order drawn by a fixed seed."""
    query = f"SELECT d.id, coalesce(json_extract(d.meta, '$.root'), d.id) FROM drafts d WHERE {ENDS} ORDER BY d.rank"  # noqa: S608
    families: dict[str, list[str]] = {}
    for id, root in ledger.query(query, stage):
        families.setdefault(root, []).append(id)
    order = list(families)
    Random(len(order)).shuffle(order)
    return [id for root in order for id in families[root]]


def _block(ledger: Ledger, parents: Mapping[int, str], ids: list[str]) -> dict[str, Any]:
    """The drafts of these ids as columns, and the instructions of those that they speak of."""
    chains = {id: _chain(id, parents) for id in ids}
    roots = {id: _job([id, *chain][-1]) for id, chain in chains.items()}
    shown = _demonstrations(ledger, roots.values())
    drafts = ledger.drafts("d.id IN (SELECT value FROM json_each(?))", json.dumps(ids))
    reviews = ledger.reviews("draft IN (SELECT value FROM json_each(?))", json.dumps(ids))
    rows = [
        {**_row(draft), "chain": chains[draft.id], "from": shown[roots[draft.id]], "review": _review(draft, reviews)}
        for draft in drafts
    ]
    named = {row[key] for row in rows for key in ("of", "parent", "root") if row[key]}
    return {
        "rows": {key: [row[key] for row in rows] for key in rows[0]},
        "named": _instructions(ledger, named - set(ids)),
    }


def _row(stored: StoredDraft) -> dict[str, Any]:
    """What the page knows of a draft; instances are those that stayed, or all of one that was dropped."""
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
        "instruction": draft.instruction,
        "instances": [[i.input, i.output] for i in (stored.stayed if stored.kept else draft.instances)],
        "answer": meta.get("answer"),
        "category": _category(meta),
        **{key: meta.get(key) for key in ("operator", "round", "parent", "root")},
    }


def _review(stored: StoredDraft, reviews: Mapping[str, Review]) -> dict[str, Any] | None:
    """What a person decided, with the task as it is now."""
    if (review := reviews.get(stored.id)) is None:
        return None
    instances = review.instances or (stored.stayed if stored.kept else stored.draft.instances)
    return {
        "keep": review.keep,
        "edited": review.edited,
        "instruction": review.instruction or stored.draft.instruction,
        "instances": [[instance.input, instance.output] for instance in instances],
    }


def _category(meta: Mapping[str, Any]) -> str | None:
    """What kind of task it is, as far as the recipe knows."""
    if "category" in meta or "is_classification" not in meta:
        return None if meta.get("category") is None else str(meta["category"])
    return "classification" if meta["is_classification"] else "generation"


def _chain(id: str, parents: Mapping[int, str]) -> list[str]:
    """The drafts that this one carries further, the nearest first."""
    chain: list[str] = []
    while (parent := parents.get(_job([id, *chain][-1]))) is not None:
        chain.append(parent)
    return chain


def _job(id: str) -> int:
    return int(id.partition(".")[0])


def _demonstrations(ledger: Ledger, jobs: Iterable[int]) -> dict[int, list[str]]:
    """By job, the ids of what its prompt showed."""
    query = (
        "SELECT number, coalesce(json_extract(payload, '$.from'), '[]') FROM jobs"
        " WHERE number IN (SELECT value FROM json_each(?))"
    )
    return {number: json.loads(shown) for number, shown in ledger.query(query, json.dumps(list(set(jobs))))}


def _instructions(ledger: Ledger, ids: Iterable[str]) -> dict[str, str]:
    """The instructions of seeds and drafts."""
    query = (
        "SELECT id, json_extract(record, '$.instruction') FROM seeds WHERE id IN (SELECT value FROM json_each(?1))"
        " UNION ALL SELECT id, instruction FROM drafts WHERE id IN (SELECT value FROM json_each(?1))"
    )
    return dict(ledger.query(query, json.dumps(sorted(ids))))


def _compressed(value: Any) -> str:
    text = storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
