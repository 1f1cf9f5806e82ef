"""With `strict = true` the recipes decide item for item as the published code does on the same answers (law 5)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selfinstruct.filters.rouge import Settings
from tests.recipes import published
from tests.support.recipes import POOL, Answers, first, instances, kept, state_of

laws = settings(deadline=None, max_examples=100)
finish = st.sampled_from(["stop", "stop", "stop", "length", "content_filter"])

# -- pieces that have tripped readers of such answers
# ------------------------------------------------------------------------------------------------

INSTRUCTIONS = st.sampled_from([
    "Describe what happened in 2016. Then say why.",
    "Describe what happened in the year\n2016. Then say why it did.",
    "Summarise the NASA report for McDonald's staff.",
    "Write a program that sorts numbers.",
    "write a program that sorts numbers.",
    "WRITE A PROGRAM that sorts numbers.",
    "Draw a cat on a wall.",
    "Drawing lessons are dear: say why.",
    "Go to the shop and buy milk.",
    "Compare the photographs and the mapping of both.",
    "Compose some music for a lonely video.",
    "Éclairs are French: explain how to bake them.",
    "Über den Fluss und in die Wälder gehen.",
    "写一首关于秋天的诗歌。",
    "(Choose) the odd one out below.",
    "¿Por qué sube la marea cada día?",
    "7 wonders of the world, please list.",
    "Too short this.",
    "Just four words here.",
    "",
    "   ",
    "Name five rivers that cross a border.",  # 6 of 7 words of the pool: above 0.7
    "Name three lakes near our border today.",
    "a b c d e f g x1 x2 x3",
    "a b c d e f g y1 y2 y3",  # 7 of 10 words of the one above: exactly 0.7, which passes
    "a b c d e f g h z1 z2",
    "Explain to a child why bread rises:",
    "Explain  to\ta child\nwhy iron rusts slowly.",
    "word " * 150,
    "word " * 151,
    "Ǆungla is a word that changes with capitals.",
    "ß begins this sentence of seven words.",
    "ﬁle the taxes of a small café.",
    "List all ﬁles and maps\u2028of the town.",
])  # fmt: skip
SEPARATORS = st.sampled_from([
    "\n10. ", "\n11. ", "\n11 . ", "\n12.", "\n13 ", "\n14) ", "\nTask 15. ", " 16. ", "\n\n", "\n- ", "\n٣. ",
    "\n3.  ", "\n4.\t", "\n5\u00a0. ",
])  # fmt: skip


USABLE = st.sampled_from([
    "Describe what happened in 2016. Then say why.", "Suggest names for a lighthouse boat.", "Explain how NASA began.",
    "Compare a canal with a river.", "Which of these four words does not belong?", "Compare a canal with the river.",
    "7 wonders of the world, please list.", "Turn this letter into a poem", "Add 3.14 to each\n number",
])  # fmt: skip
INSTRUCTION = st.one_of(USABLE, USABLE, INSTRUCTIONS)


@st.composite
def lists(draw: st.DrawFn) -> str:
    """An answer that goes on from `9.`."""
    parts = [draw(st.sampled_from(["", " ", "\n9. ", "Sure!\n1. "]))]
    separators = draw(st.sampled_from([st.just("\n10. "), SEPARATORS]))
    for _ in range(draw(st.integers(0, 9))):
        parts += [draw(INSTRUCTION), draw(separators)]
    return "".join([*parts, draw(INSTRUCTION)])


@laws
@given(lists(), finish)
@example(" a b c d e f g x1 x2 x3\n10. a b c d e f g y1 y2 y3", "stop")
def test_self_instruct_keeps_the_published_instructions(text: str, reason: str) -> None:
    outcomes, follow_ups = first(state_of("self-instruct", strict=True), Answers((text, reason)))
    assert kept(outcomes) == published.new_instructions(text, reason, POOL)
    assert [job.payload["instruction"] for job in follow_ups] == kept(outcomes)


@laws
@given(lists(), lists())
def test_what_one_answer_brought_counts_for_the_next(one: str, other: str) -> None:
    state = state_of("self-instruct", strict=True)
    before = kept(first(state, Answers(one))[0])
    after = kept(first(state, Answers(other))[0])
    assert before == published.new_instructions(one, "stop", POOL)
    assert after == published.new_instructions(other, "stop", [*POOL, *before])


@pytest.mark.parametrize(
    ("seven", "same"), [("a b c d e f g x1 x2 x3", True), ("a b c d e f g h x2 x3", False)], ids=["at 0.7", "above"]
)
def test_a_pair_at_exactly_the_threshold_passes(seven: str, same: bool) -> None:
    answer = f" {seven}\n10. a b c d e f g h y2 y3"
    assert Settings().threshold == 0.7
    outcomes, _ = first(state_of("self-instruct", strict=True), Answers(answer))
    assert (len(kept(outcomes)) == 2) is same
    assert kept(outcomes) == published.new_instructions(answer, "stop", POOL)


# -- instances
# ------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from([
    "", "a", "b", "a", "ends in a colon:", "The meeting is at 12:30", "Examples of fish: carp, eel",
    "For Example, this", "Output: 5", "Input: 3", "two\n\nlines",
    "see ### here", "Output 2 : x", "Input:", "<noinput>", "N/A", "étude 东",
])  # fmt: skip
MARKS = st.sampled_from([
    "Example 1\n", "Example 2\n", "Example 3.\n", "Example\n", "\nExample 4 ", "Example4.", "example 5\n", "Input: ",
    "\nInput:", "\nInput 2: ", "\nOutput: ", "\nOutput:", "\nOutput 3 :", "\nOutput\n:", "Output: ", "\nClass label: ",
    "Class label:", "Class label: yes\n", "class label: ", "\n", " ",
])  # fmt: skip
WORKED = st.lists(st.tuples(MARKS, TEXTS), max_size=14).map(lambda parts: "".join(map("".join, parts)))


@st.composite
def tidy(draw: st.DrawFn) -> str:
    """An answer in the form that was asked for, with odd texts in it."""
    classes, count = draw(st.booleans()), draw(st.integers(1, 8))
    form = "Class label: {0}\nInput: {1}\n" if classes else "Example {2}\nInput: {1}\nOutput: {0}\n"
    return "".join(form.format(draw(TEXTS), draw(TEXTS), i) for i in range(1, count + 1))


@laws
@given(
    st.one_of(WORKED, tidy()), st.sampled_from(["Yes", "yes", "YES", " Yes\n", "No", "yes.", "yEs", "", "Yes!"]), finish
)
def test_self_instruct_keeps_the_published_instances(text: str, said: str, reason: str) -> None:
    outcome = instances(state_of("self-instruct", strict=True), "Do it with care.", Answers(said, (text, reason)))
    expected = published.cases(text, reason, classification=published.is_classification(said))
    stayed = [(i.input, i.output) for i in outcome.sample.instances] if outcome.sample else []
    assert len(set(stayed)) == len(stayed) == min(5, len(expected))
    assert set(stayed) <= expected


# -- Alpaca
# ------------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["", "", "", "", "+1", "none", "space"])
OUTPUTS = st.sampled_from([
    "Yes.", "", "In 2020. That was it.", "# A title\n### A heading\ntext", "4. Input: 3", "ends in a colon:", "N/A",
    "Instruction: x\nInput: 3\nOutput: 5", "东京",
])  # fmt: skip
INPUTS = st.sampled_from(["<noinput>", "<NoInput>", "<NOINPUT>", "no input", "N/A", "", "a b\nc", "Input: x", "Yes."])


@st.composite
def triples(draw: st.DrawFn) -> str:
    """An answer that goes on from `4. Instruction:`, with slips in its numbers."""
    text, slips = [], draw(st.sampled_from([st.just(""), NUMBERS]))
    for position in range(draw(st.integers(1, 7))):
        number = 4 + position
        for name, content in (("Instruction", INSTRUCTION), ("Input", INPUTS), ("Output", OUTPUTS)):
            slip = draw(slips)
            mark = {"": f"{number}. ", "+1": f"{number + 1}. ", "none": "", "space": f"{number}.\n"}[slip]
            head = "" if (position, name) == (0, "Instruction") else f"{mark}{name}:"
            text.append(f"{head}{draw(st.sampled_from([' ', chr(10)]))}{draw(content)}\n")
        text.append(draw(st.sampled_from(["###\n", "###\n", "###\n", "###\n", "###", "\n", "##\n"])))
    return "".join(text)


@laws
@given(triples(), finish)
def test_alpaca_keeps_the_published_tasks(text: str, reason: str) -> None:
    outcomes, _ = first(state_of("alpaca", strict=True), Answers((text, reason)))
    found = [(s.instruction, s.instances[0].input, s.instances[0].output) for o in outcomes if (s := o.sample)]
    assert found == published.new_tasks(text, reason, shown=3, pool=POOL)


@pytest.mark.parametrize(("reason", "count"), [("stop", 3), ("length", 2)])
def test_the_law_is_not_kept_by_keeping_nothing(reason: str, count: int) -> None:
    tasks = ["Compare a canal with a river.", "Explain how NASA began.", "Turn this letter into a poem"]
    answer = "###\n".join(
        f"{i}. Instruction: {t}\n{i}. Input: a\n{i}. Output: b\n" for i, t in enumerate(tasks, start=4)
    )
    answer = answer.removeprefix("4. Instruction:")
    assert len(published.new_tasks(answer, reason, shown=3, pool=POOL)) == count
    assert len(kept(first(state_of("alpaca", strict=True), Answers((answer, reason)))[0])) == count
    listed = "\n10. ".join(tasks)
    found = published.new_instructions(listed, reason, POOL)
    assert found == kept(first(state_of("self-instruct", strict=True), Answers((listed, reason)))[0])
    assert len(found) == (3 if reason == "stop" else 0)


# -- what is sent
# ------------------------------------------------------------------------------------------------


def test_strict_self_instruct_asks_with_the_published_numbers() -> None:
    state = state_of("self-instruct", strict=True, demonstrations=4)
    ask = Answers(" Name one thing to do.", "No", "Output: x")
    first(state, ask)
    instances(state, "Do it with care.", ask)
    sent = [asked.sampling.model_dump(exclude_none=True, exclude={"extra"}) for asked in ask.asked]
    assert sent == [
        {"max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "presence_penalty": 2, "frequency_penalty": 0,
         "stop": ("\n\n", "\n12", "12.", "12 .")},
        {"max_tokens": 3, "temperature": 0, "stop": ("\n", "Task")},
        {"max_tokens": 350, "temperature": 0, "presence_penalty": 1.5, "stop": ("Example 6", "Task:")},
    ]  # fmt: skip


def test_strict_alpaca_asks_with_the_published_numbers() -> None:
    ask = Answers(" x")
    first(state_of("alpaca", strict=True), ask)
    assert ask.asked[0].sampling.model_dump(exclude_none=True, exclude={"extra"}) == {
        "max_tokens": 3072, "temperature": 1.0, "top_p": 1.0, "presence_penalty": 0, "frequency_penalty": 0,
        "stop": ("\n20", "20."),
    }  # fmt: skip
