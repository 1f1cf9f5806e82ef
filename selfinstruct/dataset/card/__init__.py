"""The card of a dataset: a README.md told from the ledger alone.

What is not recorded is said to be unknown. Keys and their names, addresses, host names and folders never appear
(`public`), and nothing that a model wrote is active (`markdown`). The licence is the person's to choose; without one
the card says that there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, Self

from selfinstruct.dataset.card import public
from selfinstruct.dataset.card.languages import Languages, detect
from selfinstruct.dataset.card.markdown import Markdown, block, code, plain, render
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import BackendConfig, RunConfig, Tree, doors_of, dump, is_local, models_of
from selfinstruct.inputs.prices import cost, costs, prices_of
from selfinstruct.inputs.prompts import compile_texts
from selfinstruct.inputs.resources import shipped
from selfinstruct.recipes.base import SamplingOptions
from selfinstruct.recipes.chain import Chain, PromptFile
from selfinstruct.recipes.configured import stored
from selfinstruct.records import WRITER, Sample
from selfinstruct.store import readings
from selfinstruct.store.ledger import FILTERED_FROM, Ledger
from selfinstruct.text.display import bill, money, one_line

MARK = "selfinstruct"
"""The key of ours in the front matter: of which run the dataset is, and which configurations are ours."""
DETECTED = 1000
"""Instructions whose language is detected."""
SHOWN = 3
"""Samples shown."""
LONG = 400
"""Characters after which a text of a sample is cut."""
VALUES = 50
"""Values of a facet that are listed."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""The Hub's names for numbers of examples, each with what it is below."""


class Licence(NamedTuple):
    """The licence that the person chose; "" when none."""

    id: str = ""
    """As the Hub knows it, such as `cc-by-4.0`; `other` has a name, and a link to its text."""
    name: str = ""
    link: str = ""

    @classmethod
    def chosen(cls, id: str, name: str, link: str) -> Self:
        """The licence of these options.

        Raises:
            ConfigError: `other` without a name, or a name or a link without `other`.
        """
        if id == "other" and not name:
            raise ConfigError("--license other needs a name: add --license-name, and --license-link to its text")
        if id != "other" and (name or link):
            raise ConfigError("--license-name and --license-link go with --license other: add it, or leave them out")
        return cls(id, name, link)


NO_LICENCE = Licence()


def card(ledger: Ledger, *, title: str, configs: Mapping[str, Sequence[str]], licence: Licence = NO_LICENCE) -> str:
    """The card of a run's dataset: Markdown with front matter in YAML.

    Args:
        title: what the dataset is called.
        configs: the splits of each configuration, the default one first; their files are where `files` says.

    Raises:
        RunError: the ledger cannot be read.
    """
    config, chain = stored(ledger)
    stage = chain.task_stage
    tasks, instances = readings.sizes(ledger, stage)
    told = ledger.instructions(readings.drawn(ledger, stage, DETECTED))
    languages = detect([*told.values()])
    return render(
        Path(__file__).with_name("card.md"),
        front=Markdown(_front(ledger, config, title, configs, licence, languages, instances)),
        title=plain(title),
        config=config,
        languages=languages,
        licence=licence,
        instances=instances,
        tasks=tasks,
        kept=readings.kept(ledger, stage),
        target=ledger.target(),
        filtered=ledger.fact(FILTERED_FROM),
        seeds=ledger.count("seeds"),
        seeds_file=config.seeds and PureWindowsPath(config.seeds).name,
        samples=_json([_shown(sample) for sample in _samples(ledger, stage)]),
        **_kinds(ledger, stage),
        **_answering(ledger, config, chain),
        **_telling(ledger, config, chain),
    )


def files(config: str, split: str) -> str:
    """Where the files of one split of a configuration lie, as the Hub and `datasets` read it."""
    return f"{config}/{split}-*"


def begun(ledger: Ledger) -> str:
    """The moment in which a run was begun, to the microsecond: what tells it from every other run."""
    return datetime.fromtimestamp(readings.lasted(ledger)[0], UTC).isoformat()


def _front(
    ledger: Ledger,
    config: RunConfig,
    title: str,
    configs: Mapping[str, Sequence[str]],
    licence: Licence,
    languages: Languages,
    rows: int,
) -> str:
    from huggingface_hub import DatasetCardData

    data: dict[str, Any] = {
        "pretty_name": one_line(title),
        "language": list(languages.shares) or None,
        "license": licence.id or None,
        "license_name": licence.name or None,
        "license_link": licence.link or None,
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "size_categories": [next((size for limit, size in SIZES if rows < limit), "10M<n<100M")],
        "source_datasets": ["extended|other" if config.seeds else "original"],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", *_recipes(config), "instruction-tuning", "selfinstruct"],
        "configs": _configs(configs),
        MARK: {"version": version("selfinstruct"), "run": begun(ledger), "configs": list(configs)},
    }
    return DatasetCardData(**data).to_yaml()


def _recipes(config: RunConfig) -> list[str]:
    """The names of the run's recipes, each once."""
    return list(dict.fromkeys(config.recipes))


def _configs(configs: Mapping[str, Sequence[str]]) -> list[Tree]:
    told: list[Tree] = [
        {"config_name": name, "data_files": [{"split": split, "path": files(name, split)} for split in splits]}
        for name, splits in configs.items()
    ]
    return [one | ({"default": True} if one is told[0] else {}) for one in told]


# -- from the drafts --------------------------------------------------------------------------------------------------


def _kinds(ledger: Ledger, stage: str) -> Tree:
    """What kinds of tasks there are: by facet, by family, by the tools that they offer."""
    facets, families = readings.facets(ledger, stage), readings.families(ledger, stage)
    return {
        "facets": {name: (list(values.items())[:VALUES], len(values)) for name, values in facets.items()},
        "families": families if families < readings.kept(ledger, stage) else None,
        "tools": readings.tools(ledger, stage),
    }


