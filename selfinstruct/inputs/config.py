"""What a run is told: one tree of settings, from defaults, a TOML file, the environment and flags.

Whoever needs settings owns their model: a recipe its options, a filter its own table. What is here is the tree that
holds them, the merging, and the one place that turns a validation error into a line a person can act on.

    tree = merge(load("run.toml"), {"n": 500, "backend": {"model": "Qwen/Qwen3-8B"}})
    config = build(RunConfig, tree, where="run.toml")
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.given import DEEPEST, Problem, problems
from selfinstruct.text.secrets import masked

Tree = dict[str, Any]
Dialect = Literal["completion", "chat"]
FileType = Literal["jsonl", "json", "parquet"]
Words = Annotated[tuple[str, ...], Field(strict=False)]
"""A list in TOML, a tuple here: frozen."""
Settings = TypeVar("Settings", bound=BaseModel)
PROBLEMS = 5
"""Problems that one line names at most."""


def _one_word(value: Any) -> Any:
    """A word alone as a list of it."""
    return [value] if isinstance(value, str) else value


OTHER_DOORS = ("sandbox", "tools")
"""What else a job may ask; no role is called so."""


class Section(BaseModel):
    """A table of settings: frozen, strict about its keys and about types, so that `n = true` is not taken for 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class BackendConfig(Section):
    """Who answers, and how they are asked."""

    kind: str = "llamacpp"
    """`llamacpp`, `vllm`, `openai`, `scripted`, or the name of one that another package adds."""
    model: str = ""
    """A name the server knows, a GGUF path for `llamacpp`; "" takes the embedded weights or the one model served."""
    base_url: str | Words | None = None
    """Address of a running server, such as `http://localhost:8000/v1`; or several that serve the same model."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    dialect: Dialect | None = None
    """Which prompts to use; None lets the model decide (`dialect_of`)."""
    structured: bool = False
    """Ask for JSON by schema, where the server can hold the model to one (chat only)."""
    batch: bool = False
    """Ask in batches (`openai`): half the price, answers within a day (docs/backends.md)."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Requests in flight at most; None lets it find itself."""
    rpm: Annotated[float, Field(gt=0)] | None = None
    """Requests a minute at most; None goes by what the server says and how it refuses."""
    tpm: Annotated[float, Field(gt=0)] | None = None
    """Tokens a minute at most, prompts and answers together."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds to wait for one answer."""
    attempts: Annotated[int, Field(ge=1)] = 5
    """How often one request is tried before its job fails; rate limits are not counted."""
    server_args: Words = ()
    """Further arguments for a server that we start (`vllm`), such as `--max-model-len=4096`."""
    context: Annotated[int, Field(ge=256)] = 4096
    """Context length in tokens of a server that we start, prompt and answer together."""
    script: str | None = None
    """File of answers for `scripted`."""
    extra: dict[str, JsonValue] = {}
    """Fields added to the body of every request, such as `top_k = 20`."""
    price_in: Annotated[float, Field(ge=0)] | None = None
    """US dollars for a million tokens of prompts, with `price_out`; None takes the list price, where there is one."""
    price_out: Annotated[float, Field(ge=0)] | None = None
    """US dollars for a million tokens of answers, with `price_in`."""
    price_cached: Annotated[float, Field(ge=0)] | None = None
    """US dollars for a million tokens of prompts that the server has cached; None: as `price_in`."""

    @field_validator("base_url", mode="after")
    @classmethod
    def _one_address(cls, value: str | Words | None) -> str | Words | None:
        """An address alone is no list."""
        return value if isinstance(value, str | None) else value[0] if len(value) == 1 else value or None

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url or ()

    @model_validator(mode="after")
    def _contradictions(self) -> BackendConfig:
        if self.kind == "scripted" and not self.script:
            raise ValueError("a scripted backend needs `script`, a file of answers")
        if self.script and self.kind != "scripted":
            raise ValueError(f"`script` is for kind `scripted`, not `{self.kind}`: leave one of the two out")
        if self.kind == "llamacpp" and self.base_url:
            raise ValueError("`base_url` is for a server that is running: use kind `openai` (or `vllm`) with it")
        if self.structured and self.dialect == "completion":
            raise ValueError("`structured` answers need the chat dialect")
        if self.batch and len(self.urls) > 1:
            raise ValueError("`batch` takes one server: name one `base_url`")
        if (self.price_in is None) != (self.price_out is None) or (
            self.price_cached is not None and self.price_in is None
        ):
            raise ValueError("prices are told together: `price_in` and `price_out`")
        return self


