"""`selfinstruct export`, whole outputs, and what a run exports by itself."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import AGAIN, BUS, TIDE, Say
from tests.support.cli import Said, answers, seeds


def test_export_writes_the_formats_asked_for(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct("export", "first", "--format", "alpaca", "--to", "data")
    assert said == (0, "data/alpaca.json: 2 rows\ndata/alpaca.jsonl: 2 rows\n", "")
    assert json.loads((here / "data/alpaca.json").read_text()) == [
        {"instruction": TIDE, "input": "the sea", "output": "It is wide."},
        {"instruction": BUS, "input": "the sea", "output": "It is wide."},
    ]
    assert sorted(path.name for path in (here / "data").iterdir()) == [
        "alpaca.json", "alpaca.jsonl", "axolotl.yaml", "dataset_info.json",
    ]  # fmt: skip


def test_export_splits_shards_and_says_where_a_row_is_from(first: Said, selfinstruct: Say, here: Path) -> None:
    said = selfinstruct(
        "export", "first", "--format", "messages", "--to", "data", "--validation", "1", "--shard-rows", "1",
        "--system-prompt", "Be kind.", "--provenance", "--split-seed", "3",
    )  # fmt: skip
    assert said == (0, "data/messages/train: 1 rows\ndata/messages/validation: 1 rows\n", "")
    [row] = [json.loads(line) for line in (here / "data/messages/train/00000-of-00001.jsonl").read_text().splitlines()]
    assert row["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (row["recipe"], row["model"]) == ("self-instruct", "scripted")


def test_export_replaces_in_the_folder_of_the_run_and_elsewhere_only_when_told(first: Said, selfinstruct: Say) -> None:
    alpaca = ("export", "first", "--format", "alpaca", "--file-type", "parquet")
    assert selfinstruct(*alpaca) == (0, "outputs/first/export/alpaca.parquet: 2 rows\n", "")
    assert selfinstruct(*alpaca, "--to", "data").code == 0
    assert selfinstruct(*alpaca, "--to", "data") == (
        2, "", "selfinstruct: data/alpaca.parquet: exists already; name another folder with --to, or add --force\n",
    )  # fmt: skip
    assert selfinstruct(*alpaca, "--to", "data", "--force").code == 0


def test_a_run_exports_by_its_own_table_and_verifies(here: Path, selfinstruct: Say) -> None:
    flags = ("--script", answers(here), "--seeds", seeds(here), "-n", "2", "--concurrency", "1", "--run", "first")
    settings = ("--set", "export.validation=0.5", "--set", "export.file_type=parquet", "--format", "messages")
    said = selfinstruct("generate", *flags, *settings)
    train, validation = (f"outputs/first/export/messages-{split}.parquet" for split in ("train", "validation"))
    assert (said.code, said.out) == (0, f"{train}: 1 rows\n{validation}: 1 rows\n")
    assert selfinstruct("verify", "first").code == 0
    (here / train).write_bytes((here / validation).read_bytes())
    assert selfinstruct("verify", "first").out == f"{train}: not what the run's own settings give; {AGAIN}\n"