def _samples(ledger: Ledger, stage: str) -> Iterator[Sample]:
    """Some tasks as they are in the dataset; those that a person dropped are not."""
    return ledger.samples(ids=readings.drawn(ledger, stage, SHOWN))


def _shown(sample: Sample) -> Tree:
    told = {"instruction": sample.instruction, "instances": [instance.fields() for instance in sample.instances]}
    return dict(_cut({"system": sample.system, **told} if sample.system else told))


def _json(value: Any) -> Markdown:
    return block("json", json.dumps(value, ensure_ascii=False, indent=2))


def _cut(value: Any) -> Any:
    """A text cut where it is long; of lists and objects, every text in them."""
    if isinstance(value, str):
        return value if len(value) <= LONG else value[:LONG] + "…"
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    return [_cut(inner) for inner in value] if isinstance(value, list) else value


# -- from the answers -------------------------------------------------------------------------------------------------


def _answering(ledger: Ledger, config: RunConfig, chain: Chain) -> Tree:
    """Who answered, how they were asked, and what it took."""
    told = readings.summary(ledger)
    prices = prices_of(config, ledger.models())
    spent = {role: meter.spent for role, meter in told.meter.items()}
    dollars, each = cost(prices, spent.items()), costs(prices, spent.items())
    several = len(doors_of(config)) > 1
    models = [_answerer(door, model, told, each) for door, model in ledger.models().items()]
    return {
        "told": told,
        "models": models,
        "several": several,
        "served": _served(told.spend, next((one.model for one in models if one.door == WRITER), "")),
        "unpriced": [one.model or one.door for one in models if several and each.get(one.key, 0.0) is None],
        "revision": _revision(config.backend),
        "host": _host(config.backend),
        "dates": _dates(ledger),
        "dollars": Markdown(money(dollars)) if dollars else dollars,
        "listed": all(one.price_in is None for one in doors_of(config).values()),
        "parameters": list(SamplingOptions.model_fields),
        "sampling": _sampling(chain),
    }


class Answerer(NamedTuple):
    """A model of the run, and what its answers took."""

    key: str
    """Its name in the run."""
    door: str
    """The same as others may read it."""
    model: str
    served: list[str]
    """What else it was called in its answers."""
    prompt_tokens: int
    completion_tokens: int
    bill: Markdown


def _answerer(key: str, model: str, told: readings.Summary, dollars: Mapping[str, float | None]) -> Answerer:
    role, _, drawn = key.partition(":")
    spend = [one for one in told.spend if one.role == key]
    return Answerer(
        key,
        f"{role}:{public.name(drawn)}" if drawn else role,
        public.name(model),
        _served(spend, public.name(model)),
        sum(one.prompt_tokens for one in spend),
        sum(one.completion_tokens for one in spend),
        Markdown(bill(dollars.get(key, 0.0))),
    )


def _served(spend: Sequence[readings.Spend], model: str) -> list[str]:
    """What the answers name their model, other than by its name in the run."""
    return sorted({public.name(one.model) for one in spend} - {model, ""})


def _revision(backend: BackendConfig) -> str | None:
    """The revision of the weights that a server of ours was told to load."""
    words = " ".join(backend.server_args).replace("=", " ").split()
    named = [value for option, value in pairwise(words) if option == "--revision"]
    return public.name(named[-1]) if named else None


def _host(backend: BackendConfig) -> str:
    """The kind of host that answered, and nothing that says which."""
    if backend.kind in ("vllm", "openai") and backend.urls:
        return "local" if all(map(is_local, backend.urls)) else "hosted"
    kinds = {"llamacpp": "embedded", "scripted": "scripted", "vllm": "started", "openai": "openai"}
    return kinds.get(backend.kind, "other")


def _dates(ledger: Ledger) -> list[Markdown]:
    """When the first answer came, and the last."""
    times = (datetime.fromtimestamp(at, UTC) for at in readings.answering(ledger) or ())
    return [Markdown(f"{time:%Y-%m-%d %H:%M} UTC") for time in times]


def _sampling(chain: Chain) -> dict[str, Tree]:
    """What is asked for in each table of sampling that the recipes have."""
    return {
        f"{link.prefix}{name}": dump(value)
        for link in chain.links
        for name, value in link.recipe.options
        if isinstance(value, SamplingOptions)
    }


# -- from what the run was told ---------------------------------------------------------------------------------------


def _telling(ledger: Ledger, config: RunConfig, chain: Chain) -> Tree:
    import tomli_w

    return {
        "recipes": Markdown(", then ".join(map(code, config.recipes))),
        "prompts": [
            _prompt(name, text, chain.prompts[name], config)
            for name, text in ledger.prompts().items()
            if name in chain.prompts
        ],
        "settings": block("toml", tomli_w.dumps(public.settings(config))),
        "began_with": ledger.fact("version") or "",
        "written_by": version("selfinstruct"),
    }


def _prompt(name: str, text: str, file: PromptFile, config: RunConfig) -> Tree:
    """A prompt with its text where that ships with us: of a person's own only what it is for."""
    front = compile_texts({file.name: text}, file.recipe.front)[file.name].front
    dialect = models_of(config, file.role)[0].dialect
    ours = shipped(f"prompts/{file.recipe.name}/{file.name}.{dialect}.md", file.recipe.home)
    as_shipped = ours is not None and ours.read_text(encoding="utf-8") == text
    return {
        "name": name,
        "purpose": plain(front.purpose),
        "source": plain(front.source.rstrip(".")),
        "digest": sha256(text.encode()).hexdigest(),
        "text": block("jinja", text) if as_shipped else None,
    }
