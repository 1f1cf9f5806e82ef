"""A run is continued with what it was begun with, also by a version that knows more settings."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RunConfig, build
from selfinstruct.run.folder import begin, continued
from selfinstruct.run.told import read
from selfinstruct.store.ledger import NAME, Ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that was begun before the filter `rouge` had the setting `tokenizer`."""
    told = read(build(RunConfig, {"backend": {"kind": "scripted", "script": "answers.jsonl"}}, where="test"))
    begin(tmp_path, told, {"writer": "scripted"}).close()
    with sqlite3.connect(tmp_path / NAME) as db:
        config = json.loads(db.execute("SELECT value FROM run WHERE key = 'config'").fetchone()[0])
        del config["filters"]["rouge"]["tokenizer"]
        db.execute("UPDATE run SET value = ? WHERE key = 'config'", (json.dumps(config),))
    return tmp_path


def test_a_setting_that_the_run_does_not_know_has_its_default(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        assert continued(ledger, {}).config.filters["rouge"]["tokenizer"] == "rouge"


def test_nothing_but_its_default_is_taken_for_it(folder: Path) -> None:
    with (
        Ledger.open(folder) as ledger,
        pytest.raises(ConfigError, match=r"begun with filters\.rouge\.tokenizer = 'rouge', not 'unicode'"),
    ):
        continued(ledger, {"filters": {"rouge": {"tokenizer": "unicode"}}})