class RoleConfig(BackendConfig):
    """A model of a role; where a role has several, each job draws one of them."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How often it is drawn, relative to the other models of its role."""


class RecipeConfig(BaseModel):
    """The recipe by name; every other key of the table is an option of that recipe."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "self-instruct"

    @property
    def options(self) -> Tree:
        return dict(self.model_extra or {})


class _Answering(BaseModel):
    """Who answers what no model does, by kind; a script is named if and only if one is played."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @property
    def options(self) -> Tree:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _script_and_kind(self) -> Self:
        told = dict(self)
        if (told["kind"] == "scripted") != bool(told["script"]):
            raise ValueError("kind `scripted` and `script`, a file of answers, go together: name both or neither")
        return self


class SandboxConfig(_Answering):
    """Where programs run, by the kind of sandbox; every other key of the table is an option of that kind."""

    kind: str
    """`scripted`, or the name of one that another package adds."""
    script: str | None = None
    """File of executions for `scripted`."""
    slots: Annotated[int, Field(ge=1)] | None = None
    """Programs that run at once; None lets the sandbox say."""


class ToolsConfig(_Answering):
    """Which tools may be called, by the kind of toolbox; every other key of the table is an option of that kind."""

    kind: str
    """`scripted`, or the name of one that another package adds."""
    script: str | None = None
    """File of results for `scripted`."""
    slots: Annotated[int, Field(ge=1)] | None = None
    """Calls that are made at once; None lets the toolbox say."""


