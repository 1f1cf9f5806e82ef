"""The kept tasks of a run in each format asked for: all files appear at once, or none does."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from selfinstruct.dataset.exports import open_export
from selfinstruct.dataset.exports.base import Export, ExportContext, Fields
from selfinstruct.dataset.selection import Selection, family
from selfinstruct.dataset.trainers import AXOLOTL, LLAMA_FACTORY, Place, Traits, describe
from selfinstruct.dataset.writing import Writer, open_writer, writable
from selfinstruct.errors import RunError
from selfinstruct.inputs.config import ExportConfig
from selfinstruct.records import SEED_STAGE, WRITER, Sample
from selfinstruct.store.ledger import Ledger
from selfinstruct.store.lineage import origins
from selfinstruct.text.files import staged

SPLITS = ("train", "validation")
_SUFFIXES = (".jsonl", ".json", ".parquet")
_SHARD = re.compile(r"\d{5,}-of-\d{5,}\.(jsonl|json|parquet)")
_NAMED = 3
"""Samples left out that are named; more are counted."""


class Written(NamedTuple):
    """The rows of one format, split and kind of file."""

    path: Path
    """The file, or the folder of its shards."""
    rows: int
    format: str
    split: str


def export(
    ledger: Ledger,
    stage: str,
    formats: Iterable[str],
    folder: Path,
    options: ExportConfig | None = None,
    *,
    replace: bool = True,
    notice: Callable[[str], object] | None = None,
) -> list[Written]:
    """Write the kept tasks in each format, with `dataset_info.json` and `axolotl.yaml` beside them for trainers.

    Args:
        stage: the recipe's last stage.
        folder: made if it is not there; what else stands in it stays.
        replace: whether files that an earlier export of these formats left there make way.
        notice: is told in a line which samples a format cannot hold.

    Raises:
        ConfigError: an unknown format, or a choice of samples that the run does not have.
        RunError: nothing is kept, no row would be left for training, the folder cannot be written or holds such files.
    """
    options = options or ExportConfig()
    opened = {name: open_export(name) for name in dict.fromkeys(formats)}
    old = _making_way(folder, opened.values(), options, replace=replace)
    with ledger.snapshot():
        selection = Selection(ledger, stage, options)
        origin = _Origin(ledger, stage, selection) if options.provenance else None
        context = ExportContext(ledger, options.system_prompt, options.split_seed)
        held_out = selection.held_out()
        with writable(folder), staged(folder, old) as part:
            outputs = [_Output(name, opened[name], part, options) for name in opened]
            _write(selection, held_out, outputs, context, origin)
            describe((place for output in outputs for place in output.places()), part)
    for output in outputs:
        if notice is not None:
            output.tell(notice)
    return [written for output in outputs for written in output.written(folder)]


def _write(
    selection: Selection,
    held_out: Collection[str],
    outputs: Sequence[_Output],
    context: ExportContext,
    origin: _Origin | None,
) -> None:
    with ExitStack() as stack:
        for output in outputs:
            stack.enter_context(closing(output))
        for sample in selection:
            split = SPLITS[bool(held_out) and family(sample) in held_out]
            columns = origin.columns(sample) if origin else {}
            for output in outputs:
                output.take(sample, split, context, columns)


# What stands where


def _making_way(folder: Path, exports: Iterable[Export], options: ExportConfig, *, replace: bool) -> list[Path]:
    """What earlier exports of these formats left in the folder, in whatever layout."""
    stems = {_stem(export) for export in exports}
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    old = [path for path in there if _is_export(path, stems)]
    if old and not replace:
        raise RunError(f"{old[0]}: exists already; name another folder with --to, or add --force")
    foreign = [path for path in there if path.name in stems and path not in old]
    if foreign and options.shard_rows:
        raise RunError(f"{foreign[0]}: is something else, where shards would go; name another folder with --to")
    return old


def _stem(export: Export) -> str:
    return Path(export.FILES[0]).stem


def _is_export(path: Path, stems: set[str]) -> bool:
    if path.is_dir():
        return path.name in stems and _is_shards(path)
    names = {name for stem in stems for name in (stem, *(f"{stem}-{split}" for split in SPLITS))}
    return path.name in (LLAMA_FACTORY, AXOLOTL) or (path.stem in names and path.suffix in _SUFFIXES)


def _is_shards(folder: Path) -> bool:
    """Whether nothing is in it but shards of ours: a folder of someone else's is never taken away."""
    return all(
        path.name in SPLITS and path.is_dir() and all(_SHARD.fullmatch(file.name) for file in path.iterdir())
        for path in folder.iterdir()
    )


# Writing


