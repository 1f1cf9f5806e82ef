"""`show --tree`: where a task stands in its family.

In an evolution the family is all that was made of one seed, round by round, with what was dropped and what failed. In
other runs it is the jobs and drafts that a draft came from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from selfinstruct.errors import RunError
from selfinstruct.store.ledger import Ledger, PlannedJob, StoredDraft
from selfinstruct.text.display import one_line

Node = dict[str, Any]
"""A seed, or what became of a job, as JSON; under `children` what came of it."""
LONGEST = 200
"""Columns after which a line is cut where no terminal cuts it."""
STYLES = {"kept": "green", "dropped": "red", "failed": "bold red", "planned": "dim"}


# -- what there is ----------------------------------------------------------------------------------------------------


def families(ledger: Ledger, ids: Iterable[str]) -> list[Node]:
    """The families that these drafts and seeds belong to, each once, with those of `ids` in it as `asked`.

    Raises:
        RunError: an id is neither a draft's nor a seed's.
    """
    groups: dict[str, list[str]] = {}
    for id in ids:
        groups.setdefault(_root(ledger, id), []).append(id)
    return [{"asked": asked, **_family(ledger, root)} for root, asked in groups.items()]


def _root(ledger: Ledger, id: str) -> str:
    """The seed that a draft was evolved from in the end; a seed, and a draft of another run, stands for itself."""
    if jobs := ledger.query("SELECT job FROM drafts WHERE id = ?", id):
        return str(ledger.job(jobs[0][0]).job.payload.get("root", id))
    if ledger.query("SELECT 1 FROM seeds WHERE id = ?", id):
        return id
    [[seed]] = ledger.query("SELECT id FROM seeds ORDER BY number LIMIT 1")
    raise RunError(f"{ledger.path.parent}: no draft or seed {id}; drafts look like 17.3, seeds like {seed}")


def _family(ledger: Ledger, root: str) -> Node:
    seeds = ledger.query("SELECT json_extract(record, '$.instruction') FROM seeds WHERE id = ?", root)
    if not seeds:
        return _ancestry(ledger, root)
    evolutions = _evolutions(ledger, root)
    return {"id": root, "stage": "seed", "instruction": seeds[0][0], "children": _grown(evolutions, root)}


def _ancestry(ledger: Ledger, id: str, *children: Node) -> Node:
    """The first job that a draft came from, with what followed down to the draft."""
    stored = ledger.job(int(id.partition(".")[0]))
    made = _made(stored, next(ledger.drafts("d.id = ?", id)))
    node = {**made, "shown": stored.job.payload.get("from", []), "children": list(children)}
    return node if stored.job.parent is None else _ancestry(ledger, stored.job.parent, node)


def _evolutions(ledger: Ledger, root: str) -> list[tuple[str, Node]]:
    """Each evolution in a family, beside the id of what it evolved."""
    numbers = ledger.query("SELECT number FROM jobs WHERE json_extract(payload, '$.root') = ? ORDER BY number", root)
    jobs = [ledger.job(number) for (number,) in numbers]
    made = [(stored.job, _made(stored, next(ledger.drafts("d.job = ?", stored.job.number), None))) for stored in jobs]
    answers = {job.parent: node for job, node in made if job.stage == "answer"}
    return [
        (job.payload["member"], {"round": job.payload["round"], "operator": job.payload["steps"][0]["operator"], **node,
                                 "answer": answers.get(node.get("id"))})
        for job, node in made if job.stage == "evolve"
    ]  # fmt: skip


def _grown(evolutions: list[tuple[str, Node]], member: str) -> list[Node]:
    """The evolutions of a live task, with those of what was kept under each."""
    return [
        {**node, "children": _grown(evolutions, node["answer"]["id"]) if "id" in (node["answer"] or {}) else []}
        for parent, node in evolutions
        if parent == member
    ]


def _made(stored: PlannedJob, draft: StoredDraft | None) -> Node:
    """What became of a job."""
    node: Node = {"job": stored.job.number, "stage": stored.job.stage, "state": stored.state}
    if stored.state == "failed":
        return {**node, "error": f"{stored.error_kind}: {stored.error}"}
    if draft is None:
        return node
    told = {"id": draft.id, "state": "kept" if draft.kept else "dropped", "instruction": draft.draft.instruction}
    outputs = [instance.output for instance in draft.draft.instances]
    verdict = {"filter": draft.filter, "reason": draft.reason, "detail": draft.detail}
    judged = {"judgement": draft.draft.meta["judgement"]} if "judgement" in draft.draft.meta else {}
    return {**node, **told, "outputs": outputs, **verdict, **judged}


# -- drawn ------------------------------------------------------------------------------------------------------------


def drawn(family: Node) -> Tree:
    """A family for a terminal; what was asked for is marked."""
    tree = Tree(_label(family, family["asked"]), guide_style="dim")
    _draw_children(tree, family, family["asked"])
    return tree


def _draw_children(tree: Tree, node: Node, asked: Collection[str]) -> None:
    for child in node["children"]:
        _draw_children(tree.add(_label(child, asked)), child, asked)


def _label(node: Node, asked: Collection[str]) -> RenderableType:
    """Two lines: what was made, cut where the terminal ends, and what became of it."""
    name = _mark(node["id"], asked) if "id" in node else f"job {node['job']}"
    if "round" in node:
        name = f"round {node['round']} · {node['operator']} · {name}"
    elif "job" in node:
        name = f"job {node['job']} · {node['stage']} · {name}"
    text = f"{one_line(name)}  {one_line(node.get('instruction', ''))}".rstrip()
    first = Text(text, no_wrap=True, overflow="ellipsis", style="bold" if _is_asked(node, asked) else "")
    first.truncate(LONGEST, overflow="ellipsis")
    return Group(first, *_fate(node, asked))


def _is_asked(node: Node, asked: Collection[str]) -> bool:
    return node.get("id") in asked or (node.get("answer") or {}).get("id") in asked


def _mark(id: str, asked: Collection[str]) -> str:
    return f"▶ {id}" if id in asked else id


def _fate(node: Node, asked: Collection[str]) -> list[Text]:
    if node["stage"] == "seed":
        return [] if node["children"] else [Text("nothing has been evolved from it", style="dim")]
    answer = node.get("answer")
    shown = f"; its prompt showed {', '.join(map(one_line, node['shown']))}" if node.get("shown") else ""
    if answer is None:
        return [Text(_told(node) + shown, style=STYLES[node["state"]])]
    name = f"answer {_mark(answer['id'], asked)}" if "id" in answer else f"answer of job {answer['job']}"
    if node["state"] == "dropped":  # by `filter`, after it had been answered
        return [Text(f"{_told(node)}, and {name} with it", style=STYLES["dropped"])]
    kept = f"kept with {name}{_unclear(answer)}"
    return [Text(kept if answer["state"] == "kept" else f"{name} {_told(answer)}", style=STYLES[answer["state"]])]


def _unclear(answer: Node) -> str:
    return "; the judge gave no clear word" if answer.get("judgement") == "unclear" else ""


def _told(node: Node) -> str:
    """What became of a job, in words."""
    if node["state"] == "failed":
        return f"failed: {one_line(node['error'])}"
    if node["state"] == "dropped":
        why = told_detail(node["detail"])
        return f"dropped by {node['filter']}: {node['reason']}" + (f" ({why})" if why else "")
    return "kept" if node["state"] == "kept" else "not done yet"


def told_detail(detail: dict[str, Any]) -> str:
    """What a verdict says beside its reason, for a person."""
    if "of" in detail:
        return f"{float(detail['score']):.3f} like {one_line(str(detail['of']))}"
    return ", ".join(f"{key}: {one_line(str(value))}" for key, value in detail.items())