class ExportConfig(Section):
    """How what is kept is written."""

    file_type: FileType | None = None
    """`jsonl`, `json` or `parquet` for every format; None takes what the format is known for (docs/formats.md)."""
    validation: float | int | None = None
    """Rows set aside for validation: a share under 1, or a count; all rows of a task, or of a family, go together."""
    split_seed: int = 42
    """Number that the choice of validation rows derives from, and the layouts of `self-instruct`."""
    shard_rows: Annotated[int, Field(ge=1)] | None = None
    """Rows to a file; None writes one file."""
    system_prompt: str = ""
    """Text that every conversation or prompt begins with."""
    provenance: bool = False
    """Add columns that say where a row is from: `id`, `recipe`, `model`, its facets, and its family if it has one."""
    facets: dict[str, Annotated[Words, BeforeValidator(_one_word)]] = {}
    """Values of facets to write, such as `facets.topic = ["tides"]`; a row is written that has one of the values of
    each facet named. None named means all."""
    parents: bool = False
    """Add what the chosen rows were made from, up to the source rows."""
    sources: bool = False
    """Add all rows that the run started from."""

    @field_validator("validation", mode="before")
    @classmethod
    def _share_or_count(cls, value: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is None or (is_number and (0 < value < 1 or (isinstance(value, int) and value >= 1))):
            return value
        raise ValueError(f"{value!r:.20} is neither a share between 0 and 1 nor a count of rows; write 0.1, or 500")


class BudgetConfig(Section):
    """What a run may take at most, over all attempts and however often it is continued."""

    cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """US dollars, at the prices of docs/budgets.md."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens, in and out together."""
    requests: Annotated[int, Field(ge=1)] | None = None
    """Requests sent, each attempt counted."""
    time: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds of work, the time between its sessions left out."""


class RunConfig(Section):
    """Everything a run is told; what lies resolved in its folder."""

    n: Annotated[int, Field(ge=1)] | None = None
    """Tasks to keep: instructions with at least one valid instance. None: 30, and of an evolution all that there is."""
    seeds: str | None = None
    """File or folder of seed tasks, or of a run whose kept tasks are taken; None takes those that ship."""
    prompts: str | None = None
    """Folder whose prompt files are looked up before those that ship."""
    seed: int = 42
    """Number that all randomness of the run derives from."""
    ordered: bool = False
    """Settle in the order of planning: the same result whatever the timing, for some throughput."""
    window: Annotated[int, Field(ge=1)] | None = None
    """With `ordered`, how many jobs may be planned ahead of the last settled one; None: 8 x concurrency, or 512."""
    formats: Words = ("alpaca", "jsonl")
    """What is written when the run ends."""
    patience: Annotated[int, Field(ge=1)] = 100
    """Jobs in a row that may keep nothing, or fail, before the run gives up."""
    recipe: RecipeConfig = RecipeConfig()
    then: Annotated[tuple[RecipeConfig, ...], Field(strict=False)] = ()
    """Recipes that go on with what the one before keeps, in one run; `n` counts what the last one keeps."""
    backend: BackendConfig = BackendConfig()
    """Who answers whatever no role of its own is named for."""
    roles: dict[str, Annotated[tuple[RoleConfig, ...], Field(strict=False)]] = {}
    """The models of a role, by its name: `[roles.judge]`, or several with weights. What is left out is as in `backend`,
    unless it has a `kind` or `base_url` of its own. `[judge]` is short for `[roles.judge]`."""
    sandbox: SandboxConfig | None = None
    """Where the programs of a recipe run."""
    tools: ToolsConfig | None = None
    """Which tools a recipe may call."""
    filters: dict[str, dict[str, JsonValue]] = {}
    """Settings of filters by name."""
    budget: BudgetConfig = BudgetConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, tree: Any) -> Any:
        """A role of one model may be written as a table, and the judge's without its heading; a model and a further
        recipe by their names alone."""
        if not isinstance(tree, Mapping) or not isinstance(tree.get("roles", {}), Mapping):
            return tree
        tree = written_out(tree)
        if "then" in tree:
            tree["then"] = _further_recipes(tree["then"])
        roles = dict(tree.get("roles", {}))
        if "judge" in tree and "judge" in roles:
            raise ValueError("`judge` is short for `roles.judge`: keep one of the two")
        if "judge" in tree:
            roles["judge"] = tree.pop("judge")
        told = {
            name: _tables(f"roles.{name}", models, f'{name} = "gpt-4o", or a table [roles.{name}]')
            for name, models in roles.items()
        }
        return {**tree, "roles": told} if told else tree

    @model_validator(mode="after")
    def _contradictions(self) -> RunConfig:
        if self.window is not None and not self.ordered:
            raise ValueError("`window` means something only with `ordered = true`")
        for name, models in self.roles.items():
            _check_role(name, models)
        return self

    @property
    def recipes(self) -> tuple[str, ...]:
        """The names of the run's recipes, in order."""
        return tuple(recipe.name for recipe in (self.recipe, *self.then))


def written_out(tree: Mapping[str, Any]) -> Tree:
    """The same tree with a table wherever a further recipe, or the model of a role, is told by its name alone.

    >>> written_out({"then": "alpaca", "roles": {"judge": "gpt-4o"}})
    {'then': [{'name': 'alpaca'}], 'roles': {'judge': [{'model': 'gpt-4o'}]}}
    """
    tree = dict(tree)
    if "then" in tree:
        tree["then"] = _by_name(tree["then"], "name")
    if "judge" in tree:
        tree["judge"] = _by_name(tree["judge"], "model")
    if isinstance(roles := tree.get("roles"), Mapping):
        tree["roles"] = {role: _by_name(models, "model") for role, models in roles.items()}
    return tree


def _by_name(told: Any, key: str) -> Any:
    """A list of tables, of names or of both as tables; what is neither a name nor a list as it is."""
    names = [told] if isinstance(told, str) else told
    return [{key: one} if isinstance(one, str) else one for one in names] if isinstance(names, list | tuple) else told


def _tables(place: str, told: Any, example: str) -> list[Any]:
    """Tables as a list: one alone, or several by their places from 0.

    Raises:
        ValueError: they are no tables, or a place is left out.
    """
    if isinstance(told, Mapping) and told and all(key.isdecimal() for key in told):
        places = [str(number) for number in range(len(told))]
        if missing := [number for number in places if number not in told]:
            raise ValueError(f"`{place}.{missing[0]}` is missing; places are counted from 0, and none is left out")
        return [told[number] for number in places]
    told = [told] if isinstance(told, Mapping) else told
    if isinstance(told, list | tuple) and all(isinstance(one, Mapping | BaseModel) for one in told):
        return list(told)
    raise ValueError(f"`{place}` = {told!r:.60} is no name and no table; write {example}")


def _further_recipes(told: Any) -> list[Any]:
    """The tables of `then`; refuse one that names no recipe."""
    tables = _tables("then", told, 'then = ["evol-instruct"], or a table [[then]] with `name`')
    for place, table in enumerate(tables):
        if isinstance(table, Mapping) and "name" not in table:
            raise ValueError(f"`then.{place}` names no recipe; name it with --then, or with `name` in its table")
    return tables


def _check_role(name: str, models: tuple[RoleConfig, ...]) -> None:
    """Refuse a role that can draw no model, or whose models cannot be told apart."""
    if name in OTHER_DOORS:
        raise ValueError(f"`roles.{name}`: `{name}` is a table of its own and no role; give the role another name")
    if not sum(model.weight for model in models) > 0:
        raise ValueError(f"`roles.{name}`: its weights sum to nothing; give one of its models a weight above 0")
    named = [model.model for model in models]
    if len(models) > 1 and (not all(named) or len(set(named)) < len(named)):
        raise ValueError(f"`roles.{name}`: of several models each needs a `model` name of its own")


_OF_A_SERVER = (
    "base_url", "api_key_env", "batch", "concurrency", "rpm", "tpm", "timeout", "attempts", "server_args", "context",
    "script", "price_in", "price_out", "price_cached",
)  # fmt: skip
MAY_CHANGE = frozenset({
    "n", "formats", "export", "patience", "budget",
    *(f"{door}.{key}" for door in OTHER_DOORS for key in ("slots", "script")),
    *(f"backend.{key}" for key in _OF_A_SERVER), *(f"roles.*.*.{key}" for key in _OF_A_SERVER),
})  # fmt: skip
"""What may differ when a run is continued, a star for any name or place: nothing of it changes what a request asks or
how an answer is judged."""


def may_change(key: str) -> bool:
    """Whether the setting of this dotted name may differ when a run is continued."""
    parts = key.split(".")
    return any(
        all(one in ("*", part) for one, part in zip(free.split("."), parts, strict=False))
        for free in MAY_CHANGE
        if free.count(".") < len(parts)
    )


# Models that were never taught turns; everything else is taken for an instruct model.
_COMPLETION_MODELS = re.compile(
    r"davinci|babbage|turbo-instruct|(^|[-_./])(base|pt|pretrain(ed)?)($|[-_.])", re.IGNORECASE
)
# Instruct models that do better with a document to continue (docs/lab.md has the figures).
_BETTER_AS_COMPLETION = re.compile(r"smollm2?-(135|360)m", re.IGNORECASE)


_OWN = {"dialect", "structured", "extra"}
"""Settings of a model that another role does not take over."""
_PRICES = {"price_in", "price_out", "price_cached"}


def filled_role(config: RunConfig, role: str) -> tuple[RoleConfig, ...]:
    """The models of a role, with what they take over from the backend.

    Raises:
        ConfigError: a second vLLM server would have to be started.
    """
    return tuple(_filled_model(config, role, model) for model in config.roles[role])


def _filled_model(config: RunConfig, role: str, model: RoleConfig) -> RoleConfig:
    told = model.model_dump(exclude_unset=True)
    if not {"kind", "base_url", "script"} & told.keys():
        writer = config.backend.model_dump(exclude=_OWN | (_PRICES if "model" in told else set()))
        model = build(RoleConfig, merge(writer, told), where=f"roles.{role}")
    if model.kind == "vllm" and not model.base_url:
        raise ConfigError(
            f"roles.{role}: a second vLLM server is not started; name one that is running with roles.{role}.base_url"
        )
    return model


def models_of(config: RunConfig, role: str) -> tuple[BackendConfig, ...]:
    """The models that are asked in a role, as far as they are filled in: of one that is not configured the writer's."""
    return config.roles.get(role) or config.roles.get("writer") or (config.backend,)


def doors_of(config: RunConfig) -> dict[str, BackendConfig]:
    """Every model that a run asks, by its name: the role, and where a role has several its model, `answerer:gpt-4o`."""
    roles = {"writer": models_of(config, "writer"), **config.roles}
    return {
        role if len(models) == 1 else f"{role}:{model.model}": model
        for role, models in roles.items()
        for model in models
    }


def door_of(config: RunConfig, role: str, drawn: Mapping[str, str]) -> str:
    """The name of the model that a job asks in a role, by the models that were drawn for it."""
    role = role if role in config.roles else "writer"
    return f"{role}:{drawn[role]}" if role in drawn else role


def dialect_of(kind: str, model: str) -> Dialect:
    """The dialect that suits a model by its name: `completion` for base models and the smallest, else `chat`."""
    if kind == "scripted" or (kind == "llamacpp" and not model):
        return "completion"
    return "completion" if _COMPLETION_MODELS.search(model) or _BETTER_AS_COMPLETION.search(model) else "chat"


def load(path: Path) -> Tree:
    """The tree in a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or not TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {masked(str(error))}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new tree: `over` wins, tables are merged, lists and values replaced.

    A table over a list of tables is merged into them: by their places from 0, or where there is one into that. Where
    it names a place that the list has not, all are told by their places.
    """
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merged(merged.get(key), value)
    return merged


def _merged(old: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if isinstance(old, Mapping):
        return merge(old, value)
    if not isinstance(old, list) or not all(isinstance(table, Mapping) for table in old):
        return value
    if not all(key.isdecimal() for key in value):
        return [merge(old[0], value)] if len(old) == 1 else value
    places = merge({str(place): table for place, table in enumerate(old)}, value)
    return list(places.values()) if len(places) == len(old) else places


def assignment(text: str) -> Tree:
    """The tree of one `dotted.key=value`; the value is TOML, or a bare word taken as a string.

        >>> assignment("filters.rouge.threshold=0.6")
        {'filters': {'rouge': {'threshold': 0.6}}}

    Raises:
        ConfigError: there is no `=`, or no key before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--set {masked(text)[:80]}: write it as key=value, such as filters.rouge.threshold=0.6")
    try:
        tree: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree = value
    except (ValueError, RecursionError):
        raise ConfigError(f"--set {masked(key)[:80]}: a number of thousands of digits, or nested too deeply") from None
    if key.count(".") > DEEPEST:
        raise ConfigError(f"--set {masked(key)[:80]}…: no setting lies so deep")
    for part in reversed(key.split(".")):
        tree = {part.strip(): tree}
    return dict(tree)


def build(model: type[Settings], tree: Mapping[str, Any], *, where: str) -> Settings:
    """A validated `model` from a tree.

    Args:
        where: what the message names as the place, such as a file or `filters.rouge`.

    Raises:
        ConfigError: one line with every problem: the key, what is wrong, and for an unknown key the nearest known one.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_problems(model, error))) from None


