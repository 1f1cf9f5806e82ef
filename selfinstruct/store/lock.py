"""One process to a run: an advisory lock on `lock` in the run's folder, released by the system when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfinstruct.errors import RunError
from selfinstruct.text.secrets import masked, scrubbed


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for this process.

    Raises:
        RunError: another process holds it (the message names it), or the folder cannot be written.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written: {error.strerror}; choose another folder with --output-dir"
        ) from None
    try:
        _hold(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            what = f"cannot be locked: {error.strerror}; choose a folder on another disk with --output-dir"
            raise RunError(f"{folder}: {what}") from None
        holder = os.read(descriptor, 4096).decode(errors="replace").strip() or "another process"
        raise RunError(f"{folder}: in use by {holder}; wait for it, or stop it") from None
    if not os.fstat(descriptor).st_nlink:
        raise RunError(f"{folder}: another process has just given it up; run again")
    # The name of the holder is a courtesy, and the disk may be full.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        command = scrubbed(masked(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])))
        os.write(descriptor, f"process {os.getpid()} ({command})".encode(errors="replace"))
