"""What is written beside exported files so that trainers find them: `dataset_info.json` and `axolotl.yaml`.

LLaMA-Factory reads the folder with `dataset_dir: FOLDER`, `dataset: alpaca` and, after a split,
`eval_dataset: alpaca-validation`. Axolotl's entries are pasted into its configuration, or read from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from selfinstruct.dataset.exports.base import Export, Fields

LLAMA_FACTORY = "dataset_info.json"
AXOLOTL = "axolotl.yaml"
_HEAD = """\
# For Axolotl, to paste into its configuration. Paths are as seen from this folder.
"""
_AGAIN = "# The same rows in another form: take one entry, not several.\n"


class Place(NamedTuple):
    """Where the rows of one format and split are: a file, or a folder of shards, as seen from the export's folder."""

    format: str
    export: Export
    split: str
    path: Path
    files: tuple[Path, ...]
    """The file itself, or the shards."""
    system: bool
    """Whether the rows have a column for the system prompt."""


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
    """How LLaMA-Factory is to read it (its data/README.md)."""
    entry: Fields = getattr(place.export, "LLAMA_FACTORY", {})
    if not entry:
        return {}
    system = {"system": "system"} if place.system else {}
    return {"file_name": place.path.as_posix(), **entry, "columns": {**entry["columns"], **system}}


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
    kind: Any = getattr(place.export, "AXOLOTL", {})
    if not place.system or not kind:
        return dict(kind)
    if kind["type"] == "alpaca":
        return {"type": "alpaca_w_system.load_instruct"}
    return {"type": {**kind["type"], "field_system": "system", "system_format": "{system}\n\n"}}
