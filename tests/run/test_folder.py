"""What stands in a run's folder for people."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from selfinstruct.errors import RunError
from selfinstruct.inputs.config import RunConfig
from selfinstruct.run.folder import write_config


def test_config_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the `config.toml` that was there, and nothing beside it."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_config(tmp_path, RunConfig(n=4))
    before = (tmp_path / "config.toml").read_text()
    monkeypatch.setattr("selfinstruct.text.files.os.fsync", full)
    with pytest.raises(RunError, match=r"config\.toml: No space left"):
        write_config(tmp_path, RunConfig(n=5))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.toml", before)]
