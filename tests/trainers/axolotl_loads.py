"""Runs inside `.venv-trainers`, in a folder of exports: Axolotl's own loader and prompts, through its axolotl.yaml.

python axolotl_loads.py MODEL       # a line of JSON for each entry: rows, and what is learned
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

KEYS = ("datasets", "test_datasets")


def main(model: str, *folders: str) -> None:
    import yaml

    for folder in folders:
        # Paths in the file are as seen from where it lies.
        os.chdir(folder)
        told = yaml.safe_load(Path("axolotl.yaml").read_text(encoding="utf-8"))
        with contextlib.redirect_stdout(sys.stderr):
            [train], [validation] = ([loaded(model, entry) for entry in told[key]] for key in KEYS)
        print(json.dumps({"folder": folder, "train": train, "validation": validation}), flush=True)


def loaded(model: str, entry: dict[str, Any]) -> dict[str, object]:
    """What a training run would be given of one entry."""
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.data.wrappers import get_dataset_wrapper
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.datasets import SFTDataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    checked = DictDefault(SFTDataset.model_validate(entry).model_dump(exclude_none=True))
    cfg = DictDefault({"sequence_len": 512, "train_on_inputs": False, "datasets": [checked], "dataset_num_proc": 1})
    rows = load_dataset_with_config(checked, use_auth_token=False)
    base, _, style = str(checked.type).partition(":")
    wrapped, _ = get_dataset_wrapper(checked, tokenizer, cfg, base, rows, style)
    row = next(iter(wrapped))
    return {
        "rows": len(rows),
        "seen": tokenizer.decode(row["input_ids"]),
        "learned": tokenizer.decode([token for token in row["labels"] if token >= 0]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
