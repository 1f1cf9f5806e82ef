"""Runs inside `.venv-trainers`: LLaMA-Factory's own loader on a folder of exports, through its dataset_info.json.

python llama_factory_loads.py MODEL SCRATCH FOLDER      # a line of JSON for each format: rows, and what is learned
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import os
import sys
import types
from pathlib import Path

# It asks for older versions of what is installed here, and imports audio, which nothing here has to do with.
os.environ["DISABLE_VERSION_CHECK"] = "1"
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)


def main(model: str, scratch: str, folder: str) -> None:
    for name in json.loads(Path(folder, "dataset_info.json").read_text(encoding="utf-8")):
        if not name.endswith("-validation"):
            with contextlib.redirect_stdout(sys.stderr):
                told = loaded(model, scratch, folder, name)
            print(json.dumps({"format": name, **told}), flush=True)


def loaded(model: str, scratch: str, folder: str, name: str) -> dict[str, object]:
    """What a training run would be given; `text` is for pre-training, all others for instruction tuning."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import AutoTokenizer, Seq2SeqTrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model)
    data = DataArguments(
        dataset=name, eval_dataset=f"{name}-validation", dataset_dir=folder, template="chatml", cutoff_len=512,
        overwrite_cache=True,
    )  # fmt: skip
    arguments = ModelArguments(model_name_or_path=model, cache_dir=f"{scratch}/cache")
    training = Seq2SeqTrainingArguments(output_dir=scratch, report_to=[])
    template = get_template_and_fix_tokenizer(tokenizer, data)
    stage = "pt" if name == "text" else "sft"
    module = get_dataset(template, arguments, data, training, stage=stage, tokenizer=tokenizer)
    row = module["train_dataset"][0]
    return {
        "rows": [len(module["train_dataset"]), len(module["eval_dataset"])],
        "seen": tokenizer.decode(row["input_ids"]),
        "learned": tokenizer.decode([token for token in row.get("labels", row["input_ids"]) if token >= 0]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
