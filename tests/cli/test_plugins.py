"""A package of others that is broken: what names it says so in a line, and all else works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Say

POINTS = """[selfinstruct.recipes]
theirs = their_broken_package:Theirs
[selfinstruct.filters]
theirs = their_broken_package:open
[selfinstruct.exports]
theirs = their_broken_package
[selfinstruct.backends]
theirs = their_broken_package:open
"""
GONE = "the package their-broken-package cannot be imported ({})"
RAISES = {
    "RuntimeError: no GPU here second line": 'raise RuntimeError("no GPU here\\nsecond line")',
    "SystemExit: 3": "import sys\nsys.exit(3)",
    "ModuleNotFoundError: No module named 'no_such_module'": "import no_such_module",
}


@pytest.fixture(params=RAISES)
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What is said of a package on the path that adds one thing of each kind, and cannot be imported."""
    told = tmp_path / "site" / "their_broken_package-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: their-broken-package\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(POINTS)
    (told.parent / "their_broken_package.py").write_text(RAISES[request.param] + "\n")
    monkeypatch.syspath_prepend(str(told.parent))
    yield request.param
    sys.modules.pop("their_broken_package", None)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "given",
    [
        ("generate", "--recipe", "theirs", "-n", "2"),
        ("generate", "--backend", "theirs", "-n", "2"),
        ("generate", "--set", "filters.theirs.limit=1", "-n", "2"),
        ("generate", "--then", "theirs", "-n", "2"),
        ("recipes", "theirs"),
    ],
    ids=" ".join,
)
def test_a_broken_package_is_named(broken: str, selfinstruct: Say, given: tuple[str, ...]) -> None:
    """Whatever names something of a package that cannot be imported says which, in one line, and begins nothing."""
    said = selfinstruct(*given)
    assert said.code == 2, said.err
    assert GONE.format(broken) in said.err.replace("\n", " ")
    assert not Path("outputs").exists() or not list(Path("outputs").iterdir())


@pytest.mark.usefixtures("broken", "here")
@pytest.mark.parametrize(
    "given", [("--help",), ("generate", "--help"), ("export", "--help"), ("recipes",)], ids=" ".join
)
def test_the_rest_works_beside_it(selfinstruct: Say, given: tuple[str, ...]) -> None:
    """Help and the list of recipes need nothing of a package that is broken."""
    said = selfinstruct(*given)
    assert said.code == 0, said.err
    assert "evol-instruct" in said.out or given != ("recipes",)