class _Output:
    """One format in the making."""

    def __init__(self, name: str, export: Export, folder: Path, options: ExportConfig) -> None:
        self._name = name
        self._export = export
        self._folder = folder
        self._traits = Traits()
        self._left_out = Counter[str]()
        self._named: dict[str, list[str]] = {}
        splits = SPLITS if options.validation is not None else SPLITS[:1]
        self._files = {
            split: [_File(folder / _layout(_stem(export), split, kind, options), kind, options.shard_rows)
                    for kind in _kinds(export, options)]
            for split in splits
        }  # fmt: skip

    def take(self, sample: Sample, split: str, context: ExportContext, columns: Fields) -> None:
        """Write the rows of a sample, each with the columns that it does not have itself."""
        held = False
        for row in self._export.rows(sample, context):
            held = True
            whole = {**row, **{name: value for name, value in columns.items() if name not in row}} if columns else row
            self._traits.see(whole)
            for file in self._files[split]:
                file.write(whole)
        if held:
            self._traits.hear(sample)
        else:
            lack = _lack(sample)
            self._left_out[lack] += 1
            self._named[lack] = [*self._named.get(lack, []), sample.id][:_NAMED]

    def close(self) -> None:
        """Finish every file."""
        for files in self._files.values():
            for file in files:
                file.close()

    def tell(self, notice: Callable[[str], object]) -> None:
        """Say what was left out."""
        for lack, count in self._left_out.items():
            samples = "1 sample" if count == 1 else f"{count} samples"
            more = ", …" if count > _NAMED else ""
            notice(f"{self._name}: {samples} {lack} left out: {', '.join(self._named[lack])}{more}")

    def places(self) -> Iterator[Place]:
        """What trainers are told."""
        for split, files in self._files.items():
            for file in files:
                path, parts = file.path.relative_to(self._folder), file.parts()
                relative = tuple(part.relative_to(self._folder) for part in parts)
                yield Place(self._name, self._export, split, path, relative, self._traits)

    def written(self, folder: Path) -> Iterator[Written]:
        """What the caller is told, with `folder` for the place where it was written first."""
        for split, files in self._files.items():
            for file in files:
                yield Written(folder / file.path.relative_to(self._folder), file.rows, self._name, split)


def _lack(sample: Sample) -> str:
    """Why a format holds nothing of a sample."""
    if not any(instance.complete for instance in sample.instances):
        return "without an output"
    return "with several turns" if any(instance.turns for instance in sample.instances) else "with tools"


def _kinds(export: Export, options: ExportConfig) -> list[str]:
    """The kinds of file to write a format in: that asked for, else its own; a single one where there are shards."""
    kind = options.file_type or ("jsonl" if options.shard_rows else None)
    if kind is None:
        return [Path(name).suffix.removeprefix(".") for name in export.FILES]
    return ["jsonl"] if kind == "parquet" and getattr(export, "JSON_ONLY", False) else [kind]


def _layout(stem: str, split: str, kind: str, options: ExportConfig) -> str:
    """Where rows go, as seen from the export's folder."""
    if options.shard_rows:
        return f"{stem}/{split}"
    return f"{stem}.{kind}" if options.validation is None else f"{stem}-{split}.{kind}"


class _File:
    """The rows of one format, split and kind: one file, or a folder of shards, which tell how many there are."""

    def __init__(self, path: Path, kind: str, shard_rows: int | None) -> None:
        self.path = path
        self.rows = 0
        self._kind = kind
        self._shard_rows = shard_rows
        self._shards = 0
        self._writer: Writer | None = None

    def write(self, row: Fields) -> None:
        if self._writer is None or (self._shard_rows and self.rows == self._shards * self._shard_rows):
            self._writer = self._next()
        self._writer.write(row)
        self.rows += 1

    def close(self) -> None:
        writer = self._writer or self._next()
        writer.close()
        if self._shard_rows:
            for number, part in enumerate(self.parts()):
                (self.path / f"{number:05}.{self._kind}").rename(part)

    def parts(self) -> tuple[Path, ...]:
        """The files that there are, by their final names."""
        if not self._shard_rows:
            return (self.path,)
        return tuple(self.path / f"{n:05}-of-{self._shards:05}.{self._kind}" for n in range(self._shards))

    def _next(self) -> Writer:
        """A writer for the next file."""
        if self._writer is not None:
            self._writer.close()
        place = self.path / f"{self._shards:05}.{self._kind}" if self._shard_rows else self.path
        self._shards += 1
        place.parent.mkdir(parents=True, exist_ok=True)
        return open_writer(place, f".{self._kind}")


class _Origin:
    """Columns that say where a row is from."""

    def __init__(self, ledger: Ledger, stage: str, selection: Selection) -> None:
        self._recipe = json.loads(ledger.fact("config") or "{}").get("recipe", {}).get("name")
        models = ledger.models()
        self._model = ", ".join(models[role] for role in models if role.partition(":")[0] == WRITER)
        self._facets = list(selection.facets)
        self._origins = origins(ledger, stage) if selection.grown else None

    def columns(self, sample: Sample) -> Fields:
        """The same columns for every sample of a run; a source row was made by no recipe and no model."""
        made = sample.stage != SEED_STAGE
        return {
            "id": sample.id,
            **self._family(sample, made=made),
            **{name: sample.facets.get(name) for name in self._facets if name not in ("id", "family", "parent")},
            "recipe": self._recipe if made else None,
            "model": self._model if made else None,
        }

    def _family(self, sample: Sample, *, made: bool) -> Fields:
        """Of a run whose tasks have families: which one, and the task or source row that this one was made from."""
        if self._origins is None:
            return {}
        return {"family": family(sample), "parent": self._origins.get(sample.id) if made else None}
