"""The work behind `filter` and `verify`, kept apart so that `--help` need not import it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfinstruct.dataset.files import Written, export
from selfinstruct.dataset.trainers import AXOLOTL, LLAMA_FACTORY
from selfinstruct.errors import RunError
from selfinstruct.inputs.config import RunConfig, dump
from selfinstruct.recipes import task_stage
from selfinstruct.recipes.configured import stored_config
from selfinstruct.run import loop
from selfinstruct.run.folder import write_config
from selfinstruct.run.rejudge import judge_again, other_settings
from selfinstruct.run.verify import Verifier
from selfinstruct.store.ledger import FILTERED_FROM, Ledger

SHOWN = 20
"""Differences printed by `verify`; more are counted."""


def rejudge(folder: Path, copy: Path, filters: Mapping[str, Any]) -> int:
    """A copy of a run with its drafts judged again; whole or not at all.

    Raises:
        RunError: the copy exists, or cannot be written.
        ConfigError: settings that there are not.
    """
    if copy.exists():
        raise RunError(f"{copy}: exists already; name another with --into")
    unborn = copy.with_name(f".{copy.name}.new")
    with Ledger.open(folder) as ledger:
        config = other_settings(ledger, filters)
        before = _tally(ledger)
        with _made(unborn):
            ledger.copy_to(unborn)
            after, written = _judged_again(unborn, config, source=folder)
            unborn.rename(copy)
    for key in sorted({*before, *after}, key=lambda key: (key[0], key[1] != "kept", key[1])):
        print(f"{key[0]}: {key[1]} {before.get(key, 0)} -> {after.get(key, 0)}", file=sys.stderr)
    for one in written:
        print(f"{copy / one.path.relative_to(unborn)}: {one.rows} rows")
    return 0


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A new folder; nothing of it stays if it is not finished, nor of one that was not finished before."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield
    except OSError as error:
        raise RunError(f"{folder.parent}: cannot be written: {error.strerror}; name another with --into") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged_again(copy: Path, config: RunConfig, *, source: Path) -> tuple[Tally, list[Written]]:
    with Ledger.open(copy, write=True) as ledger:
        facts = {FILTERED_FROM: str(source), "config": json.dumps(dump(config))}
        ledger.judge_again(list(judge_again(ledger, config)), facts)
        write_config(copy, config)
        return _tally(ledger), _exported(ledger, config, copy / "export")


def _exported(ledger: Ledger, config: RunConfig, folder: Path) -> list[Written]:
    """What a run writes by its own configuration."""
    stage = task_stage(config.recipe.name)
    if not ledger.count("drafts", f"kept AND stage = '{stage}'"):
        return []
    return export(ledger, stage, config.formats, folder, config.export)


Tally = dict[tuple[str, str], int]
"""Drafts by stage and what became of them."""


def _tally(ledger: Ledger) -> Tally:
    kept = ledger.query("SELECT stage, 'kept', count(*) FROM drafts WHERE kept GROUP BY 1")
    drops = ledger.query("SELECT stage, reason, count(*) FROM drops GROUP BY 1, 2")
    return {(stage, reason): count for stage, reason, count in [*kept, *drops]}


def verified(folder: Path) -> int:
    """Print what differs; 0 when nothing does."""
    with Ledger.open(folder) as ledger, ledger.snapshot():
        differences = loop.run(_differences, ledger)
        differences += _export_differences(ledger, folder / "export")
        drafts, jobs = ledger.count("drafts"), ledger.count("jobs")
    for line in differences[:SHOWN]:
        print(line)
    if len(differences) > SHOWN:
        print(f"… and {len(differences) - SHOWN} more")
    if differences:
        print(f"{folder}: {len(differences)} differences", file=sys.stderr)
        return 1
    print(f"{folder}: verified: {jobs} jobs, {drafts} drafts and the exports derive from the stored answers")
    return 0


async def _differences(ledger: Ledger) -> list[str]:
    return [line async for line in Verifier(ledger).run()]


def _export_differences(ledger: Ledger, exported: Path) -> list[str]:
    """Files of the run's formats that are not, byte for byte, what its samples give now.

    Not those that describe what was exported last, which may have been other formats.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _exported(ledger, stored_config(ledger), Path(scratch))
        derived = [path.relative_to(scratch) for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
        return [
            f"{exported / name}: not what the run's own settings give; `selfinstruct export` writes it again"
            for name in derived
            if name.name not in (AXOLOTL, LLAMA_FACTORY)
            and (exported / name).exists()
            and not _same(exported / name, Path(scratch, name))
        ]


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
