"""One scripted conversation for each recipe and dialect, to be read like a transcript."""

from __future__ import annotations

import json

import pytest

from selfinstruct.errors import Refused
from selfinstruct.records import Job, Reason, Turn
from tests.support.recipes import POOL, Answers, first, instances, kept, play, reasons, state_of

TOO_LONG = Refused("prompt_too_long", "the prompt has 5,000 tokens, the model reads 4,096")


def test_self_instruct_in_completions() -> None:
    state = state_of("self-instruct")
    ask = Answers(
        " Decide whether the letter is a complaint.\n10. Name three rivers that cross a border!\n11. Why?\n",
        " Yes", "Class label: complaint\nLetter: It broke.\nClass label: praise\nLetter: It holds.",
    )  # fmt: skip
    outcomes, [follow_up] = first(state, ask)
    assert reasons(outcomes) == ["passed", "near_duplicate", "too_short"]
    assert outcomes[1].verdicts[-1].detail == {"of": "s1", "score": 1.0}
    prompt = ask.asked[0].text
    assert prompt.endswith("\n4.")
    assert sum(f". {text}\n" in prompt for text in POOL) == 3
    assert (follow_up.stage, follow_up.parent) == ("instances", "1.1")

    [task], none = state.settle(follow_up, play(state.perform(follow_up, ask)))
    assert task.sample is not None
    assert none == []
    assert task.sample.parent == "1.1"
    assert task.sample.meta == {"is_classification": True}
    assert [(i.input, i.output) for i in task.sample.instances] == [
        ("Letter: It broke.", "complaint"), ("Letter: It holds.", "praise"),
    ]  # fmt: skip
    assert "Task: Decide whether the letter is a complaint.\n" in ask.asked[1].text
    assert ask.asked[2].text.endswith("Task: Decide whether the letter is a complaint.\n")


def test_self_instruct_in_chat() -> None:
    ask = Answers(
        "Here are some tasks:\n\n1. **Plan a walk along three canals.**\n2) Explain how locks\n   lift a boat.\n",
        "No, it is not.",
        "Of course! Here you go.\n\n**Example 1**\n**Input:** a flat boat\n**Output:** It rises.\n\n"
        "Example 2: Input: a raft\nOutput: It rises too.\nInput: spare\n",
    )
    state = state_of("self-instruct", dialect="chat")
    outcomes, [one, other] = first(state, ask)
    assert kept(outcomes) == ["Plan a walk along three canals.", "Explain how locks lift a boat."]
    assert [type(turn) for turn in ask.asked[0].prompt] == [Turn, Turn]
    assert [turn.role for turn in ask.asked[0].prompt if isinstance(turn, Turn)] == ["system", "user"]
    assert ask.asked[0].sampling.stop == ()

    [task], _ = state.settle(other, play(state.perform(other, ask)))
    assert task.sample is not None
    assert [(i.input, i.output) for i in task.sample.instances] == [
        ("a flat boat", "It rises."), ("a raft", "It rises too."),
    ]  # fmt: skip
    assert ask.asked[1].sampling.max_tokens == 16
    assert one.payload == {"instruction": "Plan a walk along three canals."}


def test_self_instruct_in_structured_chat() -> None:
    ask = Answers(
        '```json\n{"tasks": ["Plan a walk along\\nthree canals.", "Draw a lock.", 7, null]}\n```',
        '{"is_classification": true}',
        '{"instances": [{"output": "calm", "input": "No wind."}, {"output": 5, "input": null}, "odd", {"input": "x"}]}',
    )
    state = state_of("self-instruct", dialect="chat", structured=True)
    outcomes, [job] = first(state, ask)
    assert reasons(outcomes) == ["passed", "too_short", "unparseable", "unparseable"]
    [task], _ = state.settle(job, play(state.perform(job, ask)))
    assert task.sample is not None
    assert [(i.input, i.output) for i in task.draft.instances] == [
        ("No wind.", "calm"), ("", "5"), ("", "odd"), ("x", ""),
    ]  # fmt: skip
    assert [i.output for i in task.sample.instances] == ["calm", "5", "odd"]
    assert [asked.schema["required"] for asked in ask.asked if asked.schema] == [
        ["tasks"], ["is_classification"], ["instances"],
    ]  # fmt: skip


def test_alpaca_in_completions() -> None:
    ask = Answers(
        " Count the vowels in the word.\n4. Input:\nlighthouse\n4. Output:\n5\n###\n"
        "5. Instruction: Tell what the program prints.\n5. Input:\n<noinput>\n5. Output:\nFor\nInput: 3\nOutput: 9\n"
        "###\n"
        "Instruction: Name a colour of the sea.\nInput: N/A\nOutput: Grey.\n###\n7. Instruction: Say noth"
    )
    outcomes, follow_ups = first(state_of("alpaca"), ask)
    samples = [outcome.sample for outcome in outcomes]
    assert reasons(outcomes) == ["passed", "passed", "passed", "unparseable"]
    assert [(s.instruction, s.instances[0].input, s.instances[0].output, s.meta) for s in samples if s] == [
        ("Count the vowels in the word.", "lighthouse", "5", {}),
        ("Tell what the program prints.", "", "For\nInput: 3\nOutput: 9", {}),
        ("Name a colour of the sea.", "", "Grey.", {"recovered": True}),
    ]
    assert outcomes[3].draft.meta == {"answer": "7. Instruction: Say noth"}
    assert follow_ups == []
    assert ask.asked[0].text.endswith("###\n4. Instruction:")


