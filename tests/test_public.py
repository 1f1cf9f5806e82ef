"""The public names, and what it costs to have them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import selfinstruct as si
from tests.test_architecture import HEAVY

NAMES = """
Answered Ask Call Check Completion ConfigError Deduplicated Draft Duplicate Ended EndpointError Execution Failed Fault
Faulted HubError Instance Job Plan Planned Program PromptError Reason Recipe RecipeOptions Result Rival Row Run RunError
Sample SamplingOptions Seed SelfInstructError Settings Settled SourceError Stage StoredDraft Tool Turn UserError Verdict
Verified Written dedup read_rows
"""


def test_public_names_are_these_and_load() -> None:
    """Each name leads to an object that goes by it."""
    assert si.__all__ == NAMES.split() == sorted(si._HOME)
    for name in si.__all__:
        assert getattr(si, name).__name__ == name
        assert name in dir(si)


def test_type_checkers_see_the_same() -> None:
    """What is imported for type checkers alone is each name from the place where it is loaded from."""
    tree = ast.parse(Path(str(si.__file__)).read_text(encoding="utf-8"))
    shown = {name.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
             for name in node.names if str(node.module).startswith("selfinstruct.")}  # fmt: skip
    assert shown == {name: f"selfinstruct.{home}" for name, home in si._HOME.items()}


def test_importing_it_imports_nothing_heavy() -> None:
    """A process that imports the package has loaded none of what is slow to load."""
    code = (
        f"import sys, selfinstruct\nprint([name for name in {HEAVY} if name in sys.modules], selfinstruct.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[] 0.1.0\n", "")


def test_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'generate'"):
        _ = si.generate
