"""What is written beside exported files so that trainers find them: `dataset_info.json` and `axolotl.yaml`.

LLaMA-Factory reads the folder with `dataset_dir: FOLDER`, `dataset: alpaca` and, after a split,
`eval_dataset: alpaca-validation`. Axolotl's entries are pasted into its configuration, or read from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from selfinstruct.dataset.exports.base import Export, Fields
from selfinstruct.inputs.config import merge
from selfinstruct.records import Sample

LLAMA_FACTORY = "dataset_info.json"
AXOLOTL = "axolotl.yaml"
_HEAD = """\
# For Axolotl, to paste into its configuration. Paths are as seen from this folder.
"""
_AGAIN = "# The same rows in another form: take one entry, not several.\n"


class Traits:
    """What trainers must be told of the rows of a format, found out as they are written."""

    system = False
    """Whether there is a column for the system prompt."""
    tools = False
    """Whether there is a column for the tools that are offered."""
    calls = False
    """Whether tools are called."""
    weights = False
    """Whether there are turns that are not trained on."""

    def see(self, row: Fields) -> None:
        """Note the columns of a row."""
        if "system" in row:
            self.system = True
        if "tools" in row:
            self.tools = True

    def hear(self, sample: Sample) -> None:
        """Note what is said in a sample that has rows."""
        for instance in sample.instances:
            for turn in instance.turns:
                self.calls |= bool(turn.calls)
                self.weights |= not turn.train


class Place(NamedTuple):
    """Where the rows of one format and split are: a file, or a folder of shards, as seen from the export's folder."""

    format: str
    export: Export
    split: str
    path: Path
    files: tuple[Path, ...]
    """The file itself, or the shards."""
    traits: Traits
    """What its rows have."""


def describe(places: Iterable[Place], folder: Path) -> None:
    """Write both files, each if there is anything in it; where a format is there in two kinds, the first counts."""
    first = list({(place.format, place.split): place for place in reversed(list(places))}.values())[::-1]
    if entries := {_name(place): entry for place in first if (entry := _llama_factory(place))}:
        text = json.dumps(entries, ensure_ascii=False, indent=2)
        (folder / LLAMA_FACTORY).write_text(f"{text}\n", encoding="utf-8")
    if snippet := _axolotl(first):
        (folder / AXOLOTL).write_text(_HEAD + snippet, encoding="utf-8")


def _name(place: Place) -> str:
    return place.format if place.split == "train" else f"{place.format}-{place.split}"


def _llama_factory(place: Place) -> Fields:
    """How LLaMA-Factory is to read it (its data/README.md); not at all where it cannot read the calls."""
    entry: Fields = getattr(place.export, "LLAMA_FACTORY", {})
    calls: Fields | None = getattr(place.export, "LLAMA_FACTORY_CALLS", None) if place.traits.calls else {}
    if not entry or calls is None:
        return {}
    columns = {name: name for name in ("system", "tools") if getattr(place.traits, name)}
    return {"file_name": place.path.as_posix(), **merge(merge(entry, calls), {"columns": columns})}


def _axolotl(places: Iterable[Place]) -> str:
    """The lists of datasets, of which all formats but the first are commented out."""
    import yaml

    lists: dict[str, str] = {}
    for place in places:
        if kind := _axolotl_type(place):
            key = "datasets" if place.split == "train" else "test_datasets"
            entry = yaml.safe_dump([{**_axolotl_place(place), **kind}], sort_keys=False, allow_unicode=True)
            if key in lists:
                entry = _AGAIN + "".join(f"# {line}\n" for line in entry.splitlines())
            lists[key] = lists.get(key, "") + entry
    return "".join(f"{key}:\n{entries}" for key, entries in lists.items())


def _axolotl_place(place: Place) -> Fields:
    shards = [file.as_posix() for file in place.files] if place.files != (place.path,) else []
    kind = "parquet" if place.files[0].suffix == ".parquet" else "json"
    return {
        "path": place.path.as_posix(),
        **({"data_files": shards} if shards else {}),
        "ds_type": kind,
        "split": "train",
    }


def _axolotl_type(place: Place) -> Fields:
    kind: Fields = getattr(place.export, "AXOLOTL", {})
    traits = place.traits
    if kind.get("type") == "chat_template":
        tools = {"field_tools": "tools"} if traits.tools else {}
        calls = getattr(place.export, "AXOLOTL_CALLS", {}) if traits.calls else {}
        weights = {"message_field_training": "weight"} if traits.weights else {}
        return {**kind, **tools, **calls, **weights}
    return _with_system(kind) if kind and traits.system else dict(kind)


def _with_system(kind: Fields) -> Fields:
    if kind["type"] == "alpaca":
        return {"type": "alpaca_w_system.load_instruct"}
    return {"type": {**kind["type"], "field_system": "system", "system_format": "{system}\n\n"}}
