"""`--role`: every form that is right gives its part of the tree, and every other is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.cli.evolve import FLAGS as EVOLVE
from selfinstruct.cli.flags import Given, tree_of
from selfinstruct.cli.generate import FLAGS as GENERATE
from selfinstruct.cli.roles import role_of
from tests.cli.conftest import Say

RIGHT: dict[str, list[dict[str, Any]]] = {
    "judge=gpt-4o": [{"model": "gpt-4o"}],
    "judge=gpt-4o@https://host/v1": [{"model": "gpt-4o", "base_url": "https://host/v1"}],
    "judge=a:0.5,b:0.5": [{"model": "a", "weight": 0.5}, {"model": "b", "weight": 0.5}],
    "judge=a:2, b": [{"model": "a", "weight": 2.0}, {"model": "b"}],
    "judge=a@http://h/v1:3,b@http://i/v1": [
        {"model": "a", "base_url": "http://h/v1", "weight": 3.0}, {"model": "b", "base_url": "http://i/v1"},
    ],
    "judge=Qwen/Qwen3-8B": [{"model": "Qwen/Qwen3-8B"}],
    "judge=llama3:8b": [{"model": "llama3:8b"}],
    "judge=llama3:8b:.25": [{"model": "llama3:8b", "weight": 0.25}],
    "judge=phi:3.5:1": [{"model": "phi:3.5", "weight": 1.0}],
    "judge=@cf/meta/llama-3": [{"model": "@cf/meta/llama-3"}],
    "judge=claude@20240229": [{"model": "claude@20240229"}],
    "judge=claude@20240229@https://h/v1": [{"model": "claude@20240229", "base_url": "https://h/v1"}],
    "judge=m@http://localhost:8000": [{"model": "m", "base_url": "http://localhost:8000"}],
    "judge=m@http://localhost:8000:2": [{"model": "m", "base_url": "http://localhost:8000", "weight": 2.0}],
    "judge=m@http://[::1]:8000": [{"model": "m", "base_url": "http://[::1]:8000"}],
    "judge=m@http://ada:key@h:80": [{"model": "m", "base_url": "http://ada:key@h:80"}],
    "judge=a=b": [{"model": "a=b"}],
    "judge=gpt-oss:20b": [{"model": "gpt-oss:20b"}],
    "judge=llama3:latest:2": [{"model": "llama3:latest", "weight": 2.0}],
    "judge=a:1e2": [{"model": "a", "weight": 100.0}],
    "judge=@cf/meta/llama-3:2": [{"model": "@cf/meta/llama-3", "weight": 2.0}],
}  # fmt: skip
FORM = "write NAME=MODEL, NAME=MODEL@URL, or NAME=MODEL:WEIGHT,MODEL:WEIGHT"
UNCLEAR = "an address begins with http:// or https://; a name like this goes into a file, as `model` in [roles.NAME]"
WRONG = {
    "judge": FORM,
    "judge=": FORM,
    "=gpt-4o": FORM,
    "Judge=gpt-4o": FORM,
    "ju.dge=gpt-4o": FORM,
    "judge=a,,b": "'' has no model's name",
    "judge=a,": "'' has no model's name",
    "judge=@https://h/v1": "'@https://h/v1' has no model's name",
    "judge=a:0": "'a:0': a weight is more than 0",
    "judge=a:-1": "'a:-1': a weight is more than 0",
    "judge=a:nan,b:2": "'a:nan': a weight is more than 0 and finite",
    "judge=a:Inf": "'a:Inf': a weight is more than 0 and finite",
    "judge=a:-infinity": "'a:-infinity': a weight is more than 0 and finite",
    "judge=a:1e999": "'a:1e999': a weight is more than 0 and finite",
    "judge=a:-1e3": "'a:-1e3': a weight is more than 0",
    "judge=a:,b:2": "'a:': a weight is missing after the colon",
    "judge=a@": "'a@': an address begins with http:// or https://",
    "judge=a@:2": "'a@:2': an address begins with http:// or https://",
    "judge=a@notaurl": f"'a@notaurl': {UNCLEAR}",
    "judge=org/model@rev:2": f"'org/model@rev:2': {UNCLEAR}",
    "judge=a@localhost:8000": "'a@localhost:8000': an address begins with http:// or https://",
    "judge=a@host.example/v1": "'a@host.example/v1': an address begins with http:// or https://",
    "judge=a@ftp://h": "'a@ftp://h': an address begins with http:// or https://",
}


@pytest.mark.parametrize(("text", "entries"), RIGHT.items(), ids=RIGHT)
def test_a_right_form_is_read(text: str, entries: list[dict[str, Any]]) -> None:
    """Model, address and weight come apart."""
    assert role_of(text) == ("judge", entries)


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG)
def test_a_wrong_form_is_one_line(text: str, message: str, selfinstruct: Say) -> None:
    """Exit code 2, and what is right."""
    said = selfinstruct("generate", "--role", text)
    line = f"selfinstruct: Invalid value for '--role': {message}; see selfinstruct generate --help\n"
    assert said == (2, "", line)


def test_a_role_given_twice_is_one_line(selfinstruct: Say) -> None:
    """Two models of one role are written together."""
    said = selfinstruct("evolve", "x", "--role", "judge=a", "--role", "user=b", "--role", "judge=c")
    assert said.code == 2
    assert said.err == (
        "selfinstruct: Invalid value for '--role': judge is given twice; write judge=MODEL,MODEL;"
        " see selfinstruct evolve --help\n"
    )


@given(st.from_regex(r"[a-z0-9/:_-]*[a-z/_-]", fullmatch=True), st.floats(0.001, 1000))
def test_what_is_written_is_read(model: str, weight: float) -> None:
    """Of any model's name a weight is told apart."""
    weight = round(weight, 3)
    assert role_of(f"writer={model}:{weight}") == ("writer", [{"model": model, "weight": weight}])
    assert role_of(f"writer={model}") == ("writer", [{"model": model}])


@pytest.mark.parametrize("flags", [GENERATE, EVOLVE], ids=["generate", "evolve"])
def test_roles_stand_in_the_tree(flags: list[Any], tmp_path: Path) -> None:
    """Each role has its entries there, and an address implies its kind; a file's other roles stay."""
    (tmp_path / "run.toml").write_text('[roles.user]\nmodel = "u"\nbase_url = "http://u/v1"\n')
    seen: dict[str, Any] = {}
    command = click.Command("x", callback=lambda **values: seen.update(values))
    for flag in flags:
        flag(command)
    command(["--role", "judge=j", "--role", "answerer=a@http://h/v1,b:2"], standalone_mode=False)
    tree = tree_of(flags, Given(tmp_path / "run.toml", (), (), None, tmp_path, False, False, False), seen)
    assert tree["roles"] == {
        "user": {"model": "u", "base_url": "http://u/v1", "kind": "openai"},
        "judge": [{"model": "j"}],
        "answerer": [{"model": "a", "base_url": "http://h/v1", "kind": "openai"}, {"model": "b", "weight": 2.0}],
    }
