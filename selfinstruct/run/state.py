"""The state of a run in memory, which all derives from the ledger.

`RunState` is the pure middle of the flow: it plans from the pool, judges drafts one by one and lets the kept ones
join. It asks nobody and writes nothing. The engine drives it with answers from the world, `verify` with answers from
the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random

from selfinstruct.filters import open_filter
from selfinstruct.recipes.base import Ask
from selfinstruct.recipes.chain import Link
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import SEED_STAGE, Draft, Job, Outcome, Plan, Reason, Sample, Verdict
from selfinstruct.run.taper import Taper
from selfinstruct.run.told import Told
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.readings import job_counts, kept, rooted


class RunState:
    """Recipes, filters, pool and counts of a run, as settled.

    Args:
        told: all that the run was told.
        target: tasks to keep; None judges without a limit.
    """

    def __init__(self, told: Told, target: int | None) -> None:
        self.told = told
        self.config = told.config
        self.chain = told.chain
        self.task_stage = self.chain.task_stage
        """The stage whose kept drafts are the tasks."""
        first = self.chain.first
        self.pool = Pool(told.seeds, first.pooled, shows_kept=first.recipe.shows_kept)
        self.target = target
        self.tasks = 0
        """Tasks kept: samples of the last stage."""
        self.jobs = 0
        """The highest job number given."""
        self.barren = 0
        """Settled jobs in a row, up to now, that kept nothing."""
        self.taper = Taper(self.chain.stages)
        self._filters = {name: open_filter(name, settings) for name, settings in self.config.filters.items()}
        self._pooled = {link.pooled for link in self.chain.links}
        own = self.chain.filter_defaults
        self._further = tuple(name for name in self._filters if name not in own)
        """Filters that only the person named; they judge tasks."""
        self._several = {
            role: ([model.model for model in models], [model.weight for model in models])
            for role, models in self.config.roles.items()
            if len(models) > 1
        }
        """Models and weights of the roles that have several."""
        for seed in told.seeds:
            self._remember(Sample(id=seed.id, stage=SEED_STAGE, instruction=seed.instruction, instances=seed.instances))

    @classmethod
    def load(cls, ledger: Ledger, told: Told) -> RunState:
        """The state of a run as its ledger has it: nothing is judged again, what was kept is remembered in its
        order."""
        state = cls(told, ledger.target())
        for sample in ledger.joined(state._pooled):
            state._join(state.chain.link(sample.stage), sample)
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
        return self.chain.first.recipe.extent(len(self.pool.seeds))

    @property
    def first_stage_done(self) -> int:
        """Jobs of the first stage that were settled, or failed."""
        return self.taper.tallies[self.chain.stages[0].name].done

    def plan(self) -> Job | None:
        """The next job from the pool; its randomness comes from the run's seed and its number alone."""
        plan = self._next()
        if plan is None:
            return None
        self.jobs += 1
        self.pool.planned += 1
        return self._job(self.jobs, plan)

    def _next(self) -> Plan | None:
        return self.chain.first.plan(self.pool, Random(f"{self.config.seed}:{self.jobs + 1}"))

    def _job(self, number: int, plan: Plan) -> Job:
        """A plan as a numbered job, with the models that it asks where a role has several."""
        drawn = {
            role: Random(f"{self.config.seed}:{number}:{role}").choices(models, weights)[0]
            for role, (models, weights) in self._several.items()
        }
        return Job(number, *plan, drawn)

    async def perform(self, job: Job, ask: Ask) -> list[Draft]:
        """The drafts of a job, as its recipe makes them of what it asks."""
        return await self.chain.link(job.stage).perform(job, ask)

    def settle(self, job: Job, drafts: Sequence[Draft]) -> tuple[list[Outcome], list[Job]]:
        """Judge the drafts of a job one by one, each against the pool that the one before left, and plan what follows.

        Returns:
            an outcome for each draft, and the jobs that follow, numbered.
        """
        link = self.chain.link(job.stage)
        own = [self._judge(link, job, position, draft) for position, draft in enumerate(drafts, start=1)]
        outcomes = [link.named(outcome) for outcome in own]
        follow_ups: list[Job] = []
        for plan in self._following(link, job, own, outcomes):
            self.jobs += 1
            follow_ups.append(self._job(self.jobs, plan))
        self._note(job.stage, outcomes, follow_ups)
        return outcomes, follow_ups

    def _following(self, link: Link, job: Job, own: Sequence[Outcome], outcomes: Sequence[Outcome]) -> Iterator[Plan]:
        """What the recipe makes of its outcomes, then what the next one makes of each task that was kept."""
        yield from link.follow(job, own)
        for outcome in outcomes:
            if outcome.sample is not None:
                yield from self.chain.continued(link, outcome.sample, self.jobs + 1, self.config.seed)

    def fail(self, job: Job) -> None:
        """Count a job that failed."""
        self.taper.tallies[job.stage].done += 1

    def judge(self, job: Job, position: int, draft: Draft) -> Outcome:
        """The outcome of one draft as its recipe made it, under the name of its stage in the run; if it is kept it
        joins."""
        link = self.chain.link(job.stage)
        return link.named(self._judge(link, job, position, draft))

    def _judge(self, link: Link, job: Job, position: int, draft: Draft) -> Outcome:
        stage = f"{link.prefix}{draft.stage}"
        verdicts = tuple(self._verdicts(link, stage, draft))
        id = f"{job.number}.{position}"
        if not verdicts[-1].keep:
            return Outcome(id, draft, verdicts, None)
        gone = {drop.place for verdict in verdicts for drop in verdict.instance_drops}
        stayed = tuple(instance for i, instance in enumerate(draft.instances) if i not in gone)
        sample = Sample(
            id=id, stage=draft.stage, instruction=draft.instruction, instances=stayed, meta=draft.meta,
            parent=job.parent, system=draft.system, tools=draft.tools, family=draft.family, facets=draft.facets,
        )  # fmt: skip
        if stage == link.pooled:
            self._join(link, sample)
        if stage == self.task_stage:
            self.tasks += 1
        return Outcome(id, draft, verdicts, sample)

    def _verdicts(self, link: Link, stage: str, draft: Draft) -> Iterable[Verdict]:
        if draft.flaw is not None:
            yield Verdict(filter="parse", keep=False, reason=draft.flaw)
            return
        if stage == self.task_stage and self.complete:
            yield Verdict(filter="target", keep=False, reason=Reason.SURPLUS)
            return
        filters = link.filters(draft)
        if stage == self.task_stage:
            filters += self._further
        if not filters:
            yield Verdict(filter="none", keep=True)
        for name in filters:
            verdict = self._filters[name].judge(draft)
            yield verdict
            if not verdict.keep:
                return

    def _join(self, link: Link, sample: Sample) -> None:
        if link is self.chain.first:
            self.pool.join(sample)
        self._remember(sample)

    def _remember(self, sample: Sample) -> None:
        for filter in self._filters.values():
            filter.remember(sample)

    def _note(self, stage: str, outcomes: Sequence[Outcome], follow_ups: Sequence[Job]) -> None:
        tally = self.taper.tallies[stage]
        tally.done += 1
        tally.tasks += sum(
            outcome.sample is not None and outcome.draft.stage == self.task_stage for outcome in outcomes
        )
        tally.follow_ups.update(job.stage for job in follow_ups)
        self.barren = 0 if any(outcome.sample for outcome in outcomes) else self.barren + 1

    def _count(self, ledger: Ledger) -> None:
        """Fill counts and tallies, and `barren`, as `plan`, `_note` and `fail` would have."""
        last, tallies = self.task_stage, self.taper.tallies
        self.tasks = tallies[last].tasks = kept(ledger, last)
        self.pool.planned = rooted(ledger)
        for stage, after, state, jobs in job_counts(ledger):
            tallies[stage].done += jobs if state != "planned" else 0
            if after:
                tallies[after].follow_ups[stage] += jobs
        self.barren = ledger.barren()
