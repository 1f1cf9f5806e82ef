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
from random import Random
from typing import Any, NamedTuple, Self

from selfinstruct.dataset.card import public
from selfinstruct.dataset.card.languages import Languages, detect
from selfinstruct.dataset.card.markdown import Markdown, block, plain, render
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import BackendConfig, RunConfig, Tree, doors_of, dump, is_local
from selfinstruct.inputs.prices import cost, prices_of
from selfinstruct.inputs.prompts import compile_texts
from selfinstruct.inputs.resources import shipped
from selfinstruct.recipes import open as open_recipe
from selfinstruct.recipes.base import SamplingOptions
from selfinstruct.recipes.configured import stored
from selfinstruct.records import Sample
from selfinstruct.store.ledger import FILTERED_FROM, Ledger
from selfinstruct.store.readings import summary
from selfinstruct.text.display import money, one_line

MARK = "selfinstruct"
"""The key of ours in the front matter: of which run the dataset is, and which configurations are ours."""
DETECTED = 1000
"""Instructions whose language is detected."""
SHOWN = 3
"""Samples shown."""
LONG = 400
"""Characters after which a text of a sample is cut."""
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
    tasks, instances = _counts(ledger, stage)
    languages = detect([_instruction(ledger, rank) for rank in _drawn(ledger, stage, DETECTED)])
    return render(
        Path(__file__).with_name("card.md"),
        front=Markdown(_front(ledger, config, title, configs, licence, languages, instances)),
        title=plain(title),
        config=config,
        languages=languages,
        licence=licence,
        instances=instances,
        tasks=tasks,
        kept=ledger.count("drafts", f"stage = '{stage}' AND kept = 1"),
        target=ledger.target(),
        filtered=ledger.fact(FILTERED_FROM),
        seeds=ledger.count("seeds"),
        seeds_file=config.seeds and PureWindowsPath(config.seeds).name,
        samples=_json([_shown(sample) for sample in _samples(ledger, stage)]),
        **_answering(ledger, config),
        **_telling(ledger, config),
    )


def files(config: str, split: str) -> str:
    """Where the files of one split of a configuration lie, as the Hub and `datasets` read it."""
    return f"{config}/{split}-*"


def begun(ledger: Ledger) -> str:
    """The moment in which a run was begun, to the microsecond: what tells it from every other run."""
    [(at,)] = ledger.query("SELECT at FROM events ORDER BY seq LIMIT 1")
    return datetime.fromtimestamp(at, UTC).isoformat()


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
        "tags": ["synthetic", config.recipe.name, "instruction-tuning", "selfinstruct"],
        "configs": _configs(configs),
        MARK: {"version": version("selfinstruct"), "run": begun(ledger), "configs": list(configs)},
    }
    return DatasetCardData(**data).to_yaml()


def _configs(configs: Mapping[str, Sequence[str]]) -> list[Tree]:
    told: list[Tree] = [
        {"config_name": name, "data_files": [{"split": split, "path": files(name, split)} for split in splits]}
        for name, splits in configs.items()
    ]
    return [one | ({"default": True} if one is told[0] else {}) for one in told]


# -- from the drafts --------------------------------------------------------------------------------------------------


def _counts(ledger: Ledger, stage: str) -> tuple[int, int]:
    """Tasks and instances of the dataset; where people have reviewed, after that."""
    if ledger.count("reviews"):
        sizes = [len(sample.instances) for sample in ledger.samples("d.stage = ?", stage)]
        return len(sizes), sum(sizes)
    query = "SELECT count(*), coalesce(sum(json_array_length(stayed)), 0) FROM drafts WHERE stage = ? AND kept = 1"
    [(tasks, instances)] = ledger.query(query, stage)
    return tasks, instances


