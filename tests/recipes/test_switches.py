"""Each improvement over the published behaviour, alone, changes exactly what it says."""

from __future__ import annotations

from typing import Any

import pytest

from selfinstruct.errors import ConfigError
from selfinstruct.inputs.config import BackendConfig
from selfinstruct.recipes import alpaca, find, self_instruct
from tests.support.recipes import Answers, evolution, first, instances, kept, planned, reasons, settled, state_of

Answer = str | tuple[str, str]
CUT = "length"
LONG = "Describe the NASA report."
SECOND = "Suggest names for a lighthouse boat."

INSTRUCTIONS: list[tuple[str, Answer, list[str], list[str]]] = [
    (
        "keep_before_truncation",
        (f" {LONG}\n10. {SECOND}\n11. Give three reas", CUT),
        [LONG, SECOND],
        [],
    ),
    ("keep_capitals", f" {LONG}", [LONG], ["Describe the nasa report."]),
    ("any_script", " Übersetze den Satz ins Englische.", ["Übersetze den Satz ins Englische."], []),
    (
        "skip_thinking",
        f"<think>Hm. First\n1. Think about what is wanted.\n</think> {LONG}",
        [LONG],
        ["Think about what is wanted. </think> Describe the NASA report."],
    ),
]  # fmt: skip
"""Switch, answer to the list prompt, what is kept with it and without it, all other switches on."""


@pytest.mark.parametrize(("switch", "answer", "on", "off"), INSTRUCTIONS, ids=[case[0] for case in INSTRUCTIONS])
def test_a_switch_changes_which_instructions_are_kept(
    switch: str, answer: Answer, on: list[str], off: list[str]
) -> None:
    for value, expected in ((True, on), (False, off)):
        state = state_of("self-instruct", switches={switch: value})
        assert kept(first(state, Answers(answer))[0]) == expected


