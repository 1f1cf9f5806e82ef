"""What the pages on the Python API show runs as it stands, and names what there is."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

import selfinstruct as si
from selfinstruct import errors
from tests.support.cli import SEEDS, answers, write
from tests.support.pages import DOCS, blocks, executed, page


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder; what a page does to the log is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("selfinstruct"), "level", logging.NOTSET)


async def test_blocks_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    """In order, in a running event loop; what they print is what they say."""
    await executed(blocks("api", "python"), "api.md")
    out, err = capsys.readouterr()
    assert "complete 7" in out
    assert "data/messages.jsonl:2 is too like Name a fruit that floats on water. 0.86" in out
    assert "outputs/first: begun with recipe.name = 'alpaca', not 'self-instruct';" in out
    assert err == ""


async def test_cells_of_the_notebook_run(capsys: pytest.CaptureFixture[str]) -> None:
    """In order, in a fresh namespace, as a kernel runs them."""
    cells = json.loads((DOCS / "api.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = await executed(sources, "api.ipynb")
    assert (names["kept"], names["ended"]) == (10, ("complete", 10, ""))
    assert names["dataset"].column_names == ["instruction", "input", "output"]
    assert [one.rows for one in names["written"]] == [10, 10, 10]
    assert names["verified"].differences == []
    out, err = capsys.readouterr()
    assert "validity: banned_word: Draw a cat on a roof." in out
    assert "rouge: near_duplicate: Name a fruit that floats on water." in out
    assert err == ""


def test_notebook_stores_no_output() -> None:
    """It is as a person would run it for the first time."""
    cells = json.loads((DOCS / "api.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


def test_page_names_what_is_public() -> None:
    """Its table of names is `__all__`, and its table of errors has every public error."""
    table = page("api").partition("\n## Names\n")[2].partition("\n\n`selfinstruct")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(si.__all__)
    shown = re.findall(r"^\| `(\w+)` \|", page("api").partition("\n## Errors\n")[2], re.MULTILINE)
    public = {name for name in si.__all__ if hasattr(errors, name)} - {"SelfInstructError", "UserError"}
    assert set(shown) == public


async def test_snippet_of_the_readme_runs(tmp_path: Path) -> None:
    """With a script in place of its server."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    [snippet] = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    write(tmp_path, "my.jsonl", SEEDS)
    served = '{"base_url": "http://localhost:8000/v1"}'
    assert served in snippet
    script = repr({"script": answers(tmp_path), "concurrency": 1})
    names = await executed([snippet.replace(served, script).replace("n=500", "n=5")], "README.md")
    assert len(list(names["run"].samples())) == 5
