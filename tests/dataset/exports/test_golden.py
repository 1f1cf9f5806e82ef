"""Single exchanges are written as they always were, byte for byte.

The files under `tests/golden/rows` were made before there were turns: each the rows of these tasks without a system
prompt, then with one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from selfinstruct.dataset.exports import names
from tests.support.ledgers import exported, ledger_of, task

GOLDEN = Path(__file__).parents[2] / "golden" / "rows"
TASKS = (
    task("Add the numbers.", ("1, 2", "3"), ("4, 5", "9"), is_classification=True),
    task("Rhyme.", ("", "Lime."), ("none", " \n"), ("", "Time,\nthen crime."), category="verse"),
    task("  Say “ünï” \u2028 and {braces}.\n", (" {x}\n", "\t“ünï” 😀 \x1b[2J"), is_classification=False),
    task("Nothing.", ("", "")),
    task('Quote "this" \\ and\r\nthat: 12:30.', ("a | b", '```json\n{"a": 1}\n```'), operator="deepen", round=2),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """By its name, each file of every format, and what trainers are told."""
    folder = tmp_path_factory.mktemp("golden")
    run = ledger_of(folder / "run", *TASKS)
    for place, system in (("plain", ""), ("kind", "Be kind.")):
        exported(run, *names(), to=folder / place, file_type="jsonl", system_prompt=system)
    rows = {path.name: path.read_bytes() for path in (folder / "plain").iterdir()}
    kind = {path.name: path.read_bytes() for path in (folder / "kind").glob("*.jsonl")}
    return {name: content + kind.get(name, b"") for name, content in rows.items()}


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_single_exchanges_keep_their_bytes(written: dict[str, bytes], name: str) -> None:
    """No format, and nothing that trainers are told, changes for data without turns."""
    assert written[name] == (GOLDEN / name).read_bytes()


def test_every_format_has_its_golden_file(written: dict[str, bytes]) -> None:
    """None is left out of the comparison."""
    assert written.keys() == {path.name for path in GOLDEN.iterdir()}
