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
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from selfinstruct.errors import ConfigError

Tree = dict[str, Any]
Dialect = Literal["completion", "chat"]
FileType = Literal["jsonl", "json", "parquet"]
Words = Annotated[tuple[str, ...], Field(strict=False)]
"""A list in TOML, a tuple here: frozen."""
Settings = TypeVar("Settings", bound=BaseModel)


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


class RecipeConfig(BaseModel):
    """The recipe by name; every other key of the table is an option of that recipe."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "self-instruct"

    @property
    def options(self) -> Tree:
        return dict(self.model_extra or {})


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
    """Add columns that say where a row is from: `id`, `recipe`, `model`, its facets, and where it has one its family."""
    facets: dict[str, Words] = {}
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
    backend: BackendConfig = BackendConfig()
    judge: BackendConfig | None = None
    """Who judges, where a recipe asks a model for its judgement; None: the backend. What is left out is as there,
    unless it has a `kind` or `base_url` of its own."""
    filters: dict[str, dict[str, JsonValue]] = {}
    """Settings of filters by name."""
    budget: BudgetConfig = BudgetConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="after")
    def _contradictions(self) -> RunConfig:
        if self.window is not None and not self.ordered:
            raise ValueError("`window` means something only with `ordered = true`")
        return self


MAY_CHANGE = frozenset({
    "n", "formats", "export", "patience", "budget",
    *(f"{who}.{key}" for who in ("backend", "judge") for key in (
        "base_url", "api_key_env", "batch", "concurrency", "rpm", "tpm", "timeout", "attempts",
        "server_args", "context", "script", "price_in", "price_out", "price_cached")),
})  # fmt: skip
"""What may differ when a run is continued: nothing of it changes what a request asks or how an answer is judged."""

# Models that were never taught turns; everything else is taken for an instruct model.
_COMPLETION_MODELS = re.compile(
    r"davinci|babbage|turbo-instruct|(^|[-_./])(base|pt|pretrain(ed)?)($|[-_.])", re.IGNORECASE
)
# Instruct models that do better with a document to continue (docs/lab.md has the figures).
_BETTER_AS_COMPLETION = re.compile(r"smollm2?-(135|360)m", re.IGNORECASE)


_PRICES = {"price_in", "price_out", "price_cached"}


def judge_of(config: RunConfig) -> BackendConfig | None:
    """The backend that judges, with what it takes over from the one that writes; None where that one judges too.

    Raises:
        ConfigError: a second vLLM server would have to be started.
    """
    if config.judge is None:
        return None
    told = config.judge.model_dump(exclude_unset=True)
    judge = config.judge
    if not {"kind", "base_url", "script"} & told.keys():
        own = {"dialect", "structured", "extra"} | (_PRICES if "model" in told else set())
        writer = config.backend.model_dump(exclude=own)
        judge = build(BackendConfig, merge(writer, told), where="judge")
    if judge.kind == "vllm" and not judge.base_url:
        raise ConfigError("judge: a second vLLM server is not started; name one that is running with judge.base_url")
    return judge


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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new tree: `over` wins, tables are merged, lists and values replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged


def assignment(text: str) -> Tree:
    """The tree of one `dotted.key=value`; the value is TOML, or a bare word taken as a string.

        >>> assignment("filters.rouge.threshold=0.6")
        {'filters': {'rouge': {'threshold': 0.6}}}

    Raises:
        ConfigError: there is no `=`, or no key before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--set {text}: write it as key=value, such as filters.rouge.threshold=0.6")
    try:
        tree: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree = value
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


def unknown_name(kind: str, name: str, known: Mapping[str, Any] | list[str]) -> ConfigError:
    """The error for a name that nothing answers to: it lists those that do."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(known))}")


def differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each dotted key at which two trees differ, with both values (None where a tree lacks it)."""
    for key in sorted({*one, *other}):
        a, b, where = one.get(key), other.get(key), f"{place}{key}"
        if isinstance(a, Mapping | None) and isinstance(b, Mapping | None):
            yield from differences(a or {}, b or {}, f"{where}.")
        elif a != b:
            yield where, a, b


def dump(config: BaseModel) -> Tree:
    """The tree of a configuration, without what is not set: what TOML can hold."""
    return config.model_dump(mode="json", exclude_none=True)


def _problems(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            yield f"unknown key `{place}`" + _nearest(model, problem["loc"])
        elif problem["type"] == "missing":
            yield f"`{place}` is missing"
        elif problem["type"] == "value_error":
            yield ((f"`{place}`: " if place else "") + problem["msg"].removeprefix("Value error, "))
        else:
            yield f"`{place}` = {problem['input']!r:.60}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _nearest(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """`; did you mean …?` for an unknown key, looked up in the table that it stands in."""
    table: Any = model
    for part in place[:-1]:
        table = table.model_fields[part].annotation if part in getattr(table, "model_fields", {}) else None
        # Of a table that may be left out, the table.
        table = next((kind for kind in get_args(table) if hasattr(kind, "model_fields")), table)
    known = list(getattr(table, "model_fields", {}))
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f" (known: {', '.join(known)})"


def is_local(url: str) -> bool:
    """Whether an address is this machine or its private network, where no proxy of the environment stands between."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local"))
