"""The embedded model's process: llama.cpp's own server, from `xllamacpp`, for as long as standard input is open.

Run by its path, not imported: it knows nothing of the package, so that it starts in the time of its one import.

    python llamacpp_server.py '{"model.path": "/…/model.gguf", "n_parallel": 16}'

The keys are attributes of `xllamacpp.CommonParams`. When the model is loaded, its address is the first line of
standard output; when standard input ends, so does the process.
"""

from __future__ import annotations

import json
import os
import sys
from functools import reduce
from typing import Any


def main() -> None:
    """Serve with the settings of our argument until standard input ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    for dotted, value in json.loads(sys.argv[1]).items():
        *path, name = dotted.split(".")
        setattr(reduce(getattr, path, params), name, _native(getattr(reduce(getattr, path, params), name), value))
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # Its threads may be in the middle of an answer that nobody waits for any more.


def _native(old: Any, value: Any) -> Any:
    """The value as the attribute has it: JSON knows neither sets nor enumerations."""
    return type(old)(value) if isinstance(old, set) or hasattr(old, "__members__") else value


if __name__ == "__main__":
    main()
