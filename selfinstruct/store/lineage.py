"""Where a draft is from, and what came of it: the steps of its making, and the family that it stands in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from selfinstruct.errors import RunError
from selfinstruct.records import SEED_STAGE, Completion, Sample
from selfinstruct.store.keys import canonical
from selfinstruct.store.ledger import Ledger, PlannedJob, StoredAnswer, StoredDraft, job_of

Node = dict[str, Any]
"""A source, or what became of a job, as JSON; under `children` what came of it."""


# -- how it was made --------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One job in the making of a sample."""

    job: int
    stage: str
    demonstrations: list[str]
    """Ids of the seeds and samples that its prompt showed."""
    answers: list[dict[str, Any]]
    """Each answer's id and what was asked: model, sampling and prompt, or the program, or the call."""
    verdicts: list[dict[str, Any]]
    """What each filter said of the draft that this step made."""


def steps(ledger: Ledger, sample: Sample) -> list[Step]:
    """How a sample came about, from the job that invented it to the one that finished it; a seed has no steps."""
    found: list[Step] = []
    draft = None if sample.stage == SEED_STAGE else sample.id
    while draft is not None:
        job = ledger.job(job_of(draft)).job
        told = [_told(answer) for answer in ledger.answers(job.number) if not _is_refusal(answer)]
        found.append(Step(job.number, job.stage, list(job.shown), told, ledger.judgements(draft)))
        draft = job.parent
    return found[::-1]


def _is_refusal(stored: StoredAnswer) -> bool:
    return isinstance(stored.answer, Completion) and stored.answer.refused is not None


def _told(stored: StoredAnswer) -> dict[str, Any]:
    asked = stored.question
    if not isinstance(stored.answer, Completion):
        return {"id": stored.key, "call" if "tool" in asked else "program": asked}
    prompt = asked.get("prompt") or asked.get("messages")
    return {
        "id": stored.key,
        "model": stored.answer.model,
        "sampling": asked.get("sampling", {}),
        "prompt": prompt,
    }


def origins(ledger: Ledger, stage: str) -> dict[str, str]:
    """By draft, what it was made from: the nearest draft of a stage up the line of its jobs, else the source that its
    family began with; one that was made from neither is left out.

    Args:
        stage: the recipe's last stage.
    """
    return dict(ledger.query(_ORIGINS, stage, stage))


_ORIGINS = """
WITH RECURSIVE up(id, family, above) AS (
    SELECT d.id, d.family, j.parent FROM drafts d JOIN jobs j ON j.number = d.job
    UNION ALL
    SELECT u.id, u.family, j.parent FROM up u JOIN drafts d ON d.id = u.above JOIN jobs j ON j.number = d.job
    WHERE d.stage <> ?
)
SELECT u.id, coalesce(u.above, u.family) FROM up u LEFT JOIN drafts d ON d.id = u.above
WHERE d.stage = ? OR (u.above IS NULL AND u.family NOT IN ('', u.id))
"""


# -- what came of it --------------------------------------------------------------------------------------------------


def families(ledger: Ledger, ids: Iterable[str]) -> list[Node]:
    """The families that these drafts and seeds belong to, each once, with those of `ids` in it as `asked`.

    A family is all that was made of one source, with what was dropped, what failed and what is not done yet; of a draft
    without a source it is the first draft of its line with all that came of that.

    Raises:
        RunError: an id is neither a draft's nor a seed's.
    """
    asked: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for id in ids:
        asked[_root(ledger, id)].append(id)
    return [{"asked": some, **_family(ledger, *root)} for root, some in asked.items()]


def _root(ledger: Ledger, id: str) -> tuple[str, bool]:
    """What the family of a draft or seed begins with, and whether that is a source; else it is a draft."""
    draft = ledger.draft(id)
    if draft is None:
        return _source(ledger, id), True
    while draft.parent is not None and (above := ledger.draft(draft.parent)) is not None:
        draft = above
    family = draft.draft.family
    return (family, True) if family not in ("", draft.id) else (draft.id, False)


def _source(ledger: Ledger, id: str) -> str:
    """The family of the seed of this id."""
    if rows := ledger.query("SELECT coalesce(json_extract(record, '$.family'), '') FROM seeds WHERE id = ?", id):
        return str(rows[0][0] or id)
    [[seed]] = ledger.query("SELECT coalesce(min(id), 's1') FROM seeds WHERE number = 1")
    raise RunError(f"{ledger.path.parent}: no draft or seed {id}; drafts look like 17.3, seeds like {seed}")


def _family(ledger: Ledger, root: str, is_source: bool) -> Node:
    begun, values = (_OF_SOURCE, (root, canonical([root]))) if is_source else ("number = ?", (job_of(root),))
    children: dict[str | None, list[Node]] = defaultdict(list)
    for (number,) in ledger.query(_LINE.format(begun=begun), *values):
        stored = ledger.job(number)
        made: list[StoredDraft | None] = [*ledger.drafts(job=number)]
        children[stored.job.parent] += [_node(stored, draft) for draft in made or [None]]
    for node in [node for some in children.values() for node in some]:
        node["children"] = children[node["id"]] if "id" in node else []
    if not is_source:
        return next(node for node in children[None] if node.get("id") == root)
    instruction = ledger.instructions([root]).get(root, "")
    return {"id": root, "stage": SEED_STAGE, "instruction": instruction, "children": children[None]}


_OF_SOURCE = """parent IS NULL AND (
    number IN (SELECT job FROM drafts WHERE family = ?)
    OR (shown = ? AND number NOT IN (SELECT job FROM drafts))
)"""
_LINE = """
WITH RECURSIVE line(number) AS (
    SELECT number FROM jobs WHERE {begun}
    UNION
    SELECT j.number FROM line l JOIN drafts d ON d.job = l.number JOIN jobs j ON j.parent = d.id
)
SELECT number FROM line ORDER BY number
"""


def _node(stored: PlannedJob, draft: StoredDraft | None) -> Node:
    """What became of a job, or one draft of it."""
    node: Node = {"job": stored.job.number, "stage": stored.job.stage, "state": stored.state}
    if stored.job.shown:
        node["shown"] = list(stored.job.shown)
    if draft is None:
        return node | ({"error": f"{stored.error_kind}: {stored.error}"} if stored.state == "failed" else {})
    return node | {
        "id": draft.id,
        "state": "kept" if draft.kept else "dropped",
        "facets": draft.draft.facets,
        "instruction": draft.draft.instruction,
        "outputs": [instance.output for instance in draft.draft.instances],
        "filter": draft.filter,
        "reason": draft.reason,
        "detail": draft.detail,
    }
