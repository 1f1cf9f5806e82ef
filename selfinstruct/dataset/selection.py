"""Which samples of a run are exported: all of its tasks, or rounds of an evolution with their families."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from selfinstruct.dataset.exports.base import complete
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import ExportConfig
from selfinstruct.records import SEED_STAGE, Sample, Seed
from selfinstruct.store.ledger import Ledger

_ROUND = "json_extract(d.meta, '$.round')"
_FAMILY = """
WITH RECURSIVE family(id) AS (
    SELECT json_extract(d.meta, '$.parent') FROM drafts d
    WHERE d.kept AND d.stage = ?1 AND {chosen} AND json_extract(d.meta, '$.parent') <> json_extract(d.meta, '$.root')
    UNION
    SELECT json_extract(d.meta, '$.parent') FROM family f JOIN drafts d ON d.id = f.id
    WHERE d.kept AND d.stage = ?1 AND json_extract(d.meta, '$.parent') <> json_extract(d.meta, '$.root')
)
SELECT id FROM family
"""


class Selection:
    """The samples that the options choose: source rows in their order, then the others in that of settlement.

    A sample of an evolution has in its `meta` the `round` that made it, its `parent` and its `root`, the source row
    that its family began with. Source rows are the run's seeds, round 0.

    Raises:
        ConfigError: rounds are asked for, and the run is no evolution or has no such round.
        RunError: nothing is kept yet.
    """

    def __init__(self, ledger: Ledger, stage: str, options: ExportConfig) -> None:
        self._ledger = ledger
        self._stage = stage
        self._options = options
        kept = ledger.query(f"SELECT {_ROUND} FROM drafts d WHERE d.kept AND d.stage = ? LIMIT 1", stage)
        if not kept:
            raise RunError(f"{ledger.path.parent}: nothing is kept yet, so there is nothing to export")
        self.evolution = kept[0][0] is not None
        self._check()

    def __iter__(self) -> Iterator[Sample]:
        yield from self._sources()
        yield from self._ledger.samples(*self._condition())

    def family(self, sample: Sample) -> str:
        """What a sample must not be parted from: its root, of an evolution; else itself."""
        return str(sample.meta["root"]) if self.evolution else sample.id

    def held_out(self) -> frozenset[str]:
        """The families whose rows are for validation: drawn with the seed until there are as many rows as asked for.

        Raises:
            RunError: that would leave nothing to train on.
        """
        share = self._options.validation
        if share is None:
            return frozenset()
        rows: Counter[str] = Counter()
        for sample in self:
            if count := sum(1 for _ in complete(sample)):
                rows[self.family(sample)] += count
        wanted = share if isinstance(share, int) else max(1, round(share * rows.total()))
        chosen = frozenset(_drawn(rows, wanted, self._options.split_seed))
        if len(chosen) == len(rows):
            what = f"{rows.total()} rows of {len(rows)} {'families' if self.evolution else 'tasks'}"
            raise RunError(f"validation = {share}: takes all there is, {what}; ask for fewer, or leave it out")
        return chosen

    def _check(self) -> None:
        folder, asked = self._ledger.path.parent, self._options.rounds
        if not self.evolution and (asked or self._options.parents):
            raise ConfigError(f"{folder}: no evolution, so there are no rounds; leave out --round and --parents")
        if not asked:
            return
        there = {0, *(found for (found,) in self._ledger.query(
            f"SELECT DISTINCT {_ROUND} FROM drafts d WHERE d.kept AND d.stage = ?", self._stage))}  # fmt: skip
        if missing := sorted(set(asked) - there):
            known = ", ".join(map(str, sorted(there)))
            raise ConfigError(f"{folder}: nothing is kept of round {missing[0]}; there are rounds {known}")

    def _condition(self) -> tuple[Any, ...]:
        """The condition on drafts, and what its question marks stand for."""
        if not self.evolution:
            return "d.stage = ?1", self._stage
        chosen = self._chosen()
        family = f" OR d.id IN ({_FAMILY.format(chosen=chosen)})" if self._options.parents else ""
        return f"d.stage = ?1 AND ({chosen}{family})", self._stage

    def _chosen(self) -> str:
        rounds = self._options.rounds
        return f"{_ROUND} IN ({', '.join(map(str, rounds))})" if rounds else f"{_ROUND} >= 1"

    def _sources(self) -> Iterator[Sample]:
        """The source rows that are chosen."""
        if 0 in self._options.rounds:
            wanted = None
        elif self._options.parents:
            roots = "SELECT DISTINCT json_extract(d.meta, '$.root') FROM drafts d WHERE d.kept AND d.stage = ?"
            wanted = {root for (root,) in self._ledger.query(f"{roots} AND {self._chosen()}", self._stage)}
        else:
            return
        for seed in self._ledger.seeds():
            if wanted is None or seed.id in wanted:
                yield _source(seed)


def _drawn(rows: Counter[str], wanted: int, seed: int) -> Iterator[str]:
    """Families until they have that many rows, in an order that depends on nothing but the seed and their names.

    So a run that has grown keeps most of what was set aside before.
    """
    there = 0
    for family in sorted(rows, key=lambda family: hashlib.blake2b(f"{seed}:{family}".encode(), digest_size=8).digest()):
        if there >= wanted:
            return
        there += rows[family]
        yield family


def _source(seed: Seed) -> Sample:
    meta = {"is_classification": seed.is_classification, "category": seed.category, "round": 0, "root": seed.id}
    return Sample(id=seed.id, stage=SEED_STAGE, instruction=seed.instruction, instances=seed.instances, meta=meta)
