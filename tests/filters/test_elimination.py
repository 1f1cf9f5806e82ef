"""Which evolutions have failed: each rule at its boundary, each setting, in any script, and which rule speaks first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.errors import ConfigError
from selfinstruct.filters import open_filter, resolve
from selfinstruct.filters.elimination import LEAKS, STOP_WORDS
from selfinstruct.records import Draft, Instance, Reason, Sample, Verdict

PROMPTS = Path(__file__).parents[2] / "prompts" / "evol-instruct" / "operators"
PARENT = "Name three rivers of Europe."


def words(count: int) -> str:
    return " ".join(f"w{i}" for i in range(count))


def verdict(draft: Draft, **settings: Any) -> Verdict:
    found = open_filter("elimination", settings).judge(draft)
    assert found.keep is (found.reason == Reason.PASSED) or found.reason == Reason.UNCLEAR_JUDGEMENT
    return found


def evolved(child: str, parent: str = PARENT, *, limits: tuple[int, int] | None = None, **settings: Any) -> Verdict:
    """The word on an evolved task."""
    meta = {"evolved_from": parent, **({"added_words": list(limits)} if limits else {})}
    return verdict(Draft(stage="evolve", instruction=child, meta=meta), **settings)


def answered(answer: str, *, judgement: str | None = None, truncated: bool = False, **settings: Any) -> Verdict:
    """The word on an evolved task with its answer."""
    meta = {"evolved_from": PARENT, **({"judgement": judgement} if judgement else {})}
    meta |= {"truncated": True} if truncated else {}
    draft = Draft(stage="answer", instruction="Do it.", instances=(Instance(output=answer),), meta=meta)
    return verdict(draft, **settings)


# -- an evolved task: leaked words
# ----------------------------------------------------------------------------------------------------------------------

LEAKED = {
    "Name three rivers as the given prompt says.": "given prompt",
    "#Rewritten Prompt#: name three rivers.": "rewritten prompt",
    "##REWRITTEN PROMPT## Name three rivers.": "rewritten prompt",
    "Name three rivers.#Created Prompt#": "created prompt",
    "Do the Given Task with more care.": "given task",
    "Name three rivers.\n#Rewritten Task#\nName four.": "rewritten task",
    "A created task: name three rivers.": "created task",
    "#Task To Rewrite#\nName three rivers.": "task to rewrite",
    "#Inspiring Task#\nName three rivers.": "inspiring task",
    "#Inspired Task#\nName three rivers.": "inspired task",
    "Name three rivers.\nHarder task: Name four.": "harder task:",
    "Name three rivers.\nSister task: Name four lakes.": "sister task:",
    "Turn it into a rewritten promptbook.": "rewritten prompt",  # plain substrings
    "Name three tasks given to prompt engineers.": None,
    "Why is a harder task more fun?": None,
    "Write a prompt for a task.": None,
}


@pytest.mark.parametrize(("child", "word"), LEAKED.items(), ids=LEAKED)
def test_words_of_the_prompt_have_leaked(child: str, word: str | None) -> None:
    found = evolved(child)
    assert (str(found.reason), found.detail) == (("leaked_prompt", {"word": word}) if word else ("passed", {}))


def headings(pattern: str, dialect: str) -> set[str]:
    """What stands above a task in the prompts that ship."""
    texts = [path.read_text(encoding="utf-8") for path in PROMPTS.glob(f"*.{dialect}.md")]
    return {found for text in texts for found in re.findall(pattern, text, re.MULTILINE)}


def test_every_heading_of_the_prompts_that_ship_is_a_leak() -> None:
    found = headings(r"^#[^#\n]+#$", "chat") | headings(r"^\w+ task:", "completion")
    assert len(found) >= 6
    assert [heading for heading in found if evolved(f"Name it. {heading}").reason != "leaked_prompt"] == []


@given(word=st.sampled_from(LEAKS), before=st.text(), after=st.text(), capitals=st.sampled_from([str.upper, str.title]))
def test_a_leak_is_found_wherever_it_stands_and_however_it_is_written(
    word: str, before: str, after: str, capitals: Any
) -> None:
    assert evolved(f"{before}{capitals(word)}{after}").reason == "leaked_prompt"


def test_what_the_parent_said_already_is_no_leak() -> None:
    parent, child = "Improve the given prompt.", "Improve the GIVEN PROMPT below, in one sentence."
    assert evolved(child, parent).reason == "passed"
    assert evolved(child, parent, parent_words=False).reason == "leaked_prompt"
    assert evolved(f"{child} #Rewritten Prompt#", parent).detail == {"word": "rewritten prompt"}


def test_leaked_words_are_a_setting() -> None:
    child = "Überarbeitete Aufgabe: nenne drei Flüsse. #Rewritten Task#"
    assert evolved(child, leaked_words=["ÜBERARBEITETE aufgabe"]).detail == {"word": "überarbeitete aufgabe"}
    assert evolved(child, leaked_words=[]).reason == "passed"


# -- an evolved task: what was added
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "child",
    [PARENT, "name THREE rivers, of europe!", "  Name three\nrivers of “Europe”", "Name three rivers of Europe"],
)
def test_the_words_of_the_parent_in_their_order_are_nothing_new(child: str) -> None:
    found = evolved(child)
    assert (found.reason, found.detail) == ("no_information_gain", {"judgement": "unchanged"})
    assert evolved(child, unchanged=False).reason == "passed"


def test_another_order_or_another_word_is_something_new() -> None:
    assert evolved("Of Europe, name three rivers.").reason == "passed"
    assert evolved("Name four rivers of Europe.").reason == "passed"


def test_in_scripts_without_spaces_the_characters_are_compared() -> None:
    assert evolved("写一首关于秋天的诗！", "写一首关于秋天的诗。").reason == "no_information_gain"
    assert evolved("写一首关于冬天的诗。", "写一首关于秋天的诗。").reason == "passed"


ADDED = {
    (0, 10): "passed", (-1, 10): "too_few_added_words", (30, 10): "passed", (31, 10): "too_many_added_words",
    (10, 0): "passed", (9, 0): "too_few_added_words", (20, 0): "passed", (21, 0): "too_many_added_words",
    (5, 5): "passed", (4, 5): "too_few_added_words", (25, 5): "passed", (26, 5): "too_many_added_words",
}  # fmt: skip
"""Words added and tolerance, to limits of 10 and 20."""


@pytest.mark.parametrize(("added", "tolerance", "reason"), [(*key, reason) for key, reason in ADDED.items()])
def test_an_operator_adds_as_many_words_as_it_says_within_the_tolerance(
    added: int, tolerance: int, reason: str
) -> None:
    parent = words(20)
    child = f"{words(20 + added)[3:]} w0"
    found = evolved(child, parent, limits=(10, 20), tolerance=tolerance)
    assert str(found.reason) == reason
    assert (
        found.detail
        == {
            "passed": {},
            "too_few_added_words": {"added": added, "fewest": 10},
            "too_many_added_words": {"added": added, "most": 20},
        }[reason]
    )
    assert evolved(child, parent, limits=(10, 20), tolerance=tolerance, added_words=False).reason == "passed"
    assert evolved(child, parent, tolerance=tolerance).reason == "passed", (
        "an operator without limits adds what it likes"
    )


@given(before=st.integers(1, 60), after=st.integers(0, 120), fewest=st.integers(0, 40), room=st.integers(0, 40),
       tolerance=st.integers(0, 20))  # fmt: skip
def test_added_words_are_what_the_child_has_more(
    before: int, after: int, fewest: int, room: int, tolerance: int
) -> None:
    limits = (fewest, fewest + room)
    parent, child = words(before), " ".join(["new"] * after)
    found = evolved(child, parent, limits=limits, tolerance=tolerance).reason == "passed"
    assert found is (limits[0] - tolerance <= after - before <= limits[1] + tolerance)


def test_added_words_are_counted_in_any_script() -> None:
    parent = "写一首关于秋天的诗。"
    assert evolved(f"{parent}不超过十二行，每行提到一种颜色。", parent, limits=(10, 20), tolerance=0).reason == "passed"
    found = evolved(f"{parent}用韵。", parent, limits=(10, 20), tolerance=0)
    assert found.detail == {"added": 2, "fewest": 10}


# -- an answer
# ----------------------------------------------------------------------------------------------------------------------

REFUSALS = {
    "Sorry, that I cannot do.": 5,
    "I'm SORRY.": 2,
    "I am sorry: no.": 4,
    "#Sorry#": 1,
    f"sorry {words(78)}": 79,
    f"sorry {words(79)}": None,
    f"{words(79)} Sorry": None,
    f"{words(78)} unsorryful": 79,  # plain substrings
    "The Rhine, the Elbe and the Danube.": None,
}


@pytest.mark.parametrize(("answer", "count"), REFUSALS.items(), ids=[text[-24:] for text in REFUSALS])
def test_an_answer_that_is_sorry_in_fewer_than_80_words_refuses(answer: str, count: int | None) -> None:
    found = answered(answer)
    expected = ("passed", {}) if count is None else ("refusal", {"marker": "sorry", "words": count})
    assert (str(found.reason), found.detail) == expected


@given(count=st.integers(1, 120), most=st.integers(0, 120))
def test_how_short_a_refusal_is_is_a_setting(count: int, most: int) -> None:
    found = answered(f"sorry {words(count - 1)}", refusal_words=most)
    assert (found.reason == "refusal") is (count < most)


def test_markers_of_refusal_are_a_setting() -> None:
    markers = ["as an AI", "tut mir leid"]
    assert answered("As an ai, I do not.", refusal_markers=markers).detail["marker"] == "as an ai"
    assert answered("Es TUT mir Leid.", refusal_markers=markers).detail["marker"] == "tut mir leid"
    assert answered("Sorry, no rivers.", refusal_markers=markers).reason == "passed"
    assert answered("Sorry, no rivers.", refusal_markers=[]).reason == "passed"


@pytest.mark.parametrize(
    "answer", ["", " \n", ".", "?!…", "* * *", "---", "。！", "The.", "It is what it is.", "the, and - of", "So, this?"]
)
def test_an_answer_of_punctuation_and_stop_words_has_no_content(answer: str) -> None:
    assert answered(answer).reason == "no_content"
    assert answered(answer, content=False).reason == "passed"


@pytest.mark.parametrize("answer", ["No.", "Not so.", "42", "π", "The Rhine.", "はい", "Да", "print(1)"])
def test_an_answer_with_one_word_that_says_something_has_content(answer: str) -> None:
    assert answered(answer).reason == "passed"


@given(st.lists(st.sampled_from([*sorted(STOP_WORDS), ".", ", ", "!", "\n", "-"])))
def test_stop_words_in_any_order_have_no_content(said: list[str]) -> None:
    assert answered(" ".join(said)).reason == "no_content"


def test_further_stop_words_are_a_setting() -> None:
    assert answered("Das ist es.", stop_words=["das", "IST", "es"]).reason == "no_content"
    assert answered("这是", stop_words=["这是"]).reason == "no_content"
    assert answered("It is.", stop_words=["das"]).reason == "no_content", "beside the English ones"
    assert answered("Das ist es.").reason == "passed"


def test_an_answer_that_was_cut_is_not_kept() -> None:
    assert answered("The Rhine, the", truncated=True).reason == "truncated"
    rules = open_filter("elimination", {"truncated": False})
    cut = Draft(stage="answer", instruction="x", instances=(Instance(output="The Rhine"),), meta={"truncated": True})
    assert rules.judge(cut).keep


# -- the judge
# ----------------------------------------------------------------------------------------------------------------------


def test_what_the_judge_calls_equal_is_dropped_with_or_without_an_answer() -> None:
    found = answered("The Rhine.", judgement="equal")
    assert (found.reason, found.detail) == ("no_information_gain", {"judgement": "equal"})
    unanswered = Draft(stage="answer", instruction="Do it.", meta={"judgement": "equal"})
    assert verdict(unanswered).reason == "no_information_gain"
    assert answered("The Rhine.", judgement="equal", information_gain=False).reason == "passed"
    assert answered("The Rhine.", judgement="not_equal").reason == "passed"


def test_an_unclear_judgement_is_kept_as_such_or_dropped() -> None:
    kept = answered("The Rhine.", judgement="unclear")
    assert (kept.keep, kept.reason) == (True, "unclear_judgement")
    dropped = answered("The Rhine.", judgement="unclear", unclear="drop")
    assert (dropped.keep, dropped.reason) == (False, "unclear_judgement")
    assert answered("Sorry.", judgement="unclear").reason == "refusal"


# -- which rule speaks first, and what is no rule
# ----------------------------------------------------------------------------------------------------------------------


def test_the_first_fault_is_the_reason() -> None:
    assert evolved("given prompt", "Given task.", limits=(50, 60), tolerance=0).reason == "leaked_prompt"
    assert evolved(PARENT, limits=(10, 20), tolerance=0).reason == "no_information_gain"
    assert answered("Sorry.", judgement="equal", truncated=True).reason == "no_information_gain"
    assert answered("Sorry.", judgement="unclear", truncated=True, unclear="drop").reason == "unclear_judgement"
    assert answered("Sorry.", truncated=True).reason == "truncated"
    assert answered("sorry, it is", stop_words=["sorry"]).reason == "refusal"


@given(st.text(), st.text(), st.text())
def test_an_evolution_is_judged_beside_its_parent_alone(child: str, parent: str, other: str) -> None:
    rules = open_filter("elimination", {})
    draft = Draft(stage="evolve", instruction=child, meta={"evolved_from": parent})
    before = rules.judge(draft)
    rules.remember(Sample(id="1.1", stage="evolve", instruction=other))
    rules.remember(Sample(id="2.1", stage="evolve", instruction=child))
    assert rules.judge(draft) == before


def test_a_draft_of_another_recipe_is_judged_by_its_answer() -> None:
    draft = Draft(stage="instances", instruction="Do it.", instances=(Instance(output="Sorry."),))
    assert verdict(draft).reason == "refusal"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": -1}, "filters.elimination: `tolerance` = -1: input should be greater than or equal to 0"),
        ({"stop_words": "der"}, "filters.elimination: `stop_words` = 'der': input should be a valid tuple"),
        ({"unclear": "ask"}, "filters.elimination: `unclear` = 'ask': input should be 'keep' or 'drop'"),
        ({"leaked_word": []}, "filters.elimination: unknown key `leaked_word`; did you mean `leaked_words`?"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve("elimination", settings)
    assert str(raised.value) == message
