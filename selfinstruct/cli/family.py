"""`show --tree`: a family drawn, for any recipe and chain: what came of what, and what became of each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from selfinstruct.records import SEED_STAGE, Reason
from selfinstruct.store.lineage import Node
from selfinstruct.text.display import one_line

LONGEST = 200
"""Columns after which a line is cut where no terminal cuts it."""
STYLES = {"kept": "green", "dropped": "red", "failed": "bold red", "planned": "dim"}


def drawn(family: Node) -> Tree:
    """A family for a terminal; what was asked for is marked."""
    tree = Tree(_label(family, {}, family["asked"]), guide_style="dim")
    _draw_children(tree, family, family["asked"])
    return tree


def _draw_children(tree: Tree, node: Node, asked: Collection[str]) -> None:
    for child in node["children"]:
        _draw_children(tree.add(_label(child, node, asked)), child, asked)


def _label(node: Node, above: Node, asked: Collection[str]) -> RenderableType:
    """Two lines: what was made, as far as that differs from what it was made from, and what became of it."""
    is_asked = node.get("id") in asked
    before = above.get("facets", {})
    facets = (f"{name} {value}" for name, value in node.get("facets", {}).items() if before.get(name) != value)
    name = f"{'▶ ' * is_asked}{node['id']}" if "id" in node else f"job {node['job']}"
    parts = [*([node["stage"]] if "job" in node else []), *facets, name]
    made = node.get("instruction", "")
    text = f"{one_line(' · '.join(parts))}  {one_line(made) if made != above.get('instruction') else ''}".rstrip()
    first = Text(text, no_wrap=True, overflow="ellipsis", style="bold" if is_asked else "")
    first.truncate(LONGEST, overflow="ellipsis")
    return Group(first, *_fate(node))


def _fate(node: Node) -> list[Text]:
    if node["stage"] == SEED_STAGE:
        return [] if node["children"] else [Text("nothing has come of it", style="dim")]
    shown = node.get("shown", [])
    prompt = f"; its prompt showed {', '.join(map(one_line, shown))}" if len(shown) > 1 else ""
    return [Text(_told(node) + prompt, style=STYLES[node["state"]])]


def _told(node: Node) -> str:
    """What became of a job, in words."""
    if node["state"] == "failed":
        return f"failed: {one_line(node['error'])}"
    if node["state"] == "dropped":
        why = told_detail(node["detail"])
        return f"dropped by {node['filter']}: {node['reason']}" + (f" ({why})" if why else "")
    if node["state"] == "kept":
        return "kept" if node["reason"] == Reason.PASSED else f"kept: {node['reason']}"
    return "not done yet"


def told_detail(detail: dict[str, Any]) -> str:
    """What a verdict says beside its reason, for a person."""
    if "of" in detail:
        return f"{float(detail['score']):.3f} like {one_line(str(detail['of']))}"
    return ", ".join(f"{key}: {one_line(str(value))}" for key, value in detail.items())
