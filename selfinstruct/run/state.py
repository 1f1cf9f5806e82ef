"""A run: how it is begun, how it is opened again, and its state in memory, which all derives from the ledger.

`RunState` is the pure middle of the flow: it plans from the pool, judges drafts one by one and lets the kept ones
join. It asks no model and writes nothing. The engine drives it with answers from a model, `replay` with answers from
the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from selfinstruct.filters import open_filter
from selfinstruct.inputs.config import (
    RunConfig,
)
from selfinstruct.inputs.prompts import compile_texts
from selfinstruct.recipes import module_of, open_recipe, options_of
from selfinstruct.recipes.base import Setting
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import SEED_STAGE, Draft, Job, Outcome, Reason, Sample, Seed, Verdict
from selfinstruct.store.ledger import Ledger, number_jobs
from selfinstruct.store.readings import kept, rooted

# -- beginning and opening --------------------------------------------------------------------------------------------


# -- state ------------------------------------------------------------------------------------------------------------


class Tally:
    """How a stage has done so far, for the estimate of what its open jobs will bring."""

    def __init__(self) -> None:
        self.done = 0
        """Jobs settled or failed."""
        self.tasks = 0
        """Tasks that they kept."""
        self.follow_ups: Counter[str] = Counter()
        """Jobs that followed from them, by stage."""


class RunState:
    """Recipe, filters, pool and counts of a run, as settled.

    Args:
        config: resolved.
        seeds: the run's seeds.
        prompts: the text of each prompt.
        target: tasks to keep; None judges without a limit.
    """

    def __init__(
        self, config: RunConfig, seeds: Sequence[Seed], prompts: Mapping[str, str], target: int | None
    ) -> None:
        self.config = config
        self.recipe = open_recipe(config.recipe, Setting.of(compile_texts(prompts), config))
        self.pool = Pool(seeds, self.recipe.pooled, shows_kept=self.recipe.shows_kept)
        self.target = target
        self.tasks = 0
        """Tasks kept: samples of the recipe's last stage."""
        self.jobs = 0
        """The highest job number given."""
        self.barren = 0
        """Settled jobs in a row, up to now, that kept nothing."""
        self.tallies = {stage: Tally() for stage in self.recipe.stages}
        self._filters = {name: open_filter(name, settings) for name, settings in config.filters.items()}
        own = module_of(config.recipe.name).filter_defaults(options_of(config.recipe))
        self._further = tuple(name for name in self._filters if name not in own)
        """Filters that only the person named; they judge tasks."""
        for seed in seeds:
            self._remember(Sample(id=seed.id, stage=SEED_STAGE, instruction=seed.instruction, instances=seed.instances))

    @classmethod
    def load(cls, ledger: Ledger, config: RunConfig) -> RunState:
        """The state of a run as its ledger has it: nothing is judged again, what was kept is remembered in its
        order."""
        state = cls(config, ledger.seeds(), ledger.prompts(), ledger.target())
        for sample in ledger.joined(state.recipe.pooled):
            state._join(sample)
        state.jobs = ledger.last_job()
        state._count(ledger)
        return state

    @property
    def complete(self) -> bool:
        """Whether as many tasks are kept as were asked for."""
        return self.target is not None and self.tasks >= self.target

    @property
    def count(self) -> str:
        """How many tasks are kept, for a person."""
        return f"{self.tasks} tasks kept" if self.target is None else f"{self.tasks} of {self.target} tasks kept"

    @property
    def spent(self) -> bool:
        """Whether nothing more can be planned from the pool."""
        return self._next() is None

    @property
    def extent(self) -> int | None:
        """Jobs of the first stage that the seeds make, to the end; None where there is no end."""
        return self.recipe.extent(len(self.pool.seeds))

    @property
    def first_stage_done(self) -> int:
        """Jobs of the first stage that were settled, or failed."""
        return self.tallies[self.recipe.stages[0]].done

    def plan(self) -> Job | None:
        """The next job from the pool; its randomness comes from the run's seed and its number alone."""
        job = self._next()
        if job is not None:
            self.jobs = job.number
            self.pool.planned += 1
        return job

    def _next(self) -> Job | None:
        number = self.jobs + 1
        plan = self.recipe.plan(self.pool, Random(f"{self.config.seed}:{number}"))
        return None if plan is None else Job(number, *plan)

    def settle(self, job: Job, drafts: Sequence[Draft]) -> tuple[list[Outcome], list[Job]]:
        """Judge the drafts of a job one by one, each against the pool that the one before left, and plan what follows.

        Returns:
            an outcome for each draft, and the jobs that follow, numbered.
        """
        outcomes = [self.judge(job, position, draft) for position, draft in enumerate(drafts, start=1)]
        follow_ups = number_jobs(self.recipe.follow(job, outcomes), after=self.jobs)
        self.jobs += len(follow_ups)
        self._note(job.stage, outcomes, follow_ups)
        return outcomes, follow_ups

    def fail(self, job: Job) -> None:
        """Count a job that failed."""
        self.tallies[job.stage].done += 1

    def judge(self, job: Job, position: int, draft: Draft) -> Outcome:
        """The outcome of one draft; if it is kept it joins."""
        verdicts = tuple(self._verdicts(draft))
        id = f"{job.number}.{position}"
        if not verdicts[-1].keep:
            return Outcome(id, draft, verdicts, None)
        gone = {drop.place for verdict in verdicts for drop in verdict.instance_drops}
        stayed = tuple(instance for i, instance in enumerate(draft.instances) if i not in gone)
        sample = Sample(
            id=id,
            stage=draft.stage,
            instruction=draft.instruction,
            instances=stayed,
            meta=draft.meta,
            parent=job.parent,
        )
        if sample.stage == self.recipe.pooled:
            self._join(sample)
        if sample.stage == self.recipe.stages[-1]:
            self.tasks += 1
        return Outcome(id, draft, verdicts, sample)

    def value(self, stage: str) -> float:
        """How many tasks a job of this stage may be expected to bring, with what follows from it in later stages; a
        return to an earlier stage, another round, is not counted.

        The recipe's own expectation counts as one job, so that a stage without history has one too.
        """
        tally, expected = self.tallies[stage], self.recipe.expected[stage]
        if stage == self.recipe.stages[-1]:
            return (tally.tasks + expected) / (tally.done + 1)
        after = self.recipe.stages[self.recipe.stages.index(stage) + 1 :]
        brought = sum((tally.follow_ups[later] + expected * (later == after[0])) * self.value(later) for later in after)
        return (tally.tasks + brought) / (tally.done + 1)

    def _verdicts(self, draft: Draft) -> Iterable[Verdict]:
        if draft.flaw is not None:
            yield Verdict(filter="parse", keep=False, reason=draft.flaw)
            return
        if draft.stage == self.recipe.stages[-1] and self.complete:
            yield Verdict(filter="target", keep=False, reason=Reason.SURPLUS)
            return
        chain = self.recipe.filters(draft)
        if draft.stage == self.recipe.stages[-1]:
            chain += self._further
        if not chain:
            yield Verdict(filter="none", keep=True)
        for name in chain:
            verdict = self._filters[name].judge(draft)
            yield verdict
            if not verdict.keep:
                return

    def _join(self, sample: Sample) -> None:
        self.pool.join(sample)
        self._remember(sample)

    def _remember(self, sample: Sample) -> None:
        for filter in self._filters.values():
            filter.remember(sample)

    def _note(self, stage: str, outcomes: Sequence[Outcome], follow_ups: Sequence[Job]) -> None:
        tally, last = self.tallies[stage], self.recipe.stages[-1]
        tally.done += 1
        tally.tasks += sum(outcome.sample is not None and outcome.draft.stage == last for outcome in outcomes)
        tally.follow_ups.update(job.stage for job in follow_ups)
        self.barren = 0 if any(outcome.sample for outcome in outcomes) else self.barren + 1

    def _count(self, ledger: Ledger) -> None:
        """Fill counts and tallies, and `barren`, as `plan`, `_note` and `fail` would have."""
        last = self.recipe.stages[-1]
        self.tasks = self.tallies[last].tasks = kept(ledger, last)
        self.pool.planned = rooted(ledger)
        for stage, after, state, jobs in ledger.query("SELECT stage, after, state, jobs FROM job_counts"):
            self.tallies[stage].done += jobs if state != "planned" else 0
            if after:
                self.tallies[after].follow_ups[stage] += jobs
        self.barren = ledger.barren()
