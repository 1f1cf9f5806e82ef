"""Where a draft is from, and what came of it: the steps of its making, and the family that it stands in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from selfinstruct.errors import RunError
from selfinstruct.records import SEED_STAGE, Completion, Sample
from selfinstruct.store.ledger import Ledger, PlannedJob, StoredAnswer, StoredDraft, job_of

GOES_ROUND = "draft {id} comes from itself: damaged; restore it from a copy, or begin another run with --run"
"""What is wrong with a ledger in which parents make a circle."""
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
        if any(step.job == job.number for step in found):
            raise RunError(f"{ledger.path}: {GOES_ROUND.format(id=draft)}")
        found.append(Step(job.number, job.stage, list(job.shown), told, ledger.decisions(draft)))
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


def origins(ledger: Ledger, stage: str, before: str = "") -> dict[str, str]:
    """By draft, what it was made from: the nearest draft of a stage up the line of its jobs, or of the stage before,
    else the source that its family began with; one that was made from none of them is left out.

    Args:
        stage: the recipe's last stage.
        before: the stage that the recipe's sources are of; "" where these are the run's seeds.
    """
    return dict(ledger.query(_ORIGINS, stage, before))


_ORIGINS = """
WITH RECURSIVE up(id, family, above, shown) AS (
    SELECT d.id, d.family, j.parent, j.shown FROM drafts d JOIN jobs j ON j.number = d.job
    UNION  -- which ends also where damage has drafts come from themselves
    SELECT u.id, u.family, j.parent, j.shown
    FROM up u JOIN drafts d ON d.id = u.above JOIN jobs j ON j.number = d.job WHERE d.stage NOT IN (?1, ?2)
)
SELECT u.id, coalesce(u.above, CASE json_array_length(u.shown) WHEN 1 THEN json_extract(u.shown, '$[0]') END, u.family)
FROM up u LEFT JOIN drafts d ON d.id = u.above
WHERE d.stage IN (?1, ?2) OR (u.above IS NULL AND u.family NOT IN ('', u.id))
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
    """What the family of a draft or seed begins with, and whether that is a draft; else it is a source."""
    draft = ledger.draft(id)
    if draft is None:
        return _source(ledger, id), False
    seen = {draft.id}
    while (above := draft.parent or draft.draft.family) not in ("", draft.id):
        if above in seen:
            raise RunError(f"{ledger.path}: {GOES_ROUND.format(id=above)}")
        seen.add(above)
        if (found := ledger.draft(above)) is None:
            return above, False
        draft = found
    return draft.id, True


def _source(ledger: Ledger, id: str) -> str:
    """The family of the seed of this id."""
    if rows := ledger.query("SELECT coalesce(json_extract(record, '$.family'), '') FROM seeds WHERE id = ?", id):
        return str(rows[0][0] or id)
    [[seed]] = ledger.query("SELECT coalesce(min(id), 's1') FROM seeds WHERE number = 1")
    raise RunError(f"{ledger.path.parent}: no draft or seed {id}; drafts look like 17.3, seeds like {seed}")


def _family(ledger: Ledger, root: str, is_draft: bool) -> Node:
    nodes: dict[str, list[Node]] = defaultdict(list)
    for number, id, above in ledger.query(_LINE, root):
        node = _node(ledger.job(number), None if id is None else ledger.draft(id))
        nodes[above or ""].append(node)
    for node in [node for some in nodes.values() for node in some]:
        node["children"] = nodes.get(node["id"], []) if "id" in node else []
    if is_draft:
        return next(node for some in nodes.values() for node in some if node.get("id") == root)
    instruction = ledger.instructions([root]).get(root, "")
    return {"id": root, "stage": SEED_STAGE, "instruction": instruction, "children": nodes[root]}


_LINE = """
WITH RECURSIVE
made(job, id, above) AS MATERIALIZED (
    SELECT j.number, d.id, coalesce(j.parent, CASE
        WHEN d.id IS NOT NULL THEN nullif(d.family, d.id)
        WHEN json_array_length(j.shown) = 1 THEN json_extract(j.shown, '$[0]') END)
    FROM jobs j LEFT JOIN drafts d ON d.job = j.number
),
line(job, id, above) AS (
    SELECT job, id, above FROM made WHERE id = ?1 OR above = ?1
    UNION
    SELECT m.job, m.id, m.above FROM line l JOIN made m ON m.above = l.id
)
SELECT job, id, above FROM line ORDER BY job, id
"""
"""What was made from what, a job without drafts from its parent or the one thing that its prompt shows."""


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
