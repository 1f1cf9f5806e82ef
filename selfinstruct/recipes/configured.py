"""What a run is, as its ledger says: the configuration that it was begun with, and the recipes that this names."""

from __future__ import annotations

import json
from typing import NamedTuple

from selfinstruct.inputs.config import RunConfig, Tree, build
from selfinstruct.recipes import find
from selfinstruct.recipes.chain import Chain
from selfinstruct.store.ledger import Ledger


class Resolved(NamedTuple):
    """A configuration in which everything is filled in, with the recipes that it names."""

    config: RunConfig
    chain: Chain

    @property
    def task_stage(self) -> str:
        """The stage whose kept drafts are the tasks that `-n` counts."""
        return self.chain.task_stage


def stored(ledger: Ledger) -> Resolved:
    """What a run was begun with, with its present target.

    Raises:
        ConfigError: its recipe is not installed here.
    """
    tree = json.loads(ledger.fact("config") or "{}")
    begun = {**tree, "recipe": _as_begun(tree.get("recipe", {})), "n": ledger.target()}
    if tree.get("then"):
        begun["then"] = list(map(_as_begun, tree["then"]))
    config = build(RunConfig, begun, where=str(ledger.path))
    return Resolved(config, Chain.of(config))


def _as_begun(recipe: Tree) -> Tree:
    """A stored recipe with the switches off that it does not name: the version which began the run had none of them,
    and named all that it had."""
    if not recipe.get("switches"):
        return recipe
    return {**recipe, "switches": {**find(recipe["name"]).Options.all_off(), **recipe["switches"]}}