def accept(model: type[Settings], tree: Mapping[str, Any], *, where: str) -> Settings:
    """As `build`, from what a person gave: nothing is taken that cannot or should not be stored (`inputs.given`).

    Raises:
        ConfigError: as `build`, and a number that is none, text that is none, or a key; a key is not repeated.
    """
    refuse(tree, where=where)
    return build(model, tree, where=where)


def refuse(tree: Mapping[str, Any], *, where: str) -> None:
    """Look whether all of what a person gave may be a setting; see `accept`."""
    found = [_placed(problem) for problem in problems(tree)]
    if found:
        raise ConfigError(f"{where}: " + "; ".join(found[:PROBLEMS]))


def _placed(problem: Problem) -> str:
    place = _dotted(problem.place)[:100]
    what = problem.what if problem.what.startswith(" ") or not place else f": {problem.what}"
    return f"`{place}`{what}" if place else what


def unknown_name(kind: str, name: str, known: Mapping[str, Any] | list[str]) -> ConfigError:
    """The error for a name that nothing answers to: it lists those that do."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(known))}")


def differences(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each dotted key at which two trees differ, with both values (None where a tree lacks it); of a list of tables
    each has its place for a key, from 0."""
    one, other = _keyed(one), _keyed(other)
    if isinstance(one, Mapping | None) and isinstance(other, Mapping | None):
        for key in sorted({*(one or {}), *(other or {})}):
            yield from differences((one or {}).get(key), (other or {}).get(key), f"{place}.{key}" if place else key)
    elif one != other:
        yield place, one, other


