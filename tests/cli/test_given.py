"""What a person may tell us at all: no keys, no numbers that are none, no text that cannot be stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct import Run
from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import RunConfig, accept, assignment, load
from selfinstruct.inputs.given import problems
from tests.cli.conftest import Say

SECRET = "sk-0123456789abcdef"
PASSWORD = "hunter2"
TREES: dict[str, Any] = {
    "a key for a variable": {"backend": {"api_key_env": SECRET}},
    "a random word for a variable": {"backend": {"api_key_env": f"a1b2c3d4e5f6a7b8c9{PASSWORD}"}},
    "a role's variable": {"roles": {"judge": [{"model": "m", "api_key_env": SECRET}]}},
    "a key for a model": {"backend": {"model": SECRET}},
    "a key for a kind": {"backend": {"kind": SECRET}},
    "a key for a name of a setting": {"backend": {"extra": {SECRET: 1}}},
    "a field called so": {"backend": {"extra": {"api_key": PASSWORD}}},
    "a field called so inside": {"backend": {"extra": {"provider": {"headers": [{"Authorization": PASSWORD}]}}}},
    "a field of a role": {"roles": {"judge": {"model": "m", "extra": {"access-token": PASSWORD}}}},
    "a field of the judge": {"judge": {"model": "m", "extra": {"x-api-key": PASSWORD}}},
    "a value like a key": {"backend": {"extra": {"user": f"it is {SECRET}"}}},
    "an argument": {"backend": {"server_args": [f"--api-key={PASSWORD}"]}},
    "an argument and its value": {"backend": {"server_args": ["--api-key", PASSWORD]}},
    "an argument and its value in one": {"backend": {"server_args": [f"--hf-token {PASSWORD}"]}},
    "an argument like a key": {"backend": {"server_args": ["--x", SECRET]}},
    "a password": {"backend": {"base_url": f"https://ada:{PASSWORD}@host/v1"}},
    "a password without a scheme": {"backend": {"base_url": f"ada:{PASSWORD}@host/v1"}},
    "a parameter": {"backend": {"base_url": f"https://host/v1?api-key={PASSWORD}"}},
    "one of several addresses": {"backend": {"base_url": ["http://a/v1", f"http://b/v1?key={PASSWORD}"]}},
    "an address of a role": {"roles": {"judge": [{"model": "m", "base_url": f"https://{PASSWORD}@host/v1"}]}},
    "an option of a sandbox": {"sandbox": {"kind": "box", "token": PASSWORD}},
    "an address in a field": {"backend": {"extra": {"callback": f"https://ada:{PASSWORD}@host"}}},
    "a system prompt": {"export": {"system_prompt": f"use {SECRET}"}},
    "another type": {"backend": {"rpm": SECRET}},
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_a_secret_is_refused_and_not_repeated(case: str, tmp_path: Path) -> None:
    """In one line that says where; nothing is written."""
    with pytest.raises(ConfigError) as caught:
        Run.open(tmp_path / "run", **TREES[case])
    told = str(caught.value)
    assert SECRET not in told
    assert PASSWORD not in told
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


FLAGS = [
    f"--api-key-env {SECRET}", f"--model {SECRET}", f"--base-url https://ada:{PASSWORD}@host/v1 --model m",
    f"--base-url http://localhost:1/v1?api_key={PASSWORD}", f"--role judge=m@https://ada:{PASSWORD}@host/v1",
    f"--set backend.extra.api_key={PASSWORD}", f"--set backend.server_args=['--api-key={PASSWORD}']",
    f"--set {SECRET}", f"--set {SECRET}=1", f"--dialect {SECRET}", f"--backend {SECRET}", f"--rpm {SECRET}",
    f"--recipe {SECRET}", f"--role {SECRET}=m", f"--role judge={SECRET}", f"--script {SECRET} --backend openai",
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_no_flag_leaves_a_secret_anywhere(flags: str, here: Path, selfinstruct: Say) -> None:
    """Neither on the screen nor on the disk."""
    said = selfinstruct("generate", *flags.split())
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert SECRET not in said.err + said.out
    assert PASSWORD not in said.err + said.out
    assert list(here.iterdir()) == []


def test_an_address_of_the_environment_is_looked_at_too(
    here: Path, selfinstruct: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in OPENAI_BASE_URL is refused, and nothing of the run is left."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://ada:{PASSWORD}@host/v1")
    said = selfinstruct("generate", "--backend", "openai", "--model", "gpt-4o-mini")
    assert said.code == 2
    assert PASSWORD not in said.err + said.out
    assert list((here / "outputs").iterdir()) == []


@pytest.mark.parametrize("tree", [
    {"backend": {"extra": {"prompt_cache_key": "a", "stop_token_ids": [1], "top_k": 3, "user": "ada"}}},
    {"backend": {"server_args": ["--tokenizer=x", "--max-model-len", "4096", "--api-key", "--enable-x"]}},
    {"backend": {"base_url": "http://localhost:8000/v1?api-version=2024-02",
                 "kind": "openai", "api_key_env": "MY_KEY"}},
    {"backend": {"api_key_env": ""}}, {"roles": {"token": {"model": "m"}}}, {"export": {"facets": {"token": ["a"]}}},
    {"seeds": "/home/hf_datasets_cache_2024/x", "export": {"system_prompt": "Basic information is enough."}},
])  # fmt: skip
def test_what_is_no_secret_is_taken(tree: dict[str, Any]) -> None:
    """Settings that only sound like one."""
    accept(RunConfig, tree, where="configuration")


NUMBERS = ["nan", "inf", "-inf", "1e400", "-1e400", "1" + "0" * 30, "-1" + "0" * 30, "0x" + "f" * 50, "1" + "0" * 5000]
KEYS = ["n", "seed", "window", "patience", "recipe.sampling.temperature", "recipe.sampling.top_p", "backend.timeout",
        "backend.rpm", "backend.extra.top_k", "backend.extra.a.b", "filters.rouge.threshold", "export.split_seed",
        "budget.cost", "budget.tokens", "backend.context", "backend.price_in", "recipe.demonstrations"]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:9])
@pytest.mark.parametrize("key", KEYS)
def test_a_number_that_is_none_is_refused(key: str, number: str) -> None:
    """Of every setting, also of those that only a recipe or a server knows."""
    with pytest.raises(ConfigError) as caught:
        accept(RunConfig, assignment(f"{key}={number}"), where="configuration")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["a\0b", "a\udc80", "\ud83d"])
@pytest.mark.parametrize("place", ["model", "base_url", "script", "kind", "api_key_env"])
def test_text_that_cannot_be_stored_is_refused(place: str, text: str) -> None:
    """A model's name of half a character, a path with a NUL."""
    with pytest.raises(ConfigError):
        accept(RunConfig, {"backend": {place: text}}, where="configuration")
    with pytest.raises(ConfigError):
        accept(RunConfig, {"backend": {"extra": {text: 1}}}, where="configuration")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = 1" + "0" * 5000, "a = 'b\n", "\0", "a." * 3000 + "b = 1"],
                         ids=["deep", "long", "open", "nul", "dots"])  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    """Whatever the reader of TOML stumbles over."""
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        accept(RunConfig, load(path), where="run.toml")
    assert "\n" not in str(caught.value)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=12,
))  # fmt: skip
def test_what_is_let_through_can_be_stored(tree: Any) -> None:
    """As JSON without NaN, in UTF-8, with numbers of 64 bits."""
    if not list(problems(tree)):
        json.dumps(tree, allow_nan=False, ensure_ascii=False).encode()
