"""A run's folder: how it is begun, and how it is opened again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from selfinstruct.dataset.files import Written, export
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import (
    RunConfig,
    Tree,
    build,
    differences,
    dump,
    may_change,
    merge,
    refuse,
    written_out,
)
from selfinstruct.recipes import find
from selfinstruct.recipes.chain import Chain
from selfinstruct.recipes.configured import stored
from selfinstruct.run.told import Told, prompts_of, resolve, source
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import kept
from selfinstruct.text.files import whole


def begin(folder: Path, told: Told, models: Mapping[str, str]) -> Ledger:
    """A new run in `folder`: its ledger, and its configuration for people to read.

    Args:
        models: the names of its models as their backends resolved them, by their names in the run (`config.doors_of`).

    Raises:
        RunError: the folder cannot be written.
    """
    facts = {
        "config": json.dumps(dump(told.config)),
        "version": version("selfinstruct"),
        "models": json.dumps(dict(models), ensure_ascii=False),
    }
    ledger = Ledger.create(folder, facts=facts, seeds=told.seeds, prompts=told.prompts, target=told.config.n)
    write_config(folder, told.config)
    return ledger


def write_config(folder: Path, config: RunConfig) -> None:
    """`config.toml` in the run's folder, for people and for `generate --config`; the ledger has its own copy."""
    import tomli_w

    head = "# The resolved configuration of this run. `selfinstruct generate --config` takes it for another one.\n"
    try:
        whole(folder / "config.toml", head + tomli_w.dumps(dump(config)))
    except OSError as error:
        raise RunError(f"{folder / 'config.toml'}: {error.strerror}") from None


def continued(ledger: Ledger, given: Mapping[str, Any]) -> Told:
    """What to continue a run with: all that it was told, with what is given anew where that may change.

    Raises:
        ConfigError: something was given that would make it another run; the message names it and both values.
    """
    seeds, begun = ledger.seeds(), stored(ledger)
    # Resolved anew, since the version that began the run may not have known every setting.
    before = resolve(begun.config, begun.chain, seeds)
    tree = {key: value for key, value in given.items() if key not in ("seeds", "prompts")}
    refuse(tree, where="configuration")
    asked = build(RunConfig, _over(dump(before), tree), where="configuration")
    _check_recipes(ledger, before, asked)
    try:
        chain = Chain.of(asked)
        wanted = resolve(asked, chain, seeds)
    except ConfigError:
        # What was asked for may go badly with the rest of this run; that it is another run says more. What has no old
        # value may be no setting at all, which `resolve` says better.
        for key, old, new in _fixed_differences(before, asked):
            if old is not None:
                raise _another_run(ledger, f"with {key} = {old!r}, not {new!r}") from None
        raise
    for role in sorted(wanted.roles.keys() - before.roles.keys()):
        raise _another_run(ledger, f"without roles.{role}, not with {_models(wanted, role)!r} for it")
    for key, old, new in _fixed_differences(before, wanted):
        raise _another_run(ledger, f"with {key} = {old!r}, not {new!r}")
    if given.get("seeds") and source(begun.chain, Path(given["seeds"])) != seeds:
        raise _another_run(ledger, f"with other seeds than are in {given['seeds']} now")
    if given.get("prompts") and prompts_of(wanted, chain, Path(given["prompts"])) != ledger.prompts():
        raise _another_run(ledger, f"with other prompts than {given['prompts']}")
    told = Told(wanted, chain, seeds, ledger.prompts())
    chain.open(told.prompts, wanted)
    return told


def _over(before: Tree, given: Tree) -> Tree:
    """What was told before with what is given anew; further recipes and the models of a role are merged one by one."""
    given = written_out(given)
    roles = given.pop("roles", {})
    if not isinstance(roles, Mapping):
        return {**before, "roles": roles}
    if "judge" in given:
        roles = {**roles, "judge": given.pop("judge")}
    if "then" in given:
        given["then"] = _restated(before.get("then"), given["then"])
    begun = before.get("roles", {})
    return merge(before, {**given, "roles": {role: _restated(begun.get(role), told) for role, told in roles.items()}})


def _restated(begun: Any, told: Any) -> Any:
    """A list of as many tables as before, each merged into that in its place; anything else as it is."""
    is_like = isinstance(begun, list) and isinstance(told, list) and len(told) == len(begun)
    if not is_like or not all(isinstance(table, Mapping) for table in told):
        return told
    return [merge(one, other) for one, other in zip(begun, told, strict=True)]


def _check_recipes(ledger: Ledger, before: RunConfig, asked: RunConfig) -> None:
    """Refuse other recipes after the first, and before that such as there are not."""
    for name in asked.recipes:
        find(name)
    begun, wanted = (", ".join(config.recipes[1:]) for config in (before, asked))
    if begun != wanted:
        difference = f"with then = {begun!r}, not {wanted!r}" if begun else f"without --then, not with {wanted!r}"
        raise _another_run(ledger, difference)


def _models(config: RunConfig, role: str) -> str:
    """The names of the models of a role."""
    return ", ".join(model.model or "a model without a name" for model in config.roles[role])


def _fixed_differences(stored: RunConfig, wanted: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """What differs and may not: how many models a role has, then setting by setting."""
    for role in sorted(stored.roles.keys() & wanted.roles.keys()):
        if len(stored.roles[role]) != len(wanted.roles[role]):
            yield f"roles.{role}", _models(stored, role), _models(wanted, role)
    for key, old, new in differences(dump(stored), dump(wanted)):
        if not may_change(key):
            yield key.replace(".0.", "."), old, new


def _another_run(ledger: Ledger, difference: str) -> ConfigError:
    cure = "leave it out, or begin another run with --run"
    return ConfigError(f"{ledger.path.parent}: begun {difference}; {cure}")


def exported(ledger: Ledger, folder: Path, notice: Callable[[str], object] | None = None) -> list[Written]:
    """Write what a run exports by its own configuration; nothing where no task is kept.

    Args:
        notice: called with a line on samples that a format cannot hold.
    """
    config, chain = stored(ledger)
    if not kept(ledger, chain.task_stage):
        return []
    return export(ledger, chain.task_stage, config.formats, folder, config.export, notice=notice)
