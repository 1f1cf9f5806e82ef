"""Runs a command until it ends or our standard input does: for servers that do not watch their parent themselves.

Run by its path, with the standard library alone:

    python watch.py COMMAND ARGUMENT …

The command gets a process group of its own; when standard input ends, the whole group is asked to end, and killed
if it does not. A signal from the parent would not do: a parent that is killed sends none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE = 10.0
"""Seconds that the command may take to end when asked to."""


def main() -> None:
    """Run the command of our arguments, and exit with its status."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - ours
    threading.Thread(target=_until_closed, args=(command,), daemon=True).start()
    status = command.wait()
    _send(command, signal.SIGKILL)  # What it left behind: a server's workers are its children.
    sys.exit(status if status >= 0 else 128 - status)


def _until_closed(command: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 4096):  # Unbuffered: a buffer's lock, held here, would break our own exit.
        pass
    _send(command, signal.SIGTERM)
    try:
        command.wait(GRACE)
    except subprocess.TimeoutExpired:
        _send(command, signal.SIGKILL)


def _send(command: subprocess.Popen[bytes], what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, what)


if __name__ == "__main__":
    main()