def test_alpaca_in_chat() -> None:
    ask = Answers(
        "Sure!\n\n###\n4. Instruction: Count the vowels in the word.\n4. Input:\nlighthouse\n4. Output:\n5\n###\n"
        "**5. Instruction:** Name a colour of the sea.\n**5. Input:** <noinput>\n**5. Output:** Grey.\n###"
    )
    outcomes, _ = first(state_of("alpaca", dialect="chat"), ask)
    found = [(s.instruction, s.instances[0].input, s.instances[0].output) for o in outcomes if (s := o.sample)]
    assert found == [("Count the vowels in the word.", "lighthouse", "5"), ("Name a colour of the sea.", "", "Grey.")]


def test_alpaca_in_structured_chat() -> None:
    tasks = [{"instruction": "Count the  vowels in it.", "input": "lake", "output": 2}, {"instruction": "Go."}, "odd"]
    outcomes, _ = first(state_of("alpaca", dialect="chat", structured=True), Answers(json.dumps({"tasks": tasks})))
    assert reasons(outcomes) == ["passed", "too_short", "unparseable"]
    assert outcomes[0].sample is not None
    assert outcomes[0].sample.instances[0].output == "2"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", Reason.EMPTY_ANSWER),
        (" \n\t", Reason.EMPTY_ANSWER),
        ("I cannot help with that.", Reason.UNPARSEABLE),
        (('{"tasks": ["Plan a wal', "length"), Reason.TRUNCATED),
        (("<think>What could one", "length"), Reason.TRUNCATED),
    ],
)
@pytest.mark.parametrize("recipe", ["self-instruct", "alpaca"])
def test_an_answer_that_cannot_be_read_is_one_draft_with_its_reason(
    recipe: str, answer: str | tuple[str, str], reason: Reason
) -> None:
    outcomes, _ = first(state_of(recipe, dialect="chat", structured=True), Answers(answer))
    assert reasons(outcomes) == [reason]
    assert outcomes[0].draft.meta == {"answer": answer if isinstance(answer, str) else answer[0]}


def test_instances_that_cannot_be_read_are_one_draft_with_its_reason() -> None:
    outcome = instances(state_of("self-instruct"), "Do it with care.", Answers("No", "There is nothing to say."))
    assert outcome.verdicts[-1].reason == Reason.UNPARSEABLE
    assert outcome.draft.meta == {"is_classification": False, "answer": "There is nothing to say."}


def test_a_cut_answer_loses_its_last_instance() -> None:
    answer = "Example 1\nInput: a\nOutput: b\nExample 2\nInput: c\nOutput: d and"
    outcome = instances(state_of("self-instruct"), "Do it with care.", Answers("No", (answer, "length")))
    assert outcome.sample is not None
    assert [i.output for i in outcome.sample.instances] == ["b"]
    assert [(drop.place, drop.reason) for drop in outcome.verdicts[-1].instance_drops] == [(1, Reason.TRUNCATED)]


@pytest.mark.parametrize("recipe", ["self-instruct", "alpaca"])
def test_a_prompt_that_is_too_long_shows_fewer_demonstrations(recipe: str) -> None:
    ask = Answers(TOO_LONG, " Count the vowels in the word.\n2. Input: x\n2. Output: y")
    outcomes, _ = first(state_of(recipe), ask)
    long, short = (asked.text for asked in ask.asked)
    assert long.rstrip().endswith(("4.", "4. Instruction:"))
    assert short.rstrip().endswith(("2.", "2. Instruction:"))
    assert reasons(outcomes)[0] == "passed"


def test_a_prompt_that_is_too_long_with_one_demonstration_is_a_refusal() -> None:
    with pytest.raises(Refused):
        first(state_of("self-instruct"), Answers(TOO_LONG, TOO_LONG))


def test_another_refusal_is_not_tried_with_fewer() -> None:
    with pytest.raises(Refused, match="filtered"):
        first(state_of("alpaca"), Answers(Refused("content_filter", "filtered")))


def test_kept_instructions_are_shown_from_the_second_prompt_on() -> None:
    state = state_of("self-instruct", kept_demonstrations=2)
    first(state, Answers(" Plan a walk along three canals.\n10. Explain how locks lift a boat."))
    state.settle(Job(state.jobs + 1, "instances", {"instruction": "Say it."}, "1.1"), [])
    job = state.plan()
    assert job is not None
    assert sorted(job.shown)[:2] == ["1.1", "1.2"]
    assert len(job.shown) == 3


def test_alpaca_shows_only_seeds() -> None:
    state = state_of("alpaca", demonstrations=4)
    first(state, Answers(" Count the vowels in the word.\n4. Input: x\n4. Output: y"))
    job = state.plan()
    assert job is not None
    assert sorted(job.shown) == ["s1", "s2", "s3", "s4"]
