"""One process to a run; the next one is told who holds it, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selfinstruct.errors import RunError
from selfinstruct.store.lock import locked

HOLD = """
import sys, time, pathlib
from selfinstruct.store.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_told_the_first_until_that_one_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with (
            pytest.raises(RunError, match=f"in use by process {holder.pid} .*wait for it, or stop it"),
            locked(tmp_path),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / "lock").read_text()


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path), pytest.raises(RunError, match="in use"), locked(tmp_path):
        pass


def test_a_folder_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"), locked(tmp_path / "gone"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EIO])
def test_what_is_no_holder_is_not_called_one(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has no locks is told as such."""

    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RunError, match="cannot be locked: no locks"), locked(tmp_path):
        pass
