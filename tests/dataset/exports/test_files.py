"""Where exported rows go: kinds of file, splits, shards, what makes way, and that nothing is ever half there."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfinstruct.dataset.exports import alpaca
from selfinstruct.dataset.exports.base import ExportContext, Fields
from selfinstruct.dataset.files import export
from selfinstruct.errors import ConfigError, RunError
from selfinstruct.inputs.config import ExportConfig
from selfinstruct.records import Sample
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import STAGE, exported, ledger_of, lines, task
from tests.support.runs import Run


def run_of(tmp_path: Path, count: int, cases: int = 1) -> Path:
    """A run of so many tasks."""
    return ledger_of(
        tmp_path / "run",
        *(task(f"Task {n}.", *((f"in {n} {c}", f"out {n} {c}") for c in range(cases))) for n in range(count)),
    )


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- layouts


@pytest.mark.parametrize(("formats", "options", "expected"), [
    (["alpaca"], {}, ["alpaca.json", "alpaca.jsonl"]),
    (["messages", "jsonl"], {}, ["messages.jsonl", "samples.jsonl"]),
    (["alpaca"], {"file_type": "parquet"}, ["alpaca.parquet"]),
    (["jsonl"], {"file_type": "parquet"}, ["samples.jsonl"]),
    (["jsonl"], {"file_type": "json"}, ["samples.json"]),
    (["text"], {"validation": 1}, ["text-train.jsonl", "text-validation.jsonl"]),
    (["alpaca"], {"shard_rows": 2}, ["alpaca/train/00000-of-00002.jsonl", "alpaca/train/00001-of-00002.jsonl"]),
    (["alpaca"], {"shard_rows": 9, "file_type": "json", "validation": 1},
     ["alpaca/train/00000-of-00001.json", "alpaca/validation/00000-of-00001.json"]),
])  # fmt: skip
def test_the_names_say_format_split_and_kind(
    tmp_path: Path, formats: list[str], options: Fields, expected: list[str]
) -> None:
    folder = run_of(tmp_path, 4)
    exported(folder, *formats, **options)
    assert [
        name for name in tree(folder / "export") if "dataset_info" not in name and "axolotl" not in name
    ] == expected


def test_what_is_written_is_told_with_its_rows(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 5, cases=2)
    told = [tuple(one) for one in exported(folder, "alpaca", "jsonl", validation=2)]
    place = folder / "export"
    assert told == [
        (place / "alpaca-train.json", 8, "alpaca", "train"), (place / "alpaca-train.jsonl", 8, "alpaca", "train"),
        (place / "alpaca-validation.json", 2, "alpaca", "validation"),
        (place / "alpaca-validation.jsonl", 2, "alpaca", "validation"),
        (place / "samples-train.jsonl", 4, "jsonl", "train"),
        (place / "samples-validation.jsonl", 1, "jsonl", "validation"),
    ]  # fmt: skip


@given(rows=st.integers(1, 30), size=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_shards_hold_every_row_once_in_order_and_none_is_over_full(
    rows: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = run_of(tmp_path_factory.mktemp("shards"), rows)
    [written] = exported(folder, "text", shard_rows=size)
    shards = sorted(written.path.iterdir())
    assert [len(lines(shard)) for shard in shards[:-1]] == [size] * (len(shards) - 1)
    assert [row["text"].split("\n")[1] for row in lines(written.path)] == [f"Task {n}." for n in range(rows)]
    assert shards[-1].name == f"{len(shards) - 1:05}-of-{len(shards):05}.jsonl"


def test_a_folder_of_shards_is_a_dataset_with_its_splits(tmp_path: Path) -> None:
    import datasets

    folder = run_of(tmp_path, 6)
    exported(folder, "messages", shard_rows=2, validation=2, file_type="parquet")
    loaded = datasets.load_dataset(str(folder / "export/messages"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "validation": 2}


# -- splits


@given(
    counts=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    wanted=st.one_of(st.integers(1, 9), st.floats(0.01, 0.99)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_a_split_parts_no_task_loses_no_row_and_takes_what_was_asked_for(
    counts: list[int], wanted: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drafts = [task(f"Task {n}.", *((str(c), "x") for c in range(count))) for n, count in enumerate(counts)]
    folder = ledger_of(tmp_path_factory.mktemp("split") / "run", *drafts)
    least = wanted if isinstance(wanted, int) else max(1, round(wanted * sum(counts)))
    with contextlib.suppress(RunError):
        exported(folder, "alpaca", file_type="jsonl", validation=wanted, split_seed=seed)
    if not (folder / "export/alpaca-train.jsonl").exists():
        assert least > sum(counts) - max(counts), "refused only where the last task would have to go too"
        return
    train, validation = (lines(folder / f"export/alpaca-{split}.jsonl") for split in ("train", "validation"))
    names = [{row["instruction"] for row in rows} for rows in (train, validation)]
    assert not names[0] & names[1]
    assert len(train) + len(validation) == sum(counts)
    assert train
    assert least <= len(validation) < least + 3


def test_a_split_is_the_same_again_and_another_with_another_seed(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 40)

    def held_out(seed: int) -> list[str]:
        exported(folder, "alpaca", file_type="jsonl", validation=8, split_seed=seed)
        return [row["instruction"] for row in lines(folder / "export/alpaca-validation.jsonl")]

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)


@pytest.mark.parametrize("wanted", [0.5, 1, 12, 3])
def test_a_split_that_leaves_nothing_to_train_on_is_refused_and_writes_nothing(tmp_path: Path, wanted: float) -> None:
    folder = run_of(tmp_path, 1, cases=3)
    with pytest.raises(RunError, match=rf"validation = {wanted}: takes all there is, 3 rows of 1 tasks; ask for fewer"):
        exported(folder, "alpaca", validation=wanted)
    assert not (folder / "export").exists()


# -- what stands there already


def test_another_layout_of_the_same_format_makes_way_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 4)
    exported(folder, "alpaca", "messages", shard_rows=1)
    (folder / "export/README.md").write_text("mine")
    exported(folder, "alpaca", validation=1)
    assert tree(folder / "export") == [
        "README.md", "alpaca-train.json", "alpaca-train.jsonl", "alpaca-validation.json", "alpaca-validation.jsonl",
        "axolotl.yaml", "dataset_info.json", *(f"messages/train/0000{n}-of-00004.jsonl" for n in range(4)),
    ]  # fmt: skip


@pytest.mark.parametrize("before", [{"shard_rows": 2}, {"validation": 1}, {"file_type": "parquet"}, {}])
def test_what_another_export_left_is_not_replaced_unless_told(tmp_path: Path, before: Fields) -> None:
    folder, to = run_of(tmp_path, 4), tmp_path / "data"
    exported(folder, "text", to=to, **before)
    (to / "dataset_info.json").unlink()
    (to / "axolotl.yaml").unlink()
    there = tree(to)
    with pytest.raises(RunError, match=r"data/text.*: exists already; name another folder with --to, or add --force"):
        exported(folder, "text", to=to, replace=False)
    assert tree(to) == there
    exported(folder, "messages", to=to, replace=False)


def test_a_folder_of_someone_elses_is_never_taken_for_shards(tmp_path: Path) -> None:
    folder, to = run_of(tmp_path, 2), tmp_path / "data"
    (to / "text").mkdir(parents=True)
    (to / "text/novel.jsonl").write_text("mine")
    with pytest.raises(RunError, match="data/text: is something else, where shards would go"):
        exported(folder, "text", to=to, shard_rows=1)
    exported(folder, "text", to=to)
    assert tree(to) == ["axolotl.yaml", "dataset_info.json", "text.jsonl", "text/novel.jsonl"]


def test_what_fails_half_way_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_of(tmp_path, 3)
    exported(folder, "alpaca", "text")
    before = {name: (folder / "export" / name).read_bytes() for name in tree(folder / "export")}

    def failing(sample: Sample, context: ExportContext) -> list[Fields]:
        if sample.id == "3.1":
            raise OSError(28, "No space left on device")
        return [{"instruction": "new", "input": "", "output": "new"}]

    monkeypatch.setattr(alpaca, "rows", failing)
    with pytest.raises(RunError, match="cannot be written: No space left on device; choose another place with --to"):
        exported(folder, "text", "alpaca")
    assert {name: (folder / "export" / name).read_bytes() for name in tree(folder / "export")} == before


def test_what_one_that_was_killed_left_is_cleared_away(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 1)
    (folder / "export/.part/alpaca").mkdir(parents=True)
    (folder / "export/.part/alpaca.json").write_text("[")
    exported(folder, "text")
    assert [path.name for path in sorted((folder / "export").iterdir())] == [
        "axolotl.yaml", "dataset_info.json", "text.jsonl",
    ]  # fmt: skip


def test_a_place_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 1)
    (tmp_path / "data").write_text("")
    with pytest.raises(RunError, match=r"data.*: cannot be written: .*; choose another place with --to"):
        exported(folder, "text", to=tmp_path / "data/deep")


# -- what cannot be written


def test_samples_without_an_output_are_counted_and_named(tmp_path: Path) -> None:
    folder = ledger_of(
        tmp_path / "run", task("A."), task("B.", ("", "b")), *(task(f"C{n}.", ("", " ")) for n in range(3))
    )
    told: list[str] = []
    with Ledger.open(folder) as ledger:
        export(ledger, STAGE, ["alpaca", "jsonl"], tmp_path / "data", notice=told.append)
    assert told == ["alpaca: 4 samples without an output left out: 1.1, 3.1, 4.1, …"]
    assert [row["instruction"] for row in lines(tmp_path / "data/alpaca.jsonl")] == ["B."]


def test_a_run_without_samples_has_nothing_to_export(tmp_path: Path) -> None:
    folder = ledger_of(tmp_path / "run")
    with pytest.raises(RunError, match="nothing is kept yet, so there is nothing to export"):
        exported(folder, "alpaca")
    assert not (folder / "export").exists()


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'mesages'; did you mean messages\\? known: alpaca, dolly"):
        exported(run_of(tmp_path, 1), "text", "mesages")


# -- columns that tell where a row is from


def test_provenance_is_columns_beside_those_of_the_format(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 1, cases=2)
    exported(folder, "alpaca", "jsonl", file_type="jsonl", provenance=True)
    rows = lines(folder / "export/alpaca.jsonl")
    assert [list(row) for row in rows] == [["instruction", "input", "output", "id", "recipe", "model"]] * 2
    assert {(row["id"], row["recipe"], row["model"]) for row in rows} == {("1.1", "self-instruct", "m")}
    [sample] = lines(folder / "export/samples.jsonl")
    assert list(sample) == ["id", "instruction", "instances", "lineage", "recipe", "model"]


def test_each_sample_is_told_its_own_way_though_one_prompt_led_to_many(tmp_path: Path) -> None:
    run = Run(tmp_path, n=12).drive()
    rows = [json.loads(line) for line in run.exports()["samples.jsonl"].splitlines()]
    invented = [row["lineage"][0]["job"] for row in rows]
    assert len(rows) == 12 > len(set(invented))
    with Ledger.open(run.folder) as ledger:
        for row in rows:
            drafts = [str(ledger.job(row["lineage"][1]["job"]).job.parent), row["id"]]
            assert [step["verdicts"] for step in row["lineage"]] == [ledger.decisions(draft) for draft in drafts]
            jobs = [int(draft.partition(".")[0]) for draft in drafts]
            assert [step["job"] for step in row["lineage"]] == jobs
            answered = [[answer.key for answer in ledger.answers(job)] for job in jobs]
            assert [[answer["id"] for answer in step["answers"]] for step in row["lineage"]] == answered


# -- what trainers are told


def test_llama_factory_finds_each_split_of_each_format(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 3)
    exported(folder, "alpaca", "sharegpt", "jsonl", validation=1, system_prompt="Be kind.")
    told = json.loads((folder / "export/dataset_info.json").read_text())
    assert list(told) == ["alpaca", "alpaca-validation", "sharegpt", "sharegpt-validation"]
    assert told["alpaca-validation"] == {
        "file_name": "alpaca-validation.json",
        "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
    }
    assert told["sharegpt"]["columns"] == {"messages": "conversations"}
    assert all((folder / "export" / entry["file_name"]).is_file() for entry in told.values())


def test_axolotls_entries_are_yaml_of_which_the_first_format_counts(tmp_path: Path) -> None:
    import yaml

    folder = run_of(tmp_path, 4)
    exported(folder, "messages", "alpaca", validation=1, shard_rows=2, file_type="parquet")
    text = (folder / "export/axolotl.yaml").read_text()
    told = yaml.safe_load(text)
    shards = [f"messages/train/0000{n}-of-00002.parquet" for n in range(2)]
    assert told["datasets"] == [
        {
            "path": "messages/train",
            "data_files": shards,
            "ds_type": "parquet",
            "split": "train",
            "type": "chat_template",
        }
    ]
    assert [entry["path"] for entry in told["test_datasets"]] == ["messages/validation"]
    again = yaml.safe_load(
        "".join(
            line.removeprefix("# ")
            for line in text.splitlines(keepends=True)
            if "form:" not in line and "Axolotl" not in line
        )
    )
    assert [entry["path"] for entry in again["datasets"]] == ["messages/train", "alpaca/train"]


def test_a_format_that_trainers_cannot_be_told_of_has_nothing_beside_it(tmp_path: Path) -> None:
    folder = run_of(tmp_path, 1)
    exported(folder, "jsonl")
    assert tree(folder / "export") == ["samples.jsonl"]


def test_the_options_of_a_run_are_the_settings_of_its_table(tmp_path: Path) -> None:
    assert ExportConfig() == ExportConfig(
        file_type=None, validation=None, split_seed=42, shard_rows=None, system_prompt="", provenance=False, facets={},
        parents=False, sources=False,
    )  # fmt: skip
