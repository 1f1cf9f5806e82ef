"""What a run is told: seeds, prompts and settings, read, checked and filled in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from selfinstruct.backends.flow.capacity import BATCH, ORDERED, SLOTS
from selfinstruct.errors import ConfigError, SourceError
from selfinstruct.filters import resolve as resolve_filter
from selfinstruct.inputs.config import (
    OTHER_DOORS,
    BackendConfig,
    Dialect,
    RecipeConfig,
    RoleConfig,
    RunConfig,
    dialect_of,
    filled_role,
    merge,
    models_of,
)
from selfinstruct.inputs.prompts import read_texts
from selfinstruct.inputs.resources import find
from selfinstruct.inputs.rows import OnBad
from selfinstruct.inputs.seeds import load_seeds
from selfinstruct.recipes.chain import Chain, Link
from selfinstruct.recipes.configured import stored
from selfinstruct.records import WRITER, Sample, Seed
from selfinstruct.store.ledger import NAME as LEDGER
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lineage import origins

Model = TypeVar("Model", bound=BackendConfig)
FOREIGN_SHARE = 0.005
"""Share of letters outside ASCII in the seeds' instructions from which on words of any script are compared."""


def ignore(place: str, problem: str) -> None:
    """An `OnBad` that says nothing."""


class Told(NamedTuple):
    """All that a run is told, read, checked and filled in."""

    config: RunConfig
    chain: Chain
    """The recipes, which have their prompts."""
    seeds: list[Seed]
    prompts: dict[str, str]
    """The text of each prompt, by its name in the run."""

    @classmethod
    def stored(cls, ledger: Ledger) -> Told:
        """What a run was begun with, with its present target."""
        config, chain = stored(ledger)
        told = cls(config, chain, ledger.seeds(), ledger.prompts())
        chain.open(told.prompts, config)
        return told


def read(config: RunConfig, model: str = "", on_bad: OnBad = ignore) -> Told:
    """Read seeds and prompts, and fill in every setting that was left open.

    Args:
        model: the writer's name where its backend has already said it; its dialect follows from it.
        on_bad: is told of rows of a source that were passed over.

    Raises:
        ConfigError, SourceError, PromptError: something is missing, wrong or contradictory.
    """
    chain = Chain.of(config)
    seeds = source(chain, Path(config.seeds) if config.seeds else find("seeds/tasks.jsonl"), on_bad)
    config = resolve(config, chain, seeds, model)
    told = Told(config, chain, seeds, prompts_of(config, chain, Path(config.prompts) if config.prompts else None))
    # A recipe may refuse what its prompts say of themselves: better before anything is begun.
    chain.open(told.prompts, config)
    return told


def source(chain: Chain, path: Path, on_bad: OnBad = ignore) -> list[Seed]:
    """The seeds in a file or folder as the first recipe takes them; of a run the tasks that it kept.

    A recipe that goes through a source once passes over a row that is no task; of seeds, which shape all that is made
    from them, none may be wrong.

    Raises:
        SourceError: the file cannot be read, a row is no seed, there are too few, or the run has kept nothing.
        RunError: the run cannot be read.
    """
    if (path / LEDGER).is_file():
        seeds = _tasks_of(path)
    else:
        seeds = load_seeds(path, None if chain.first.recipe.samples() else on_bad)
    return chain.take(seeds, str(path))


def _tasks_of(path: Path) -> list[Seed]:
    """The tasks that a run kept; where they take the place of their sources, those that live: nothing that was kept has
    been made from them. Of a run of one recipe its sources are among them, since it goes on with them; of a chain only
    what the last recipe made, as in its exports."""
    with Ledger.open(path) as ledger:
        chain = stored(ledger).chain
        kept: list[Seed | Sample] = list(ledger.samples(stage=chain.task_stage))
        gone: set[str] = set()
        if kept and chain.last.recipe.replaces:
            made_from = origins(ledger, chain.task_stage, _before(chain))
            gone = {made_from[task.id] for task in kept if task.id in made_from}
            kept = kept if _before(chain) else [*ledger.seeds(), *kept]
    live = [_seed_of(path.resolve().name, task) for task in kept if task.id not in gone]
    if not live:
        raise SourceError(f"{path}: this run has kept no task yet; continue it first")
    return live


def _before(chain: Chain) -> str:
    """The stage whose tasks the last recipe goes on with; "" where those are the run's seeds."""
    return chain.links[-2].last if len(chain.links) > 1 else ""


def _seed_of(run: str, task: Seed | Sample) -> Seed:
    """A task of another run as a seed of this one; its id names the run, for ids of drafts are alike in all runs."""
    family = f"{run}/{task.family}" if task.family else ""
    return Seed(id=f"{run}/{task.id}", instruction=task.instruction, instances=task.instances, family=family)


def prompts_of(config: RunConfig, chain: Chain, folder: Path | None) -> dict[str, str]:
    """The text of each prompt that a resolved configuration asks for, in the dialect of the role that is asked with it.

    Raises:
        PromptError, ConfigError: see `read_texts`.
    """
    texts: dict[str, str] = {}
    for name, (recipe, own, role) in chain.prompts.items():
        dialect = models_of(config, role)[0].dialect
        assert dialect is not None
        texts[name] = read_texts(recipe.name, [own], dialect, folder, recipe.front, recipe.home)[own]
    return texts


