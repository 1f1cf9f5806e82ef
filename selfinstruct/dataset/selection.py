"""Which samples of a run are exported: all of its tasks, or those that have some values of its facets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from selfinstruct.dataset.exports.base import complete
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import ExportConfig
from selfinstruct.records import SEED_STAGE, Sample, Seed
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import facets, kept


class Selection:
    """The samples that the options choose: source rows in their order, then the others in that of settlement.

    Raises:
        ConfigError: a facet is asked for, or a value of one, that nothing kept has; or source rows of a run whose
            tasks were made from none.
        RunError: nothing is kept yet.
    """

    def __init__(self, ledger: Ledger, stage: str, options: ExportConfig) -> None:
        self._ledger = ledger
        self._stage = stage
        self._options = options
        if not kept(ledger, stage):
            raise RunError(f"{ledger.path.parent}: nothing is kept yet, so there is nothing to export")
        self.facets = facets(ledger, stage)
        """Those that the tasks of the run have, with how many have each value."""
        self.grown = ledger.has_families(stage)
        """Whether its tasks were made from source rows, or otherwise belong together."""
        self._check()

    def __iter__(self) -> Iterator[Sample]:
        yield from self._sources()
        chosen, parents = self._options.facets, self._options.parents
        yield from self._ledger.samples(stage=self._stage, facets=chosen, parents=parents)

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
                rows[family(sample)] += count
        wanted = share if isinstance(share, int) else max(1, round(share * rows.total()))
        chosen = frozenset(_drawn(rows, wanted, self._options.split_seed))
        if len(chosen) == len(rows):
            what = f"{rows.total()} rows of {len(rows)} {'families' if self.grown else 'tasks'}"
            raise RunError(f"validation = {share}: takes all there is, {what}; ask for fewer, or leave it out")
        return chosen

    def _check(self) -> None:
        folder = self._ledger.path.parent
        for name, values in self._options.facets.items():
            if name not in self.facets:
                known = ", ".join(self.facets) or "none"
                raise ConfigError(f"{folder}: its tasks have no facet {name!r}; there are: {known}")
            if missing := [value for value in values if value not in self.facets[name]]:
                known = ", ".join(self.facets[name])
                raise ConfigError(f"{folder}: nothing is kept of {name} {missing[0]!r}; there are: {known}")
        if (self._options.parents or self._options.sources) and not self.grown:
            raise ConfigError(f"{folder}: its tasks were not made from source rows; leave out --parents and --sources")

    def _sources(self) -> Iterator[Sample]:
        """The source rows that are chosen."""
        if not (self._options.sources or self._options.parents):
            return
        wanted = None if self._options.sources else self._ledger.sources(self._stage, self._options.facets)
        for seed in self._ledger.seeds():
            if wanted is None or seed.id in wanted:
                yield _source(seed)


def family(sample: Sample) -> str:
    """What a sample must not be parted from in a split; itself where it has no family."""
    return sample.family or sample.id


def _drawn(rows: Counter[str], wanted: int, seed: int) -> Iterator[str]:
    """Families until they have that many rows, in an order that depends on nothing but the seed and their names.

    So a run that has grown keeps most of what was set aside before.
    """
    there = 0
    for name in sorted(rows, key=lambda name: hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()):
        if there >= wanted:
            return
        there += rows[name]
        yield name


def _source(seed: Seed) -> Sample:
    meta = {"is_classification": seed.is_classification, "category": seed.category}
    return Sample(
        id=seed.id,
        stage=SEED_STAGE,
        instruction=seed.instruction,
        instances=seed.instances,
        meta=meta,
        family=seed.family or seed.id,
    )
