"""A recipe as a run has it: its configuration, as the ledger says it was begun."""

from __future__ import annotations

import json

from selfinstruct.inputs.config import RunConfig, Tree, build
from selfinstruct.recipes import module_of
from selfinstruct.store.ledger import Ledger


def stored_config(ledger: Ledger) -> RunConfig:
    """The configuration that a run was begun with, with its present target."""
    tree = json.loads(ledger.fact("config") or "{}")
    begun = {**tree, "recipe": _as_begun(tree.get("recipe", {})), "n": ledger.target()}
    return build(RunConfig, begun, where=str(ledger.path))


def _as_begun(recipe: Tree) -> Tree:
    """A stored recipe with the switches off that it does not name: the version which began the run had none of them,
    and named all that it had."""
    if not recipe.get("switches"):
        return recipe
    return {**recipe, "switches": {**module_of(recipe["name"]).Options.all_off(), **recipe["switches"]}}
