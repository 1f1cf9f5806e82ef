"""How long `selfinstruct --help` takes: the median of 20, beside a Python that does nothing.

python bench/start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

TIMES = 20


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    script = str(Path(sys.executable).with_name("selfinstruct"))
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "selfinstruct --help": [script, "--help"]}
    print("| command | median of 20 | fastest |")
    print("|---|---:|---:|")
    for name, command in commands.items():
        taken = [seconds(command) for _ in range(TIMES)]
        print(f"| `{name}` | {statistics.median(taken):.3f} s | {min(taken):.3f} s |")


if __name__ == "__main__":
    main()
