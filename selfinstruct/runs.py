"""A run: how it is begun, how it is opened again, and its state in memory, which all derives from the ledger.

`RunState` is the pure middle of the flow: it plans from the pool, judges drafts one by one and lets the kept ones
join. It asks no model and writes nothing. The engine drives it with answers from a model, `replay` with answers from
the ledger.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from selfinstruct.backends.flow.capacity import BATCH, ORDERED, SLOTS
from selfinstruct.errors import ConfigError, RunError, SourceError
from selfinstruct.filters import open_filter
from selfinstruct.filters import resolve as resolve_filter
from selfinstruct.inputs.config import (
    MAY_CHANGE,
    BackendConfig,
    Dialect,
    RecipeConfig,
    RunConfig,
    build,
    dialect_of,
    differences,
    dump,
    judge_of,
    merge,
)
from selfinstruct.inputs.prompts import compile_texts, read_texts
from selfinstruct.inputs.resources import find
from selfinstruct.inputs.rows import OnBad
from selfinstruct.inputs.seeds import load_seeds
from selfinstruct.recipes import module_of, open_recipe, options_of, task_stage
from selfinstruct.recipes.base import Setting
from selfinstruct.recipes.configured import stored_config
from selfinstruct.recipes.pool import Pool
from selfinstruct.records import SEED_STAGE, Draft, Job, Outcome, Reason, Sample, Seed, Verdict
from selfinstruct.store.ledger import NAME as LEDGER
from selfinstruct.store.ledger import Ledger, number_jobs
from selfinstruct.store.summary import kept, rooted

FOREIGN_SHARE = 0.005
"""Share of letters outside ASCII in the seeds' instructions from which on words of any script are compared."""


# -- beginning and opening --------------------------------------------------------------------------------------------


def ignore(place: str, problem: str) -> None:
    """An `OnBad` that says nothing."""


class Told(NamedTuple):
    """All that a run is told, read and checked: what `begin` writes down."""

    config: RunConfig
    seeds: list[Seed]
    prompts: dict[str, str]


def read(config: RunConfig, model: str = "", on_bad: OnBad = ignore) -> Told:
    """Read seeds and prompts, and fill in every setting that was left open.

    Args:
        model: the model's name where the backend has already said it; its dialect follows from it.
        on_bad: is told of rows of a source to be evolved that were passed over.

    Raises:
        ConfigError, SourceError, PromptError: something is missing, wrong or contradictory.
    """
    path = Path(config.seeds) if config.seeds else find("seeds/tasks.jsonl")
    seeds = source(config.recipe, path, on_bad)
    config = resolve(config, seeds, model)
    told = Told(config, seeds, prompts_of(config, Path(config.prompts) if config.prompts else None))
    # A recipe may refuse what its prompts say of themselves: better before anything is begun.
    open_recipe(config.recipe, Setting.of(compile_texts(told.prompts), config))
    return told


def source(recipe: RecipeConfig, path: Path, on_bad: OnBad = ignore) -> list[Seed]:
    """The seeds in a file or folder as a recipe takes them; of a run the tasks that it kept.

    A recipe that goes through a source once passes over a row that is no task; of seeds, which shape all that is made
    from them, none may be wrong.

    Raises:
        SourceError: the file cannot be read, a row is no seed, there are too few, or the run has kept nothing.
        RunError: the run cannot be read.
    """
    module = module_of(recipe.name)
    if (path / LEDGER).is_file():
        seeds = _tasks_of(path)
    else:
        seeds = load_seeds(path, on_bad if module.TARGET is None else None)
    return list(module.take(options_of(recipe), seeds, path))


def _tasks_of(path: Path) -> list[Seed]:
    """The tasks that a run kept; of an evolution those that live: nothing that was kept has been evolved from them."""
    with Ledger.open(path) as ledger:
        stage = task_stage(stored_config(ledger).recipe.name)
        kept = list(ledger.samples("d.stage = ?", stage))
        parents = {sample.meta.get("parent") for sample in kept} - {None}
        tasks: list[Seed | Sample] = [*(ledger.seeds() if parents else ()), *kept]
    live = [_seed_of(path.resolve().name, task) for task in tasks if task.id not in parents]
    if not live:
        raise SourceError(f"{path}: this run has kept no task yet; continue it first")
    return live


