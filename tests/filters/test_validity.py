"""Which instructions are usable: each rule at its boundary, in any script, and which rule speaks first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.errors import ConfigError
from selfinstruct.filters import open_filter, resolve
from selfinstruct.filters.validity import BANNED_WORDS
from selfinstruct.inputs.config import RunConfig
from selfinstruct.recipes import alpaca
from selfinstruct.recipes.chain import Chain
from selfinstruct.records import Draft, Reason, Seed
from selfinstruct.run.told import resolve as resolve_run

ANY_SCRIPT = {"start": "any_script", "words": "unicode"}


def reason(instruction: str, **settings: Any) -> str:
    verdict = open_filter("validity", settings).judge(Draft(stage="instructions", instruction=instruction))
    assert verdict.keep is (verdict.reason == Reason.PASSED)
    return str(verdict.reason)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(0, "empty_instruction"), (1, "too_short"), (3, "too_short"), (4, "passed"), (150, "passed"), (151, "too_long")],
)
@pytest.mark.parametrize("settings", [{}, ANY_SCRIPT], ids=["as published", "any script"])
def test_an_instruction_has_4_to_150_words(words: int, expected: str, settings: dict[str, str]) -> None:
    assert reason(" ".join(["word"] * words), **settings) == expected


CASES = {
    "Name all the maps.": "banned_word",
    "Name all the MAPS.": "banned_word",
    "Go to the nearest shop.": "banned_word",
    "Go  to the nearest shop.": "passed",  # published: one blank
    "Name all mapmakers of Venice.": "passed",
    "Describe a photograph of it.": "passed",
    "Write a program to sort.": "asks_for_program",
    "write A PROGRAM to sort.": "asks_for_program",
    "Please write a program today.": "passed",
    "Write a programme for May.": "asks_for_program",
    "(Pick) one of these four.": "starts_with_punctuation",
    '"Pick" one of these four.': "starts_with_punctuation",
    "$5 is how much today?": "starts_with_punctuation",
    "2 and 2 make what?": "passed",
    "Éclairs are baked how exactly?": "starts_with_non_ascii",
    "Wie heißt der längste Fluss?": "passed",
    "¿Cuál es el río más largo?": "starts_with_non_ascii",
    "“Pick” one of these four.": "starts_with_non_ascii",
}


@pytest.mark.parametrize(("instruction", "expected"), CASES.items(), ids=CASES)
def test_the_published_rules(instruction: str, expected: str) -> None:
    assert reason(instruction) == expected


SCRIPTS = {
    "写一首关于秋天的诗。": "passed",
    "写一首诗": "passed",
    "写诗吧": "too_short",
    "诗" * 151: "too_long",
    "اكتب قصيدة عن فصل الخريف": "passed",
    "اكتب قصيدة قصيرة": "too_short",
    "Übersetze den Satz ins Englische.": "passed",
    "¿Cuál es el río más largo?": "passed",
    "¡Escribe un poema sobre el mar!": "passed",
    "「秋」についての詩を書いてください。": "starts_with_punctuation",
    "“Pick” one of these four.": "starts_with_punctuation",
    "🍁 Write about the autumn.": "starts_with_punctuation",
    "शरद ऋतु पर एक कविता लिखें।": "passed",
    "٣ أسئلة عن تاريخ المدينة": "passed",
    "Name all the maps.": "banned_word",
}


@pytest.mark.parametrize(("instruction", "expected"), SCRIPTS.items(), ids=[text[:20] for text in SCRIPTS])
def test_instructions_in_any_script(instruction: str, expected: str) -> None:
    assert reason(instruction, **ANY_SCRIPT) == expected


@pytest.mark.parametrize(
    ("words", "instruction", "expected"),
    [
        (["图片"], "请描述这张图片里的人。", "banned_word"),
        (["图片"], "请描述这张照片里的人。", "passed"),
        (["Bild"], "Beschreibe das BILD im Flur.", "banned_word"),
        (["Bild"], "Beschreibe die Bildung in Rom.", "passed"),
        (["über uns"], "Was steht dort über uns?", "banned_word"),
        (["!"], "What is it called again!", "passed"),
    ],
)
def test_banned_words_are_found_in_any_script(words: list[str], instruction: str, expected: str) -> None:
    assert reason(instruction, banned_words=words, **ANY_SCRIPT) == expected


def test_a_verdict_tells_what_it_saw() -> None:
    judge = open_filter("validity", {}).judge
    details = [
        judge(Draft(stage="x", instruction=text)).detail
        for text in ("Too few.", "Draw me a sheep.", "- Name it at once.")
    ]
    assert details == [{"words": 2}, {"word": "Draw"}, {"character": "-"}]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("#Draw it", "too_short"),
        ("#Draw it all again", "banned_word"),
        ("Write a program with maps", "banned_word"),
        ("Écrire sur la map", "banned_word"),
    ],
)
def test_the_rules_speak_in_the_published_order(instruction: str, expected: str) -> None:
    assert reason(instruction) == expected


@pytest.mark.parametrize(
    ("settings", "instruction", "expected"),
    [
        ({"programs": "exact"}, "write a program that sorts", "passed"),
        ({"programs": "allowed"}, "Write a program that sorts", "passed"),
        ({"banned_words": []}, "Draw me a small sheep", "passed"),
        ({"min_words": 0}, "Sing", "passed"),
        ({"max_words": 5, "min_words": 5}, "Sing me a long song", "passed"),
    ],
)
def test_each_setting_changes_its_rule(settings: dict[str, Any], instruction: str, expected: str) -> None:
    assert reason(instruction, **settings) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"min_words": 9, "max_words": 8},
            "filters.validity: min_words 9 is more than max_words 8: nothing would pass",
        ),
        ({"banned_words": [""]}, "filters.validity: `banned_words.0` = '': string should have at least 1 character"),
        ({"min_word": 9}, "filters.validity: unknown key `min_word`; did you mean `min_words`?"),
        ({"words": "letters"}, "filters.validity: `words` = 'letters': input should be 'spaces' or 'unicode'"),
        ({"min_words": True}, "filters.validity: `min_words` = True: input should be a valid integer"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve("validity", settings)
    assert str(raised.value) == message


def test_the_banned_words_are_those_of_the_lineage() -> None:
    assert (len(BANNED_WORDS), len(alpaca.BANNED_WORDS)) == (13, 18)


@given(st.text(), st.sampled_from([{}, ANY_SCRIPT]))
def test_every_text_has_a_verdict(text: str, settings: dict[str, str]) -> None:
    reason(text, **settings)


# -- the language of the seeds decides
# ----------------------------------------------------------------------------------------

LANGUAGES = {
    "German": (["Übersetze den Satz ins Englische.", "Nenne drei Flüsse in Europa."], "unicode"),
    "Chinese": (["写一首关于秋天的诗。", "把这句话翻译成英文。"], "unicode"),
    "Arabic": (["اكتب قصيدة عن فصل الخريف", "ترجم هذه الجملة"], "unicode"),
    "English": (["Name three rivers that cross a border.", "Translate it into French."], "rouge"),
    "English with one accent": (["Name three rivers that cross a border."] * 20 + ["Name a café."], "rouge"),
}


@pytest.mark.parametrize(("texts", "tokenizer"), LANGUAGES.values(), ids=LANGUAGES)
def test_the_language_of_the_seeds_chooses_how_words_are_told(texts: list[str], tokenizer: str) -> None:
    seeds = [Seed(id=str(i), instruction=text) for i, text in enumerate(texts)]
    filters = resolve_run(RunConfig(), Chain.of(RunConfig()), seeds).filters
    assert filters["rouge"]["tokenizer"] == tokenizer
    assert filters["validity"]["words"] == {"rouge": "spaces", "unicode": "unicode"}[tokenizer]


def test_what_the_person_sets_wins_over_the_language_of_the_seeds() -> None:
    config = RunConfig(filters={"rouge": {"tokenizer": "rouge"}})
    filters = resolve_run(config, Chain.of(config), [Seed(id="1", instruction="写一首关于秋天的诗。")]).filters
    assert (filters["rouge"]["tokenizer"], filters["validity"]["words"]) == ("rouge", "unicode")
