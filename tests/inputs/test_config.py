"""What a run is told: who wins over whom, what is refused and how it is said, and that a run's own file runs again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import (
    MAY_CHANGE,
    BackendConfig,
    RunConfig,
    SandboxConfig,
    ToolsConfig,
    assignment,
    build,
    dialect_of,
    differences,
    dump,
    load,
    merge,
    unknown_name,
)
from tests.support.cli import answers, say, seeds

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a key misspelt": ({"ordred": True}, "unknown key `ordred`; did you mean `ordered`?"),
    "a key in a table": (
        {"backend": {"conurrency": 3}}, "unknown key `backend.conurrency`; did you mean `concurrency`?"),
    "a word for a number": ({"n": "many"}, "`n` = 'many': input should be a valid integer"),
    "true for a number": ({"n": True}, "`n` = True: input should be a valid integer"),
    "a half": ({"n": 1.5}, "`n` = 1.5: input should be a valid integer"),
    "none at all": ({"n": 0}, "`n` = 0: input should be greater than or equal to 1"),
    "a number for a word": ({"backend": {"model": 7}}, "`backend.model` = 7: input should be a valid string"),
    "a word for a list": ({"formats": "alpaca"}, "`formats` = 'alpaca': input should be a valid tuple"),
    "a value for a table": (
        {"backend": "openai"}, "`backend` = 'openai': input should be a valid dictionary or instance of BackendConfig"),
    "no such choice": (
        {"backend": {"dialect": "jazz"}}, "`backend.dialect` = 'jazz': input should be 'completion' or 'chat'"),
    "no time to wait": ({"backend": {"timeout": 0}}, "`backend.timeout` = 0: input should be greater than 0"),
    "a window in no order": ({"window": 8}, "`window` means something only with `ordered = true`"),
    "a scripted backend without its script": (
        {"backend": {"kind": "scripted"}}, "`backend`: a scripted backend needs `script`, a file of answers"),
    "a script for another backend": (
        {"backend": {"script": "a.jsonl"}},
        "`backend`: `script` is for kind `scripted`, not `llamacpp`: leave one of the two out"),
    "the embedded model elsewhere": (
        {"backend": {"base_url": "http://x/v1"}},
        "`backend`: `base_url` is for a server that is running: use kind `openai` (or `vllm`) with it"),
    "JSON from a completion": (
        {"backend": {"structured": True, "dialect": "completion"}},
        "`backend`: `structured` answers need the chat dialect"),
    "two at once": (
        {"n": 0, "sed": 1},
        "`n` = 0: input should be greater than or equal to 1; unknown key `sed`; did you mean `seed`?"),
}  # fmt: skip


@pytest.mark.parametrize(("tree", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(RunConfig, tree, where="run.toml")
    assert str(raised.value) == f"run.toml: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"n = = 3", "not TOML: Invalid value (at line 1, column 5)"),
        (b"\xff\xfen", "cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b'[backend]\nmodel = "a"\n[backend]\n', "not TOML: Cannot declare ('backend',) twice (at line 3, column 9)"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "run.toml")
    assert str(raised.value) == f"{tmp_path}/run.toml: {message}"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfn = 3")
    assert load(tmp_path / "run.toml") == {"n": 3}


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    assert str(unknown_name("poem", "sonet", ["ode", "sonnet"])) == (
        "unknown poem 'sonet'; did you mean sonnet? known: ode, sonnet"
    )


# -- trees
# ---------------------------------------------------------------------------------------------------------------

ASSIGNMENTS = {
    "n=5": {"n": 5},
    "a.b.c=0.5": {"a": {"b": {"c": 0.5}}},
    "a=true": {"a": True},
    "a=word": {"a": "word"},
    'a="7"': {"a": "7"},
    "a=[1, 2]": {"a": [1, 2]},
    "a={b = 1}": {"a": {"b": 1}},
    "a=Qwen/Qwen3-8B": {"a": "Qwen/Qwen3-8B"},
    "a=x=y": {"a": "x=y"},
    "a=": {"a": ""},
    "a = b": {"a": " b"},
}


@pytest.mark.parametrize(("text", "tree"), ASSIGNMENTS.items(), ids=ASSIGNMENTS)
def test_an_assignment_is_toml_or_a_bare_word(text: str, tree: dict[str, Any]) -> None:
    assert assignment(text) == tree


@pytest.mark.parametrize("text", ["n", "=5", "a..b=1", ".a=1", ""])
def test_an_assignment_without_a_key_or_a_value_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as key=value, such as"):
        assignment(text)


LEAVES = st.integers(0, 3)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)).filter(
    lambda tree: isinstance(tree, dict)
)


@given(TREES, TREES)
def test_what_is_merged_over_wins_and_nothing_else_changes(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
    assert {*merged} == {*base, *over}
    assert all(merged[key] == over[key] for key in over if not isinstance(over[key], dict))
    assert list(differences(base, base)) == []


def test_differences_are_named_by_their_dotted_keys() -> None:
    one, other = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert list(differences(one, other)) == [("a.c", 2, 4), ("d", 3, None), ("e", None, 5)]


SHORT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a recipe": ({"then": "alpaca"}, {"then": [{"name": "alpaca"}]}),
    "a table": ({"then": {"name": "alpaca"}}, {"then": [{"name": "alpaca"}]}),
    "places": ({"then": {"1": {"name": "b"}, "0": {"name": "a"}}}, {"then": [{"name": "a"}, {"name": "b"}]}),
    "a model": ({"roles": {"judge": "m"}}, {"roles": {"judge": [{"model": "m"}]}}),
    "models": ({"roles": {"judge": ["a", "b"]}}, {"roles": {"judge": [{"model": "a"}, {"model": "b"}]}}),
    "the judge": ({"judge": "m"}, {"roles": {"judge": [{"model": "m"}]}}),
    "a facet": ({"export": {"facets": {"x": "1"}}}, {"export": {"facets": {"x": ["1"]}}}),
}


@pytest.mark.parametrize(("short", "long"), SHORT.values(), ids=SHORT)
def test_a_name_alone_is_enough(short: dict[str, Any], long: dict[str, Any]) -> None:
    """Where the meaning is plain, a table or a list need not be written."""
    assert build(RunConfig, short, where="test") == build(RunConfig, long, where="test")


def test_a_further_place_joins_a_list() -> None:
    """`then.1.name` adds to what is named already."""
    tree = merge({"then": [{"name": "a"}]}, {"then": {"1": {"name": "b"}}})
    assert build(RunConfig, tree, where="test").recipes == ("self-instruct", "a", "b")


def test_what_may_change_is_made_of_settings_that_there_are() -> None:
    tables = {"": RunConfig.model_fields, "backend": BackendConfig.model_fields}
    tables["roles.*.*"] = tables["backend"]
    tables |= {"sandbox": SandboxConfig.model_fields, "tools": ToolsConfig.model_fields}
    for key in MAY_CHANGE:
        table, _, name = key.rpartition(".")
        assert name in tables[table]


@pytest.mark.parametrize(
    ("kind", "model", "dialect"),
    [
        ("llamacpp", "", "completion"),
        ("scripted", "anything", "completion"),
        ("vllm", "Qwen/Qwen3-8B", "chat"),
        ("vllm", "Qwen/Qwen3-8B-Base", "completion"),
        ("openai", "davinci-002", "completion"),
        ("openai", "gpt-4o-mini", "chat"),
    ],
)
def test_the_name_of_a_model_tells_its_dialect(kind: str, model: str, dialect: str) -> None:
    assert dialect_of(kind, model) == dialect


# -- end to end
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    seeds(tmp_path)
    answers(tmp_path)
    return tmp_path


def resolved(run: str) -> dict[str, Any]:
    return tomllib.loads(Path("outputs", run, "config.toml").read_text(encoding="utf-8"))


def test_flags_win_over_the_environment_over_the_file_over_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my.toml").write_text(
        'n = 1\nseeds = "seeds.jsonl"\nseed = 1\n[recipe.sampling]\ntop_p = 0.1\ntemperature = 0.1\nmax_tokens = 99\n'
        '[backend]\nscript = "answers.jsonl"\nmodel = "by-file"\n[filters.rouge]\nthreshold = 0.9\n'
    )
    monkeypatch.setenv("SELFINSTRUCT_GENERATE_SEED", "2")
    monkeypatch.setenv("SELFINSTRUCT_GENERATE_TEMPERATURE", "0.2")
    monkeypatch.setenv("SELFINSTRUCT_GENERATE_TOP_P", "0.2")
    flags = ("--temperature", "0.3", "--threshold", "0.8", "--set", "filters.rouge.threshold=0.75")
    said = say(capsys, "generate", "-c", "my.toml", "--run", "first", "--quiet", *flags)
    assert said.code == 0, said.err
    found = resolved("first")
    assert found["seed"] == 2
    assert found["recipe"]["sampling"] == {
        "max_tokens": 99, "temperature": 0.3, "top_p": 0.2, "presence_penalty": 2.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    assert (found["backend"]["kind"], found["backend"]["model"]) == ("scripted", "by-file")
    assert found["filters"]["rouge"]["threshold"] == 0.75
    assert found["recipe"]["demonstrations"] == 8


def test_every_setting_that_has_a_flag_has_an_environment_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"NUM_TASKS": "1", "SEEDS": "seeds.jsonl", "SCRIPT": "answers.jsonl", "MODEL": "abc"}.items():
        monkeypatch.setenv(f"SELFINSTRUCT_GENERATE_{name}", value)
    said = say(capsys, "generate", "--run", "first", "--quiet")
    assert said.code == 0, said.err
    assert (resolved("first")["n"], resolved("first")["backend"]["model"]) == (1, "abc")


@pytest.mark.parametrize("flags", [(), ("--strict",), ("--recipe", "alpaca"), ("--ordered",)], ids=" ".join)
def test_the_configuration_of_a_run_runs_again(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    task = (
        " Tell the time of the tide.\n4. Input: noon\n4. Output: Late.\n10. Compare a train with a bus on a long way."
    )
    base = ("--seeds", "seeds.jsonl", "--script", answers(folder, task), "-n", "1", "--quiet", "--concurrency", "1")
    one = say(capsys, "generate", *base, "--run", "one", *flags)
    assert one.code == 0, one.err
    other = say(capsys, "generate", "--config", "outputs/one/config.toml", "--run", "other", "--quiet")
    assert other.code == 0, other.err
    assert resolved("one") == resolved("other")
    assert Path("outputs/one/export/alpaca.json").read_bytes() == Path("outputs/other/export/alpaca.json").read_bytes()


def test_a_dumped_configuration_builds_itself() -> None:
    config = RunConfig(n=3, formats=("alpaca",), filters={"rouge": {"threshold": 0.5}})
    assert build(RunConfig, dump(config), where="test") == config