def _seed_of(run: str, task: Seed | Sample) -> Seed:
    """A task of another run as a seed of this one; its id names the run, for ids of drafts are alike in all runs."""
    return Seed(id=f"{run}/{task.id}", instruction=task.instruction, instances=task.instances)


def prompts_of(config: RunConfig, folder: Path | None) -> dict[str, str]:
    """The text of each prompt that a resolved configuration asks for, those of the judge in its dialect.

    Raises:
        PromptError, ConfigError: see `read_texts`.
    """
    module, recipe = module_of(config.recipe.name), config.recipe.name
    judge = judge_of(config) or config.backend
    names = module.prompts(options_of(config.recipe))
    assert config.backend.dialect is not None
    assert judge.dialect is not None
    judging = [name for name in names if name in module.JUDGE_PROMPTS]
    writing = [name for name in names if name not in module.JUDGE_PROMPTS]
    texts = read_texts(recipe, writing, config.backend.dialect, folder)
    return texts | read_texts(recipe, judging, judge.dialect, folder)


def resolve(config: RunConfig, seeds: Sequence[Seed], model: str = "") -> RunConfig:
    """The configuration with every default filled in: what lies in the run's folder and can be run again."""
    backend = config.backend
    dialect = backend.dialect or dialect_of(backend.kind, model or backend.model)
    options, module = options_of(config.recipe), module_of(config.recipe.name)
    judge = judge_of(config)
    if judge is not None and not set(module.JUDGE_PROMPTS) & set(module.prompts(options)):
        raise ConfigError(f"judge: the recipe {config.recipe.name} asks no judge; leave it out")
    filled = {
        "n": config.n or module.TARGET,
        "recipe": _filled(config.recipe),
        "window": (config.window or _window(backend)) if config.ordered else None,
        "backend": _resolved(backend, dialect),
        "judge": judge and _resolved(judge, judge.dialect or dialect_of(judge.kind, judge.model)),
        "filters": _filters(config, seeds),
    }
    name = backend.model or "this model"
    if options.strict and dialect != module.PUBLISHED_DIALECT:
        asks = {"completion": "reads completions", "chat": "asks in chat"}
        raise ConfigError(
            f"recipe.strict: the published code {asks[module.PUBLISHED_DIALECT]}, but {name} {_ASKED[dialect]}; "
            f"add --dialect {module.PUBLISHED_DIALECT}, or leave strict out"
        )
    if backend.structured and dialect == "completion":
        raise ConfigError(
            f"backend.structured: needs the chat dialect, but {name} takes completions; add --dialect chat"
        )
    return config.model_copy(update=filled)


_ASKED: dict[Dialect, str] = {"chat": "is asked in chat", "completion": "takes completions"}


def _window(backend: BackendConfig) -> int:
    """Jobs that an ordered run may be ahead, where nothing is said."""
    return 8 * (backend.concurrency or (BATCH if backend.batch else SLOTS.get(backend.kind, ORDERED)))


def _filled(recipe: RecipeConfig) -> RecipeConfig:
    """A recipe with all of its options."""
    return RecipeConfig(name=recipe.name, **options_of(recipe).model_dump(mode="json", exclude_none=True))


def _resolved(backend: BackendConfig, dialect: Dialect) -> BackendConfig:
    extra = dict(backend.extra)
    if backend.kind == "vllm" and dialect == "chat":
        # Models that think before they answer would spend the whole answer on it; others do not know the word.
        extra.setdefault("chat_template_kwargs", {"enable_thinking": False})
    return backend.model_copy(update={"dialect": dialect, "extra": extra})


def _filters(config: RunConfig, seeds: Sequence[Seed]) -> dict[str, Any]:
    options = options_of(config.recipe)
    defaults = module_of(config.recipe.name).filter_defaults(options)
    if not options.strict and _foreign_share(seeds) > FOREIGN_SHARE:
        for name, setting in (("rouge", {"tokenizer": "unicode"}), ("validity", {"words": "unicode"})):
            if name in defaults:
                defaults[name] = merge(setting, defaults[name])
    return {name: resolve_filter(name, settings) for name, settings in merge(defaults, config.filters).items()}


def _foreign_share(seeds: Iterable[Seed]) -> float:
    letters = foreign = 0
    for seed in seeds:
        letters += sum(map(str.isalpha, seed.instruction))
        if not seed.instruction.isascii():
            foreign += sum(char.isalpha() and not char.isascii() for char in seed.instruction)
    return foreign / max(1, letters)


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