INSTANCES: list[tuple[str, str, Answer, list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        "anchored_markers",
        "No",
        "Example 1\nInput: fish\nOutput: Many. Examples: carp, eel",
        [("fish", "Many. Examples: carp, eel")],
        [("fish", "Many."), ("", "s: carp, eel")],
    ),
    ("any_yes", "Yes, it is.", "Class label: good\nInput: fish", [("fish", "good")], []),
    (
        "normalise_noinput",
        "No",
        "Input: None\nOutput: fish",
        [("", "fish")],
        [("None", "fish")],
    ),
    (
        "skip_thinking",
        "<think>Is it? No.</think>Yes",
        "<think>Example 1, say.</think>Class label: good",
        [("", "good")],
        [("", "<think>"), ("", ", say.</think>Class label: good")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("switch", "said", "answer", "on", "off"), INSTANCES, ids=[case[0] for case in INSTANCES])
def test_a_switch_changes_which_instances_are_kept(
    switch: str, said: str, answer: Answer, on: list[tuple[str, str]], off: list[tuple[str, str]]
) -> None:
    for value, expected in ((True, on), (False, off)):
        # Without anchored markers the word "Example" in a thought is one, which makes it visible.
        switches = {"anchored_markers": switch != "skip_thinking", switch: value}
        outcome = instances(state_of("self-instruct", switches=switches), "Do it.", Answers(said, answer))
        stayed = outcome.sample.instances if outcome.sample else ()
        assert [(i.input, i.output) for i in stayed] == expected, f"{switch} = {value}"


def whole(*fields: str, number: int = 4) -> str:
    """A task as Alpaca's list has it."""
    return "".join(f"{number}. {n}: {f}\n" for n, f in zip(("Instruction", "Input", "Output"), fields, strict=True))


TASKS: list[tuple[str, str, list[tuple[str, str, str]], list[tuple[str, str, str]]]] = [
    (
        "recover_numbering",
        f" {LONG}\n4. Input: x\n5. Output: y\n###\n" + whole(SECOND, "<noinput>", "# One\n### Two", number=5),
        [(LONG, "x", "y"), (SECOND, "", "# One\n### Two")],
        [(SECOND, "", "# One")],
    ),
    ("any_script", whole("Übersetze den Satz ins Englische.", "Ja.", "Yes.")[15:],
     [("Übersetze den Satz ins Englische.", "Ja.", "Yes.")], []),
    ("any_case_program", whole("write a program that sorts.", "x", "y")[15:], [],
     [("write a program that sorts.", "x", "y")]),
    ("normalise_noinput", whole(LONG, "N/A", "y")[15:], [(LONG, "", "y")], [(LONG, "N/A", "y")]),
    ("check_instances", whole(LONG, "x", "The answer is:")[15:], [], [(LONG, "x", "The answer is:")]),
    ("skip_thinking", "<think>4. Output: no</think>" + whole(LONG, "x", "y")[15:], [(LONG, "x", "y")],
     []),
]  # fmt: skip


@pytest.mark.parametrize(("switch", "answer", "on", "off"), TASKS, ids=[case[0] for case in TASKS])
def test_a_switch_changes_which_tasks_are_kept(
    switch: str, answer: str, on: list[tuple[str, str, str]], off: list[tuple[str, str, str]]
) -> None:
    for value, expected in ((True, on), (False, off)):
        outcomes, _ = first(state_of("alpaca", switches={switch: value}), Answers(answer))
        found = [(s.instruction, s.instances[0].input, s.instances[0].output) for o in outcomes if (s := o.sample)]
        assert found == expected, f"{switch} = {value}"


@pytest.mark.parametrize(
    ("recipe", "on", "off"),
    [
        ("self-instruct", ("\n\n", "\n11."), ("\n\n", "\n11", "11.", "11 .")),
        ("alpaca", ("\n20.",), ("\n20", "20.")),
    ],
)
def test_anchored_stops_stop_at_the_start_of_a_line_only(recipe: str, on: tuple[str], off: tuple[str]) -> None:
    for value, stops in ((True, on), (False, off)):
        ask = Answers(" x")
        first(state_of(recipe, switches={"anchored_stops": value}), ask)
        assert ask.asked[0].sampling.stop == stops


def test_anchored_stops_hold_for_instances_too() -> None:
    for value, stops in ((True, ("\nExample 6", "\nTask:")), (False, ("Example 6", "Task:"))):
        ask = Answers("No", "Output: x")
        instances(state_of("self-instruct", switches={"anchored_stops": value}), "Do it.", ask)
        assert ask.asked[1].sampling.stop == stops


RIVERS = "Name three rivers of Europe."
MORE = f"{RIVERS} Say which of the three is the longest, and where it ends."
EVOLVED: list[tuple[str, str, str, list[Answer], list[str], list[Answer], list[str]]] = [
    ("tidy", "deepen", RIVERS, [f"#New Task#\n{MORE}", "Not equal", " Rhine. "], [MORE, "Rhine."],
     [f"#New Task#\n{MORE}", "Not equal", " Rhine. "], [f"#New Task#\n{MORE}", " Rhine. "]),
    ("skip_thinking", "deepen", RIVERS,
     [f"<think>Hm.</think>{MORE}", "<think>Equal?</think>Not equal", "<think>So</think>Rhine."], [MORE, "Rhine."],
     [f"<think>Hm.</think>{MORE}", "<think>So</think>Equal"], ["no_information_gain"]),
    ("unchanged", "deepen", RIVERS, [RIVERS.upper()], ["no_information_gain"],
     [RIVERS.upper(), "Not equal", "Rhine."], [RIVERS.upper(), "Rhine."]),
    ("bounded_words", "deepen", RIVERS, [f"{MORE} {MORE} {MORE}"], ["too_many_added_words"],
     [f"{MORE} {MORE} {MORE}", "Not equal", "Rhine."], [f"{MORE} {MORE} {MORE}", "Rhine."]),
    ("breadth_by_index", "in_breadth", RIVERS, ["Name four rivers of Europe."], ["near_duplicate"],
     ["Name four rivers of Europe.", "Not equal", "Rhine."], ["Name four rivers of Europe.", "Rhine."]),
    ("complete_answers", "deepen", RIVERS, [(MORE, CUT)], ["truncated"],
     [(MORE, CUT), "Not equal", ("The Rhine and", CUT)], [MORE, "The Rhine and"]),
    ("parent_words", "deepen", "Mend the given prompt.",
     [f"Mend the given prompt. {MORE}", "Not equal", "So."], ["no_content"],
     [f"Mend the given prompt. {MORE}"], ["leaked_prompt"]),
]  # fmt: skip
"""Switch, operator, task, answers and what becomes of them with it; answers and what becomes of them without it: the
evolved task and its answer, or the reason why there is none."""


@pytest.mark.parametrize(
    ("switch", "operator", "task", "with_it", "on", "without", "off"), EVOLVED, ids=[case[0] for case in EVOLVED]
)
def test_a_switch_changes_what_an_evolution_brings(
    switch: str, operator: str, task: str, with_it: list[Answer], on: list[str], without: list[Answer], off: list[str]
) -> None:
    for value, answers, expected in ((True, with_it, on), (False, without, off)):
        state = evolution(task, operators=operator, rounds=1, switches={switch: value})
        outcome, follow_ups, _ = settled(state, planned(state), answers[0])
        if follow_ups:
            outcome, _, _ = settled(state, follow_ups[0], *answers[1:])
        found = outcome.sample
        assert ([found.instruction, found.instances[0].output] if found else reasons([outcome])) == expected


def test_a_plain_join_is_a_newline_where_there_is_an_input() -> None:
    for value, task in ((True, RIVERS), (False, f"{RIVERS}\r\n")):
        assert planned(evolution(RIVERS, switches={"plain_join": value})).payload["task"] == task


@pytest.mark.parametrize("recipe", [self_instruct, alpaca])
def test_strict_is_all_switches_off(recipe: Any) -> None:
    options = recipe.Options(strict=True)
    assert not any(options.switches.model_dump().values())
    assert all(recipe.Options().switches.model_dump().values())


def test_no_switch_is_without_a_case() -> None:
    tested = {
        "self-instruct": {
            "anchored_stops",
            *(c[0] for c in INSTRUCTIONS),
            *(c[0] for c in INSTANCES),
        },
        "alpaca": {"anchored_stops", *(c[0] for c in TASKS)},
        "evol-instruct": {"plain_join", *(c[0] for c in EVOLVED)},
    }
    assert {name: set(type(find(name).Options().switches).model_fields) for name in tested} == tested


def test_a_switch_beside_strict_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"strict turns every switch off, but switches\.any_yes is on"):
        state_of("self-instruct", strict=True, switches={"any_yes": True})


def test_strict_reads_completions_only() -> None:
    assert BackendConfig().dialect is None
    with pytest.raises(ConfigError, match=r"recipe\.strict: .* add --dialect completion"):
        state_of("alpaca", dialect="chat", strict=True)


def test_an_instruction_lost_to_truncation_says_so() -> None:
    outcomes, _ = first(state_of("self-instruct"), Answers((f" {LONG}\n10. Give three reas", CUT)))
    assert reasons(outcomes) == ["passed", "truncated"]