def _drawn(ledger: Ledger, stage: str, number: int) -> list[int]:
    """The ranks of so many tasks, drawn at random and the same each time; of all when there are no more."""
    tasks = "FROM drafts WHERE stage = ? AND kept = 1"
    [(low, high, kept)] = ledger.query(f"SELECT min(rank), max(rank), count(*) {tasks}", stage)
    following = f"SELECT rank {tasks} AND rank >= ? ORDER BY rank LIMIT ?"
    if kept <= number:
        return [rank for (rank,) in ledger.query(following, stage, 0, number)]
    rng, drawn = Random(0), set[int]()
    while len(drawn) < number:
        drawn.add(ledger.query(following, stage, rng.randint(low, high), 1)[0][0])
    return sorted(drawn)


def _instruction(ledger: Ledger, rank: int) -> str:
    return str(ledger.query("SELECT instruction FROM drafts WHERE rank = ?", rank)[0][0])


def _samples(ledger: Ledger, stage: str) -> Iterator[Sample]:
    """Some tasks as they are in the dataset; those that a person dropped are not."""
    for rank in _drawn(ledger, stage, SHOWN):
        yield from ledger.samples("d.rank = ?", rank)


def _shown(sample: Sample) -> Tree:
    instances = [{"input": _cut(one.input), "output": _cut(one.output)} for one in sample.instances]
    return {"instruction": _cut(sample.instruction), "instances": instances}


def _json(value: Any) -> Markdown:
    return block("json", json.dumps(value, ensure_ascii=False, indent=2))


def _cut(text: str) -> str:
    return text if len(text) <= LONG else text[:LONG] + "…"


# -- from the answers -------------------------------------------------------------------------------------------------


def _answering(ledger: Ledger, config: RunConfig) -> Tree:
    """Who answered, how they were asked, and what it took."""
    told, model = summary(ledger), ledger.models().get("writer", "")
    prices = prices_of(config, ledger.models())
    dollars = cost(prices, ((role, meter.spent) for role, meter in told.meter.items()))
    return {
        "told": told,
        "model": public.name(model),
        "served": sorted({public.name(spend.model) for spend in told.spend} - {public.name(model), ""}),
        "revision": _revision(config.backend),
        "host": _host(config.backend),
        "dates": _dates(ledger),
        "judge": public.name(ledger.models().get("judge", "")),
        "dollars": Markdown(money(dollars)) if dollars else dollars,
        "listed": all(one.price_in is None for one in doors_of(config).values()),
        "parameters": list(SamplingOptions.model_fields),
        "sampling": _sampling(config),
    }


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
    query = "SELECT at FROM answers WHERE id IN ((SELECT min(id) FROM answers), (SELECT max(id) FROM answers))"
    at = [datetime.fromtimestamp(at, UTC) for (at,) in ledger.query(query)]
    return [Markdown(f"{time:%Y-%m-%d %H:%M} UTC") for time in (min(at), max(at))] if at else []


def _sampling(config: RunConfig) -> dict[str, Tree]:
    """What is asked for in each table of sampling that the recipe has."""
    return {
        name: dump(value) for name, value in open_recipe(config.recipe).options if isinstance(value, SamplingOptions)
    }


# -- from what the run was told ---------------------------------------------------------------------------------------


def _telling(ledger: Ledger, config: RunConfig) -> Tree:
    import tomli_w

    return {
        "prompts": [_prompt(name, text, config) for name, text in ledger.prompts().items()],
        "settings": block("toml", tomli_w.dumps(public.settings(config))),
        "began_with": ledger.fact("version") or "",
        "written_by": version("selfinstruct"),
    }


def _prompt(name: str, text: str, config: RunConfig) -> Tree:
    """A prompt with its text where that ships with us: of a person's own only what it is for."""
    front = compile_texts({name: text})[name].front
    ours = shipped(f"prompts/{config.recipe.name}/{name}.{config.backend.dialect}.md")
    as_shipped = ours is not None and ours.read_text(encoding="utf-8") == text
    return {
        "name": name,
        "purpose": plain(front.purpose),
        "source": plain(front.source.rstrip(".")),
        "digest": sha256(text.encode()).hexdigest(),
        "text": block("jinja", text) if as_shipped else None,
    }