def _keyed(value: Any) -> Any:
    tables = isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
    return {str(place): item for place, item in enumerate(value)} if tables else value


def dump(config: BaseModel) -> Tree:
    """The tree of a configuration, without what is not set: what TOML can hold."""
    return config.model_dump(mode="json", exclude_none=True)


def _problems(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        place = _dotted(problem["loc"])
        if problem["type"] == "extra_forbidden":
            yield f"unknown key `{place}`" + _nearest(model, problem["loc"])
        elif problem["type"] == "missing":
            yield f"`{place}` is missing"
        elif problem["type"] == "value_error":
            yield ((f"`{place}`: " if place else "") + problem["msg"].removeprefix("Value error, "))
        else:
            yield f"`{place}` = {masked(_shown(problem['input']))}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of thousands of digits"


def _dotted(place: tuple[int | str, ...]) -> str:
    """A place in dots; the first model of a role is left out, for most often it is the only one."""
    only = place[:1] == ("roles",)
    return ".".join(str(part) for part in place if not (only and part == 0 and isinstance(part, int)))


def _table_in(kind: Any) -> Any:
    """The table in a type: of one that may be left out, of a list of them, or by names."""
    if hasattr(kind, "model_fields"):
        return kind
    return next((found for part in get_args(kind) if hasattr(found := _table_in(part), "model_fields")), kind)


def _nearest(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """`; did you mean …?` for an unknown key, looked up in the table that it stands in."""
    table: Any = model
    for part in place[:-1]:
        table = table.model_fields[part].annotation if part in getattr(table, "model_fields", {}) else table
        table = _table_in(table)
    known = list(getattr(table, "model_fields", {}))
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f" (known: {', '.join(known)})"


def is_local(url: str) -> bool:
    """Whether an address is this machine or its private network, where no proxy of the environment stands between."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local"))
