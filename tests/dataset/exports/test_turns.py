"""Conversations and calls of tools: how each format writes them, which hold none, and what trainers are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.dataset.exports import names, open_export
from selfinstruct.dataset.exports.base import ExportContext, Fields
from selfinstruct.dataset.files import export
from selfinstruct.records import Call, Check, Draft, Instance, Rival, Sample, Tool, Turn, conversation
from selfinstruct.store.ledger import Ledger
from tests.support.ledgers import STAGE, exported, ledger_of, lines, task

SETTING = ExportContext(Ledger(None, Path()))  # type: ignore[arg-type]
CHATS = ("messages", "prompt-completion", "sharegpt")
FLAT = ("alpaca", "dolly", "evol", "self-instruct", "text")

WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
CLOCK = Tool(name="clock")
TOOLS = (
    '[{"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}}}}}]'
)
CHAT = Instance(
    input="Köln",
    turns=(Turn(role="assistant", content="Cold.", reasoning="Hm."), Turn(role="user", content="And rain?")),
    output="None.",
    reasoning="Hmm.",
)
CALLED = Instance(
    turns=(
        Turn(role="assistant", content="I look.", calls=(Call(id="a1", tool="weather", arguments={"city": "Köln"}),)),
        Turn(role="tool", content="5 °C", call="a1"),
    ),
    output="It is cold.",
)
BOTH = Instance(
    turns=(
        Turn(role="assistant", content="", calls=(
            Call(id="a", tool="weather", arguments={"city": "Bonn"}), Call(id="b", tool="clock", arguments={}),
        )),
        Turn(role="tool", content="12:30", call="b"),
        Turn(role="tool", content="9 °C", call="a"),
    ),
    output="Mild.",
)  # fmt: skip
UNNAMED = Instance(
    turns=(
        Turn(role="assistant", content="", calls=(Call(tool="weather"), Call(tool="clock"))),
        Turn(role="tool", content="9 °C"),
        Turn(role="tool", content="12:30"),
    ),
    output="Mild.",
)
ENDS = Instance(turns=(Turn(role="assistant", content="", calls=(Call(id="a1", tool="clock"),)),))
MENDED = Instance(
    turns=(Turn(role="assistant", content="Warm.", train=False), Turn(role="user", content="Really?")), output="Cold."
)


def sample(*instances: Instance, **more: Any) -> Sample:
    return Sample(id="1.1", stage=STAGE, instruction="How is the weather?", instances=instances, **more)


def rows(name: str, one: Sample) -> list[Fields]:
    return list(open_export(name).rows(one, SETTING))


def said(role: str, content: str, **more: Any) -> Fields:
    return {"role": role, "content": content, **more}


def called(tool: str, arguments: Fields, **id: str) -> Fields:
    return {**id, "type": "function", "function": {"name": tool, "arguments": arguments}}


ASKED = said("user", "How is the weather?")
MESSAGES: dict[str, tuple[Instance, list[Fields]]] = {
    "chat": (CHAT, [
        said("user", "How is the weather?\nKöln"), said("assistant", "Cold."), said("user", "And rain?"),
        said("assistant", "None."),
    ]),
    "call": (CALLED, [
        ASKED, said("assistant", "I look.", tool_calls=[called("weather", {"city": "Köln"}, id="a1")]),
        said("tool", "5 °C", tool_call_id="a1", name="weather"), said("assistant", "It is cold."),
    ]),
    "calls": (BOTH, [
        ASKED,
        said("assistant", "", tool_calls=[called("weather", {"city": "Bonn"}, id="a"), called("clock", {}, id="b")]),
        said("tool", "12:30", tool_call_id="b", name="clock"), said("tool", "9 °C", tool_call_id="a", name="weather"),
        said("assistant", "Mild."),
    ]),
    "unnamed": (UNNAMED, [
        ASKED, said("assistant", "", tool_calls=[called("weather", {}), called("clock", {})]),
        said("tool", "9 °C", name="weather"), said("tool", "12:30", name="clock"), said("assistant", "Mild."),
    ]),
    "ends": (ENDS, [ASKED, said("assistant", "", tool_calls=[called("clock", {}, id="a1")])]),
    "mended": (MENDED, [
        ASKED, said("assistant", "Warm.", weight=0), said("user", "Really?"), said("assistant", "Cold."),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_are_what_templates_take(name: str) -> None:
    """Calls are objects, results name their call, thoughts stay out, and no key is there without use."""
    instance, expected = MESSAGES[name]
    assert rows("messages", sample(instance)) == [{"messages": expected}]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_completion_is_the_last_turn(name: str) -> None:
    """The prompt is all that was said before it."""
    instance, expected = MESSAGES[name]
    [row] = rows("prompt-completion", sample(instance))
    assert row == {"prompt": expected[:-1], "completion": expected[-1:]}


def spoken(role: str, value: str, **more: Any) -> Fields:
    return {"from": role, "value": value, **more}


SHAREGPT: dict[str, tuple[Instance, list[Fields]]] = {
    "chat": (CHAT, [
        spoken("human", "How is the weather?\nKöln"), spoken("gpt", "Cold."), spoken("human", "And rain?"),
        spoken("gpt", "None."),
    ]),
    "call": (CALLED, [
        spoken("human", "How is the weather?"),
        spoken("function_call", '{"name": "weather", "arguments": {"city": "Köln"}}'),
        spoken("observation", "5 °C"), spoken("gpt", "It is cold."),
    ]),
    "calls": (BOTH, [
        spoken("human", "How is the weather?"),
        spoken("function_call",
               '[{"name": "weather", "arguments": {"city": "Bonn"}}, {"name": "clock", "arguments": {}}]'),
        spoken("observation", "12:30\n9 °C"), spoken("gpt", "Mild."),
    ]),
    "ends": (ENDS, [
        spoken("human", "How is the weather?"), spoken("function_call", '{"name": "clock", "arguments": {}}'),
    ]),
    "mended": (MENDED, [
        spoken("human", "How is the weather?"), spoken("gpt", "Warm.", weight=0), spoken("human", "Really?"),
        spoken("gpt", "Cold."),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAREGPT)
def test_sharegpt_takes_turns_as_llama_factory_wants(name: str) -> None:
    """Calls of one turn are one value, and their results one observation."""
    instance, expected = SHAREGPT[name]
    [row] = rows("sharegpt", sample(instance))
    assert row == {"conversations": expected}
    odd, even = row["conversations"][::2], row["conversations"][1::2]
    assert {turn["from"] for turn in odd} <= {"human", "observation"}
    assert {turn["from"] for turn in even} <= {"gpt", "function_call"}
    assert len(odd) == len(even)


texts = st.text(max_size=5)
conversations = st.lists(
    st.builds(Turn, role=st.sampled_from(["user", "assistant"]), content=texts, train=st.booleans()), max_size=5
)


@given(conversations, st.text(min_size=1, max_size=5).filter(str.strip), texts)
def test_every_chat_tells_the_same_turns(turns: list[Turn], output: str, system: str) -> None:
    """What is said, and in which order, is that of the records."""
    instance = Instance(turns=tuple(turns), output=output)
    setting = SETTING._replace(system=system)
    one = sample(instance)
    [messages], [pair], [chat] = (open_export(name).rows(one, setting) for name in CHATS)
    told = [turn.content for turn in conversation(one, instance, system)]
    assert [turn["content"] for turn in messages["messages"]] == told
    assert [turn["content"] for turn in (*pair["prompt"], *pair["completion"])] == told
    assert [turn["value"] for turn in chat["conversations"]] == told


@pytest.mark.parametrize("name", CHATS)
def test_tools_are_a_column_of_json(name: str) -> None:
    """It is there where the sample has tools, and nowhere else."""
    [row] = rows(name, sample(CALLED, tools=(WEATHER,)))
    assert row["tools"] == TOOLS
    assert "tools" not in rows(name, sample(CALLED))[0]


def test_a_tool_without_arguments_has_a_schema() -> None:
    """Trainers look for its properties."""
    [row] = rows("messages", sample(CALLED, tools=(CLOCK,)))
    [tool] = json.loads(row["tools"])
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("name", [name for name in names() if name != "jsonl"])
def test_a_samples_own_system_prompt_wins(name: str) -> None:
    """The one asked for is for samples that have none."""
    kind = SETTING._replace(system="Be kind.")
    [row] = open_export(name).rows(sample(Instance(output="Cold."), system="Be brief."), kind)
    told = json.dumps(row)
    assert "Be brief." in told
    assert "Be kind." not in told


@pytest.mark.parametrize("name", FLAT)
def test_flat_formats_hold_single_exchanges_only(name: str) -> None:
    """An instance with turns is no row, nor one that offers tools."""
    assert len(rows(name, sample(CHAT, Instance(output="Cold."), CALLED, ENDS))) == 1
    assert rows(name, sample(Instance(output="Cold."), tools=(WEATHER,))) == []


def test_jsonl_keeps_all_of_a_sample(tmp_path: Path) -> None:
    """Thoughts, rivals, scores, checks, tools: what is there is written."""
    instance = CHAT.model_copy(
        update={"score": 0.5, "rivals": (Rival(output="Wet.", score=0.1),), "checks": (Check(kind="exact", text="x"),)}
    )
    draft = Draft(
        stage=STAGE, instruction="How?", instances=(instance,), system="Be brief.", tools=(WEATHER,), family="9.1",
        facets={"topic": "sky"}, meta={"is_classification": False},
    )  # fmt: skip
    exported(ledger_of(tmp_path / "run", draft), "jsonl", to=tmp_path)
    [row] = lines(tmp_path / "samples.jsonl")
    assert [Instance.model_validate(one) for one in row["instances"]] == [instance]
    assert (row["system"], row["family"], row["facets"]) == ("Be brief.", "9.1", {"topic": "sky"})
    assert [Tool.model_validate(one) for one in row["tools"]] == [WEATHER]
    assert row["is_classification"] is False


# -- what is left out


def draft(*instances: Instance, **more: Any) -> Draft:
    return Draft(stage=STAGE, instruction="How is the weather?", instances=instances, **more)


def test_what_is_left_out_is_told_by_reason(tmp_path: Path) -> None:
    """Conversations, tools and missing outputs are counted each apart, by the formats that lack them."""
    run = ledger_of(
        tmp_path / "run", draft(CHAT), task("Bare."), draft(CALLED, tools=(WEATHER,)), task("Sum.", ("", "3")),
        draft(Instance(output="Cold."), tools=(WEATHER,)),
    )  # fmt: skip
    told: list[str] = []
    with Ledger.open(run) as ledger:
        export(ledger, STAGE, ["alpaca", "messages"], tmp_path / "data", notice=told.append)
    assert told == [
        "alpaca: 2 samples with several turns left out: 1.1, 3.1",
        "alpaca: 1 sample without an output left out: 2.1",
        "alpaca: 1 sample with tools left out: 5.1",
        "messages: 1 sample without an output left out: 2.1",
    ]
    assert len(lines(tmp_path / "data/alpaca.jsonl")) == 1
    assert len(lines(tmp_path / "data/messages.jsonl")) == 4


# -- what trainers are told


def entries(folder: Path, name: str, *drafts: Draft) -> tuple[Fields, Fields]:
    """Of LLaMA-Factory and of Axolotl, for a format alone."""
    exported(ledger_of(folder / "run", *drafts), name, to=folder / name)
    path = folder / name / "dataset_info.json"
    info = json.loads(path.read_text()) if path.exists() else {}
    [axolotl] = yaml.safe_load((folder / name / "axolotl.yaml").read_text())["datasets"]
    return info.get(name, {}), axolotl


def test_sharegpts_entries_tell_roles_and_tools(tmp_path: Path) -> None:
    """The roles of calls and results, and the column of tools, are named where there are any."""
    info, axolotl = entries(tmp_path, "sharegpt", task("Sum.", ("", "3")), draft(CALLED, tools=(WEATHER,)))
    assert info["columns"] == {"messages": "conversations", "tools": "tools"}
    assert info["tags"] == {
        "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
        "system_tag": "system", "function_tag": "function_call", "observation_tag": "observation",
    }  # fmt: skip
    assert axolotl["field_tools"] == "tools"
    assert axolotl["roles"] == {
        "system": ["system"], "user": ["human"], "assistant": ["gpt", "function_call"], "tool": ["observation"],
    }  # fmt: skip
    assert "message_field_training" not in axolotl


def test_llama_factory_is_told_of_no_messages_with_calls(tmp_path: Path) -> None:
    """Its reader of them alters system prompts; `sharegpt` is the format that it reads calls in."""
    info, axolotl = entries(tmp_path, "messages", draft(CALLED, tools=(WEATHER,)))
    assert info == {}
    assert (axolotl["type"], axolotl["field_tools"]) == ("chat_template", "tools")


@pytest.mark.parametrize("name", ["messages", "sharegpt"])
def test_axolotl_is_told_which_turns_to_train(tmp_path: Path, name: str) -> None:
    """The key is named in its entry, for it looks for none by itself."""
    _, axolotl = entries(tmp_path, name, task("Sum.", ("", "3")), draft(MENDED))
    assert axolotl["message_field_training"] == "weight"


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_conversations_are_read_back(tmp_path: Path, kind: str) -> None:
    """Rows of one file differ in their keys: what a row lacks comes back as nothing, and nothing is lost."""
    import datasets

    run = ledger_of(tmp_path / "run", task("Sum.", ("", "3")), draft(CALLED, tools=(CLOCK,)), draft(MENDED))
    [written] = exported(run, "messages", file_type=kind)
    reader = "parquet" if kind == "parquet" else "json"
    read = datasets.load_dataset(reader, data_files=str(written.path), split="train", cache_dir=str(tmp_path / "c"))
    expected = [rows("messages", one)[0] for one in (
        sample(Instance(output="3")).model_copy(update={"instruction": "Sum."}), sample(CALLED, tools=(CLOCK,)),
        sample(MENDED),
    )]  # fmt: skip
    assert [present(row) for row in read] == expected


def present(value: Any) -> Any:
    """The same without what is nothing."""
    if isinstance(value, list):
        return [present(one) for one in value]
    if isinstance(value, dict):
        return {name: present(one) for name, one in value.items() if one is not None}
    return value
