"""What a model thought is told apart from what it said, and nothing of either is lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfinstruct.records import Completion
from selfinstruct.text.thoughts import MARKS, Marks, Split, split

PIECES = [word for marks in MARKS for words in marks for word in words]
TEXTS = st.lists(st.sampled_from([*PIECES, "`", "```\n", "\n", " ", '"', "a", "B.", "~~~ x\n"]) | st.text(max_size=3))


@given(TEXTS.map("".join))
@example("\ufeff <think>a</think>b")
@example("<think>`</think>")
def test_no_character_is_lost(text: str) -> None:
    """The parts of a text, put together again, are the text, and so is `Completion.whole`."""
    parts = split(text)
    answer = Completion(
        text=parts.text, reasoning=parts.reasoning, reasoning_from=parts.where, marks=parts.marks, tail=parts.tail
    )
    assert "".join((parts.marks[0], parts.reasoning, parts.marks[1], parts.text, parts.tail)) == text
    assert answer.whole == text
    assert parts.where or parts == Split("", text)


@given(st.text(st.characters(exclude_characters="<[◁")))
def test_a_text_without_marks_is_an_answer(text: str) -> None:
    """Nothing is taken for a thought where no mark is."""
    assert split(text) == Split("", text)


THINKING = [
    ("<think>a</think>b", "tags", "a", "b"),
    ("\n <think>\na\n</think>\n\nb", "tags", "\na\n", "\n\nb"),
    ("<think>\n\n</think>\n\nb", "tags", "\n\n", "\n\nb"),
    ("<Thinking>a</THINKING>b", "tags", "a", "b"),
    ("<think>a</think>", "tags", "a", ""),
    ("<think>a</think>\n<think>c</think>b", "tags", "a</think>\n<think>c", "b"),
    ("<think>a <think>c</think> d</think>b", "tags", "a <think>c</think> d", "b"),
    ("<think>I see `</think>` there.\n</think>b", "tags", "I see `</think>` there.\n", "b"),
    ("<think>a</thinking>\n</think>b", "tags", "a</thinking>\n", "b"),
    ("<think>so </think> and so", "tags", "so ", " and so"),
    ("<think>```py\nx\n</think>\n```\ny\n```", "tags", "```py\nx\n", "\n```\ny\n```"),
    ("a\n</think>\n\nb", "closing_tag", "a\n", "\n\nb"),
    ("Okay.</think>b", "closing_tag", "Okay.", "b"),
    ("</think>b", "closing_tag", "", "b"),
    ("Okay. </think> B", "closing_tag", "Okay. ", " B"),
    ('I say "Yes"</think>"Yes"', "closing_tag", 'I say "Yes"', '"Yes"'),
    ("With <think>x</think> in it.\n</think>\nb", "closing_tag", "With <think>x</think> in it.\n", "\nb"),
    ("```py\nx\n</think>\nHere:\n```py\ny\n```", "closing_tag", "```py\nx\n", "\nHere:\n```py\ny\n```"),
    ("<think>a", "open_tag", "a", ""),
    ("<think>How does `</think>` work? I wo", "open_tag", "How does `</think>` work? I wo", ""),
    ("<think>a</think>\n<think>b", "open_tag", "a</think>\n<think>b", ""),
    ("a</think><think>b", "open_tag", "a</think><think>b", ""),
]


@pytest.mark.parametrize(("text", "where", "reasoning", "answer"), THINKING)
def test_thoughts_are_told_apart(text: str, where: str, reasoning: str, answer: str) -> None:
    """Thoughts are found with either mark missing, in a row, and where they speak of marks."""
    assert split(text)[:3] == (reasoning, answer, where)


AGAIN = [
    ("<think>a</think>\nb\n<think>c</think>", "a", "\nb\n"),
    ("<think>a</think>\nb\n<think>c</think>\n", "a", "\nb\n"),
    ("<think>a</think>\nb\n  <think>\nc", "a", "\nb\n  "),
    ("<think>a</think>\nb\n<think>c</think>\nd", "a</think>\nb\n<think>c", "\nd"),
    ("<think>a</think>\nb\n<think>c</think>\nd\n<think>e</think>", "a</think>\nb\n<think>c", "\nd\n"),
    ("a\n</think>\nb\n<think>c</think>", "a\n", "\nb\n"),
    ("<think>a</think>Write `<think>` first, <think> then.", "a", "Write `<think>` first, <think> then."),
    ("<think>a</think>\n```\n<think>\nb\n</think>\n```\n", "a", "\n```\n<think>\nb\n</think>\n```\n"),
    ("<think>a</think>\nb <reasoning>c</reasoning> d", "a", "\nb <reasoning>c</reasoning> d"),
]


@pytest.mark.parametrize(("text", "reasoning", "answer"), AGAIN)
def test_a_model_may_think_again(text: str, reasoning: str, answer: str) -> None:
    """After it has thought, what stands between marks on lines of their own is no part of what it says."""
    assert split(text)[:2] == (reasoning, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [("b", "b"), ("\n</think>\n\nb", "\n\nb"), ("<think>a</think>b", "b"), ("b\n<think>c</think>\nd", "\nd"),
     ("b\n<think>c</think>", "b\n"), ("b <think> is a mark", "b <think> is a mark")],
)  # fmt: skip
def test_of_a_model_known_to_think(text: str, answer: str) -> None:
    """Where the server told thoughts, marks in the text stand for thoughts too, the first pair in it as well."""
    assert split(text, thinks=True).text == answer


HONEST = [
    "An answer.",
    "Close it with `</think>`, and go on.",
    "Models end their thoughts with </think>, which is a token.",
    "The </think> tag closes what <think> has opened.",
    "- </think> closes it",
    'It is written "</think>" there.',
    "Man schreibt „</think>“ ans Ende.",
    "标签「</think>」表示结束。",
    'answer = text.split("</think>")[-1]',
    "In Python:\n\n```python\nhead, _, tail = text.partition(\n</think>\n)\n```\n",
    "~~~html\n<p>\n</think>\n~~~\n",
    "It looks so:\n<think>\nplan\n</think>\nand that is all.",
    "<result><reasoning>It rains.</reasoning><score>4</score></result>",
    "Here is HTML: <p>a</p>, <b>b</b>, [x] and </thinker>.",
]


@pytest.mark.parametrize("text", HONEST)
def test_marks_that_are_meant_stay(text: str) -> None:
    """An answer that speaks of marks, in code, quotes or a sentence, or that holds a pair of them, is an answer."""
    assert split(text) == Split("", text)


FORMS = [
    ("[THINK]a[/THINK]b", ("[THINK]", "[/THINK]")),
    ("◁think▷a◁/think▷b", ("◁think▷", "◁/think▷")),
    ("<reasoning>a</reasoning>b", ("<reasoning>", "</reasoning>")),
    ("<seed:think>a</seed:think>b", ("<seed:think>", "</seed:think>")),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ),
    ("a<|channel|>final<|message|>b", ("", "<|channel|>final<|message|>")),
]


@pytest.mark.parametrize(("text", "marks"), FORMS)
def test_marks_of_every_model_are_known(text: str, marks: tuple[str, str]) -> None:
    """The marks are told as they were written."""
    assert split(text) == Split("a", "b", "tags" if marks[0] else "closing_tag", marks)


def test_a_persons_own_marks_are_taken() -> None:
    """A table of one's own takes the place of ours."""
    own = (Marks(("Überlegung:",), ("Antwort:",)),)
    assert split("überlegung: a Antwort: b", own) == Split(" a ", " b", "tags", ("überlegung:", "Antwort:"))
    assert split("<think>a</think>b", own).where == ""


HOSTILE = ["<think>", "</think>", "x<think></think>", "<think>`</think>`", "```a\n</think>\n", "~~~\n<think>", "`", "<",
           "a </think> a", '"</think>"', "<think> \n", "<|end|><|start|>assistant", "x</thinking>", " \t"]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hard_texts_are_read_in_time(piece: str) -> None:
    """Texts of 300,000 characters, made to be hard, take seconds at most; read quadratically they took minutes."""
    long = piece * (300_000 // len(piece))
    began = time.process_time()
    split(long)
    split(f"<think>{long}")
    assert time.process_time() - began < 10
