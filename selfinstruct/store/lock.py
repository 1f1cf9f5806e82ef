"""One process to a run: an advisory lock on `lock` in the run's folder, released by the system when its holder dies."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfinstruct.errors import RunError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for this process.

    Raises:
        RunError: another process holds it (the message names it), or the folder cannot be written.
    """
    try:
        handle = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder with --output-dir"
        ) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise RunError(f"{folder}: in use by {holder}; wait for it, or stop it") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])})")
        handle.flush()
        yield
