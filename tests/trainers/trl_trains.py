"""Runs inside `.venv-trainers`: two steps of TRL's SFTTrainer on each exported file, with no mapping function.

python trl_trains.py MODEL SCRATCH full|lora FILE…      # a line of JSON for each: steps, loss, what was learned
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path


def main(model: str, scratch: str, how: str, *files: str) -> None:
    for file in files:
        with contextlib.redirect_stdout(sys.stderr):
            told = trained(model, scratch, how, Path(file))
        print(json.dumps(told), flush=True)


def trained(model: str, scratch: str, how: str, file: Path) -> dict[str, object]:
    """Train on one file, and evaluate on the split beside it."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    name = file.stem.removesuffix("-train")
    splits = {"train": str(file), "test": str(file.with_name(f"{name}-validation.jsonl"))}
    data = load_dataset("json", data_files=splits, cache_dir=f"{scratch}/cache")
    config = SFTConfig(
        output_dir=f"{scratch}/{how}-{name}", max_steps=2, per_device_train_batch_size=2, use_cpu=True, bf16=False,
        report_to=[], save_strategy="no", eval_strategy="steps", eval_steps=2, disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=data["train"], eval_dataset=data["test"],
        peft_config=LoraConfig(r=4, target_modules="all-linear") if how == "lora" else None,
    )  # fmt: skip
    outcome = trainer.train()
    row = trainer.train_dataset[0]
    tokenizer = AutoTokenizer.from_pretrained(model)
    learned = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    return {
        "format": name,
        "steps": trainer.state.global_step,
        "loss": outcome.training_loss,
        "evaluated": [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry],
        "parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "seen": tokenizer.decode(row["input_ids"]),
        "learned": tokenizer.decode(learned),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
