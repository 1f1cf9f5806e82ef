"""The one way to write a file: beside its place, and renamed when it is whole, so that none is ever seen half written.

    whole(path, content)                        a file that is on the disk when this returns, loss of power included
    with Part(path) as file: ...                the same, written bit by bit
    with replacing(one, other) as parts: ...    files or folders that take their places when all of them are whole
    with staged(folder, old) as stage: ...      all that a folder is to hold, and what makes way for it

What lies beside is hidden and ends in `.part`. What the disk refuses comes out as `OSError`: whoever writes knows what
to advise.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

STAGE = ".part"
"""The folder in which files wait for the others of theirs."""


class Part:
    """A file that is being written beside its place; it takes it when it is kept, or vanishes when it is discarded.

    As a context manager it gives its file, and is kept when all went well.

    Raises:
        OSError: it cannot be written; so do its methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = _beside(path)
        self.file: IO[bytes] = self._part.open("wb")
        """What to write to."""

    def keep(self) -> None:
        """Bring it to the disk, give it its place, and see that its name is on the disk too."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Throw away what was not kept."""
        try:
            self.file.close()
        finally:
            _remove(self._part)

    def __enter__(self) -> IO[bytes]:
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.keep()
        finally:
            self.discard()


def whole(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8; when this returns it is on the disk.

    Raises:
        OSError: it cannot be written.
    """
    with Part(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Paths beside the given ones, for files or folders; they take their places when all went well, and vanish if not.

    Raises:
        OSError: a place cannot be written.
    """
    parts = [_beside(path) for path in paths]
    try:
        for part in parts:
            part.parent.mkdir(parents=True, exist_ok=True)
            _remove(part)  # what one that was killed left here
        yield parts
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    finally:
        for part in parts:
            _remove(part)


@contextmanager
def staged(folder: Path, old: Iterable[Path] = ()) -> Iterator[Path]:
    """A hidden folder inside `folder` to write to; what is in it moves up when all went well, and vanishes if not.

    Args:
        old: what makes way for it, at the moment when it moves.

    Raises:
        OSError: the folder cannot be written.
    """
    stage = folder / STAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(stage, ignore_errors=True)  # what one that was killed left here
        stage.mkdir()
        yield stage
        made = sorted(stage.iterdir())
        for path in old:
            if path.is_dir() or path.name not in {new.name for new in made}:
                _remove(path)
        for path in made:
            path.replace(folder / path.name)  # in one step: a reader finds the old file or the new one
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _beside(path: Path) -> Path:
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f".{path.name}.part")


def _remove(path: Path) -> None:
    """Take away a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
