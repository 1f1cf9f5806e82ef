"""The two tokenizers: one is `rouge_score`'s to the letter, the other equals it on ASCII and sees every script."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score import tokenize

from selfinstruct.text.words import TOKENIZERS, rouge_tokens, unicode_tokens

ASCII = st.text(st.characters(max_codepoint=127))


@given(st.text())
@example("İSTANBUL")  # lower() makes two characters of the first
@example("300 \u212a")  # the Kelvin sign, whose lower() is an ASCII k
@example("a\x1fb\u00a0c\u2028d\n")
@example("x_y-z's")
def test_rouge_tokens_are_those_of_rouge_score(text: str) -> None:
    assert rouge_tokens(text) == tokenize.tokenize(text, None)


@given(ASCII)
def test_both_tokenizers_agree_on_ascii(text: str) -> None:
    assert unicode_tokens(text) == rouge_tokens(text)


@given(st.text())
def test_composed_and_decomposed_text_have_the_same_words(text: str) -> None:
    assert unicode_tokens(unicodedata.normalize("NFD", text)) == unicode_tokens(unicodedata.normalize("NFC", text))


@given(st.text())
def test_words_joined_by_spaces_are_the_same_words_again(text: str) -> None:
    words = unicode_tokens(text)
    assert unicode_tokens(" ".join(words)) == words


@given(ASCII, ASCII, st.sampled_from(["東京", "naïve", "हिन्दी", "ไทย", "한국어"]))
def test_ascii_words_stay_the_same_beside_other_scripts(before: str, after: str, other: str) -> None:
    expected = [*rouge_tokens(before), *unicode_tokens(other), *rouge_tokens(after)]
    assert unicode_tokens(f"{before} {other} {after}") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" …—!😀 ", []),
        ("Don't", ["don", "t"]),
        ("L’été à Paris", ["l", "été", "à", "paris"]),
        ("snake_case ünder_score", ["snake", "case", "ünder", "score"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("Σίσυφος ΣΊΣΥΦΟΣ", ["σίσυφοσ", "σίσυφοσ"]),
        ("Ёлка во дворе", ["ёлка", "во", "дворе"]),
        ("हिन्दी में लिखो", ["हिन्दी", "में", "लिखो"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("写一首诗。", ["写", "一", "首", "诗"]),
        ("東京タワーへ", ["東", "京", "タ", "ワ", "ー", "へ"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ｶﾞ ＡＢＣ１２", ["ガ", "abc12"]),
        ("用Python3写", ["用", "python3", "写"]),
        ("٣ نصوص", ["٣", "نصوص"]),
        ("\u0301 alone", ["alone"]),
        ("می\u200cخواهم co\u00adop", ["میخواهم", "coop"]),
    ],
)
def test_unicode_tokens_sees(text: str, words: list[str]) -> None:
    assert unicode_tokens(text) == words


def test_tokenizers_are_found_by_name() -> None:
    assert list(TOKENIZERS.items()) == [("rouge", rouge_tokens), ("unicode", unicode_tokens)]
