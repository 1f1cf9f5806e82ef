"""A run's folder: how it is begun, and how it is opened again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from selfinstruct.dataset.files import Written, export
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import MAY_CHANGE, RunConfig, build, differences, dump, merge
from selfinstruct.recipes import task_stage
from selfinstruct.recipes.configured import stored_config
from selfinstruct.run.told import Told, prompts_of, resolve, source
from selfinstruct.store.ledger import Ledger


def begin(folder: Path, told: Told, model: str, judge: str = "") -> Ledger:
    """A new run in `folder`: its ledger, and its configuration for people to read.

    Args:
        model: the model's name as the backend resolved it.
        judge: that of a judge of its own.

    Raises:
        RunError: the folder cannot be written.
    """
    config = dump(told.config)
    facts = {"config": json.dumps(config), "version": version("selfinstruct"), "model": model}
    facts |= {"judge": judge} if judge else {}
    ledger = Ledger.create(folder, facts=facts, seeds=told.seeds, prompts=told.prompts, target=told.config.n)
    write_config(folder, told.config)
    return ledger


def write_config(folder: Path, config: RunConfig) -> None:
    """`config.toml` in the run's folder, for people and for `generate --config`; the ledger has its own copy."""
    import tomli_w

    head = "# The resolved configuration of this run. `selfinstruct generate --config` takes it for another one.\n"
    try:
        (folder / "config.toml").write_text(head + tomli_w.dumps(dump(config)), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder / 'config.toml'}: {error.strerror}") from None


def continued(ledger: Ledger, given: Mapping[str, Any]) -> RunConfig:
    """The configuration to continue a run with: its own, with what is given anew where that may change.

    Raises:
        ConfigError: something was given that would make it another run; the message names it and both values.
    """
    seeds = ledger.seeds()
    # Resolved anew, since the version that began the run may not have known every setting.
    stored = resolve(stored_config(ledger), seeds)
    tree = {key: value for key, value in given.items() if key not in ("seeds", "prompts")}
    asked = build(RunConfig, merge(dump(stored), tree), where="configuration")
    try:
        wanted = resolve(asked, seeds)
    except ConfigError:
        # What was asked for may go badly with the rest of this run; that it is another run says more. What has no old
        # value may be no setting at all, which `resolve` says better.
        for key, old, new in _fixed_differences(stored, asked):
            if old is not None:
                raise _another_run(ledger, f"{key} = {old!r}, not {new!r}") from None
        raise
    for key, old, new in _fixed_differences(stored, wanted):
        raise _another_run(ledger, f"{key} = {old!r}, not {new!r}")
    if given.get("seeds") and source(stored.recipe, Path(given["seeds"])) != seeds:
        raise _another_run(ledger, f"other seeds than are in {given['seeds']} now")
    if given.get("prompts") and prompts_of(wanted, Path(given["prompts"])) != ledger.prompts():
        raise _another_run(ledger, f"other prompts than {given['prompts']}")
    return wanted


def _fixed_differences(stored: RunConfig, wanted: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """What differs and may not."""
    for key, old, new in differences(dump(stored), dump(wanted)):
        if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE):
            yield key, old, new


def _another_run(ledger: Ledger, difference: str) -> ConfigError:
    cure = "leave it out, or begin another run with --run"
    return ConfigError(f"{ledger.path.parent}: begun with {difference}; {cure}")


def exported(
    ledger: Ledger, config: RunConfig, folder: Path, notice: Callable[[str], object] | None = None
) -> list[Written]:
    """Write what a run exports by its own configuration; nothing where no task is kept.

    Args:
        notice: called with a line on samples that a format cannot hold.
    """
    stage = task_stage(config.recipe.name)
    if not ledger.count("drafts", f"kept AND stage = '{stage}'"):
        return []
    return export(ledger, stage, config.formats, folder, config.export, notice=notice)
