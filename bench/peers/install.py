"""Installs the peers that `bench/serve.py --peers` measures, each in an environment of its own.

    python bench/peers/install.py [--envs FOLDER] [NAME …]

Every name without one; about 3 GB. What a peer needs beside itself is said where it is listed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

ENVS = Path(".venv-peers")
OURS = "selfinstruct"
"""Is measured like the others, and needs no environment but this one."""
PEERS = {
    # It imports requests without declaring it, and nothing that it depends on brings it any more.
    "distilabel": ("distilabel[openai]==1.5.3", "requests"),
    "curator": ("bespokelabs-curator==0.1.31",),
    "data_designer": ("data-designer==0.9.7",),
    "sdg_hub": ("sdg-hub==0.9.4",),
    # Its extra for inference brings vLLM and SGLang; an endpoint of somebody else's needs only these.
    "datatrove": ("datatrove==0.10.1", "aiosqlite", "xxhash", "aiofiles", "aiohttp", "httpx", "orjson"),
}
"""By the name of its runner in this folder, what pip is asked for."""


def python_of(envs: Path, name: str) -> Path:
    """The interpreter of a peer's environment."""
    if name == OURS:
        return Path(sys.executable)
    return envs / name / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description="Installs the peers of bench/serve.py.")
    parser.add_argument("--envs", type=Path, default=ENVS, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PEERS))
    options = parser.parse_args()
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}; known: {', '.join(PEERS)}")
    failed = [name for name in options.names or PEERS if not install(options.envs, name)]
    sys.exit(f"not installed: {', '.join(failed)}" if failed else 0)


def install(envs: Path, name: str) -> bool:
    """Make a peer's environment; whether pip found all that it needs."""
    venv.create(envs / name, with_pip=True)
    command = [python_of(envs, name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    main()
