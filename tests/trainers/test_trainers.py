"""The trainers that exports are for read them as they are: `make test-trainers`.

`tests/trainers/install.py` makes their environment; without it every test here fails and says so. Each trainer runs
in a process of its own, which tells what it was given and, where it trains, that it did.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledgers import exported, ledger_of, task
from tests.trainers import install

pytestmark = [pytest.mark.trainers, pytest.mark.timeout(600)]

TASKS = 12
KIND = "Be kind and brief."
TRL = ["messages", "prompt-completion", "self-instruct", "text"]
"""What TRL reads with no mapping function."""
ANSWER_ALONE = ["prompt-completion", "self-instruct"]
"""Where it learns the answer and not the question."""
LLAMA_FACTORY = ["alpaca", "dolly", "evol", "messages", "self-instruct", "sharegpt", "text"]
AXOLOTL = LLAMA_FACTORY

Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    assert (install.MODEL / "config.json").exists(), "no .venv-trainers: run python tests/trainers/install.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve tasks, every other one with an input."""
    drafts = [
        task(f"Say what number {n} is.", (f"Case {n}." if n % 2 else "", f"It is {n}, of course."))
        for n in range(TASKS)
    ]
    return ledger_of(tmp_path_factory.mktemp("run") / "run", *drafts)


@pytest.fixture(scope="module")
def plain(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its exports as one file to a split, with provenance."""
    folder = tmp_path_factory.mktemp("plain")
    exported(run, *sorted({*TRL, *LLAMA_FACTORY}), to=folder, file_type="jsonl", validation=3, provenance=True)
    return folder


@pytest.fixture(scope="module")
def sharded(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its exports as shards of Parquet, with a system prompt."""
    folder = tmp_path_factory.mktemp("sharded")
    options = {"file_type": "parquet", "shard_rows": 4, "validation": 3, "system_prompt": KIND}
    exported(run, *LLAMA_FACTORY, to=folder, **options)
    return folder


def told(script: str, *arguments: object, key: str = "format") -> Told:
    """What a script says in lines of JSON, by format."""
    command = [str(install.PYTHON), str(install.HERE / script), *map(str, arguments)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet = {"AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline | quiet
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line[key]: line for line in map(json.loads, done.stdout.splitlines())}


# -- TRL


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request: pytest.FixtureRequest, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Told]:
    files = [plain / f"{name}-train.jsonl" for name in TRL]
    return request.param, told(
        "trl_trains.py", install.MODEL, tmp_path_factory.mktemp(request.param), request.param, *files
    )


@pytest.mark.parametrize("name", TRL)
def test_trl_trains_and_evaluates_on_it_without_a_mapping_function(trained: tuple[str, Told], name: str) -> None:
    how, formats = trained
    outcome = formats[name]
    assert outcome["steps"] == 2
    assert (outcome["parameters"] < 100_000) == (how == "lora")
    assert math.isfinite(outcome["loss"])
    assert [math.isfinite(loss) for loss in outcome["evaluated"]] == [True]


@pytest.mark.parametrize("name", TRL)
def test_trl_shows_the_model_question_and_answer_and_has_it_learn_the_answer(
    trained: tuple[str, Told], name: str
) -> None:
    seen, learned = (trained[1][name][what] for what in ("seen", "learned"))
    assert "Say what number" in seen
    assert "of course.<|im_end|>" in learned
    assert ("Say what number" in learned) == (name not in ANSWER_ALONE)


# -- LLaMA-Factory


@pytest.fixture(scope="module", params=["plain", "sharded"])
def llama_factory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Told]:
    folder = request.getfixturevalue(request.param)
    return request.param, told("llama_factory_loads.py", install.MODEL, tmp_path_factory.mktemp("lf"), folder)


def test_llama_factory_is_told_of_every_format_it_can_read(llama_factory: tuple[str, Told]) -> None:
    assert sorted(llama_factory[1]) == LLAMA_FACTORY


@pytest.mark.parametrize("name", [name for name in LLAMA_FACTORY if name != "text"])
def test_llama_factory_reads_both_splits_and_learns_the_answer_alone(
    llama_factory: tuple[str, Told], name: str
) -> None:
    layout, formats = llama_factory
    assert formats[name]["rows"] == [TASKS - 3, 3]
    assert "Say what number" in formats[name]["seen"]
    assert (KIND in formats[name]["seen"]) == (layout == "sharded")
    assert formats[name]["learned"].strip().startswith("It is ")
    assert "Say what number" not in formats[name]["learned"]


def test_llama_factory_reads_text_for_pre_training(llama_factory: tuple[str, Told]) -> None:
    assert "### Response:\nIt is " in llama_factory[1]["text"]["seen"]


# -- Axolotl

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"file_type": "jsonl"},
    "sharded": {"file_type": "parquet", "shard_rows": 4, "system_prompt": KIND},
}


@pytest.fixture(scope="module")
def axolotl(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """By format and layout: a folder to each, since only the first format of an export counts in its file."""
    folders = {(name, layout): tmp_path_factory.mktemp(f"{name}-{layout}") for name in AXOLOTL for layout in LAYOUTS}
    for (name, layout), folder in folders.items():
        exported(run, name, to=folder, validation=3, **LAYOUTS[layout])
    found = told("axolotl_loads.py", install.MODEL, *folders.values(), key="folder")
    return {place: found[str(folder)] for place, folder in folders.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", AXOLOTL)
def test_axolotl_reads_both_splits_of_it_by_its_entry(
    axolotl: dict[tuple[str, str], dict[str, Any]], name: str, layout: str
) -> None:
    train, validation = axolotl[name, layout]["train"], axolotl[name, layout]["validation"]
    assert (train["rows"], validation["rows"]) == (TASKS - 3, 3)
    assert "Say what number" in train["seen"]
    assert (KIND in train["seen"]) == (layout == "sharded")
    assert "of course.<|im_end|>" in train["learned"]
    assert ("Say what number" in train["learned"]) == (name == "text")
