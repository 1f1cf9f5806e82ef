"""What a run is told: seeds, prompts and settings, read, checked and filled in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfinstruct.backends.flow.capacity import BATCH, ORDERED, SLOTS
from selfinstruct.errors import ConfigError, SourceError
from selfinstruct.filters import resolve as resolve_filter
from selfinstruct.inputs.config import BackendConfig, Dialect, RecipeConfig, RunConfig, dialect_of, judge_of, merge
from selfinstruct.inputs.prompts import compile_texts, read_texts
from selfinstruct.inputs.resources import find
from selfinstruct.inputs.rows import OnBad
from selfinstruct.inputs.seeds import load_seeds
from selfinstruct.recipes import module_of, open_recipe, options_of, task_stage
from selfinstruct.recipes.base import Setting
from selfinstruct.recipes.configured import stored_config
from selfinstruct.records import Sample, Seed
from selfinstruct.store.ledger import NAME as LEDGER
from selfinstruct.store.ledger import Ledger

FOREIGN_SHARE = 0.005
"""Share of letters outside ASCII in the seeds' instructions from which on words of any script are compared."""


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