def resolve(config: RunConfig, chain: Chain, seeds: Sequence[Seed], model: str = "") -> RunConfig:
    """The configuration with every default filled in: what lies in the run's folder and can be run again."""
    backend = config.backend
    dialect = backend.dialect or dialect_of(backend.kind, model or backend.model)
    roles = {role: _resolved_role(config, chain, role, dialect) for role in config.roles}
    filled: dict[str, Any] = {
        "n": config.n or chain.first.recipe.target,
        "recipe": _filled(chain.first),
        "then": tuple(map(_filled, chain.links[1:])),
        "backend": _resolved(backend, dialect),
        "roles": roles,
        "filters": _filters(config, chain, seeds),
    }
    resolved = config.model_copy(update=filled)
    writers = models_of(resolved, WRITER)
    for link in chain.links:
        _check_strict(link, writers[0])
    _check_other_doors(resolved, chain)
    for models in (writers, *roles.values()):
        _check_structured(models)
    window = (config.window or sum(map(_window, writers))) if config.ordered else None
    return resolved.model_copy(update={"window": window})


def _resolved_role(config: RunConfig, chain: Chain, role: str, writers: Dialect) -> tuple[RoleConfig, ...]:
    """The models of a role; all are asked in one dialect, for a prompt is read once.

    Raises:
        ConfigError: no recipe asks the role, or its models want different dialects.
    """
    if role not in (WRITER, *chain.doors):
        asked = ", ".join(door for door in chain.doors if door not in OTHER_DOORS)
        ask = f"{' and '.join(config.recipes)} {'ask' if config.then else 'asks'}"
        raise ConfigError(f"roles.{role}: {ask} no {role}, but {asked}; leave it out")
    models = [
        _resolved(model, model.dialect or (dialect_of(model.kind, model.model) if model.model else writers))
        for model in filled_role(config, role)
    ]
    if len({(model.dialect, model.structured) for model in models}) > 1:
        raise ConfigError(f"roles.{role}: its models are asked in one way; give all the same dialect and structured")
    return tuple(models)


def _check_other_doors(config: RunConfig, chain: Chain) -> None:
    """Refuse a recipe that runs programs or calls tools where none are configured, and the other way round."""
    for door, told, does in (("sandbox", config.sandbox, "runs programs"), ("tools", config.tools, "calls tools")):
        asking = [link.recipe.name for link in chain.links if any(door in stage.doors for stage in link.stages)]
        if asking and told is None:
            raise ConfigError(f"{door}: {asking[0]} {does}; name a kind, with {door}.kind")
        if told is not None and not asking:
            raise ConfigError(f"{door}: no recipe of this run {does}; leave it out")


def _check_strict(link: Link, writer: BackendConfig) -> None:
    recipe = link.recipe
    if not recipe.options.strict or writer.dialect == recipe.published:
        return
    if recipe.published is None:
        raise ConfigError(f"recipe.strict: nothing was published that {recipe.name} could follow; leave strict out")
    assert writer.dialect is not None
    asks = {"completion": "reads completions", "chat": "asks in chat"}
    raise ConfigError(
        f"recipe.strict: the published code {asks[recipe.published]}, but {writer.model or 'this model'} "
        f"{_ASKED[writer.dialect]}; add --dialect {recipe.published}, or leave strict out"
    )


def _check_structured(models: Sequence[BackendConfig]) -> None:
    for model in models:
        if model.structured and model.dialect == "completion":
            raise ConfigError(
                f"backend.structured: needs the chat dialect, but {model.model or 'this model'} takes completions; "
                "add --dialect chat"
            )


_ASKED: dict[Dialect, str] = {"chat": "is asked in chat", "completion": "takes completions"}


def _window(backend: BackendConfig) -> int:
    """Jobs that an ordered run may be ahead, where nothing is said."""
    return 8 * (backend.concurrency or (BATCH if backend.batch else SLOTS.get(backend.kind, ORDERED)))


def _filled(link: Link) -> RecipeConfig:
    """A recipe with all of its options."""
    options = link.recipe.options.model_dump(mode="json", exclude_none=True)
    return RecipeConfig(name=link.recipe.name, **options)


def _resolved(backend: Model, dialect: Dialect) -> Model:
    extra = dict(backend.extra)
    if backend.kind == "vllm" and dialect == "chat":
        # Models that think before they answer would spend the whole answer on it; others do not know the word.
        extra.setdefault("chat_template_kwargs", {"enable_thinking": False})
    return backend.model_copy(update={"dialect": dialect, "extra": extra})


def _filters(config: RunConfig, chain: Chain, seeds: Sequence[Seed]) -> dict[str, Any]:
    defaults = chain.filter_defaults
    strict = any(link.recipe.options.strict for link in chain.links)
    if not strict and _foreign_share(seeds) > FOREIGN_SHARE:
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
