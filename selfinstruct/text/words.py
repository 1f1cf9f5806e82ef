"""Text to words, the two ways this project counts them.

What it is: the tokenizers that ROUGE-L runs on, as functions from a text to a list of words. What it is not: a
tokenizer for models, or a stemmer. Why two: `rouge_tokens` is what every published pool of this lineage was
filtered with, and it knows nothing but a to z and 0 to 9, so that a Chinese text has no words and is similar to
nothing, not even to itself. `unicode_tokens` says the same of English, and sees the rest of the world too.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

_ASCII_WORD = re.compile("[a-z0-9]+")

# Invisible inside words (soft hyphen, joiners, byte-order mark): how a word is shown, not what it is.
_INVISIBLE = dict.fromkeys((0x00AD, 0x200C, 0x200D, 0x2060, 0xFEFF))

# Unicode blocks of the scripts written without spaces between words, where each character counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b"  # Han radicals, iteration marks, numerals
    "\u3040-\u312f\u31a0-\u31ff"  # Hiragana, Katakana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\ua000-\ua4cf\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff"  # Yi, Tangut, Khitan, old Kana, Nushu
)


def encodable(text: str) -> bool:
    """Whether text can be written as UTF-8: JSON's escapes can spell half a surrogate pair, which no encoding has."""
    if text.isascii():  # known without looking
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    r"""Text that can be written as UTF-8: half a surrogate pair, which JSON can carry, becomes a replacement character.

    >>> storable("\ud83d\ude00 and \ud83d")
    '😀 and �'
    """
    return text if encodable(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def rouge_tokens(text: str) -> list[str]:
    """The words of `text` as `rouge_score.tokenize.tokenize(text, None)` sees them.

    >>> rouge_tokens("Don't draw a naïve C++ 3.14")
    ['don', 't', 'draw', 'a', 'na', 've', 'c', '3', '14']
    """
    return _ASCII_WORD.findall(text.lower())


def unicode_tokens(text: str) -> list[str]:
    """The words of `text` in any script; exactly `rouge_tokens(text)` where the text is ASCII.

    Letter case, composed or decomposed accents and full-width forms make no difference. Apostrophes split words,
    as in ROUGE. Scripts written without spaces give one word a character, with its combining marks.

    >>> unicode_tokens("L’été à 東京")
    ['l', 'été', 'à', '東', '京']
    """
    if text.isascii():
        return rouge_tokens(text)
    return _word().findall(_folded(text.translate(_INVISIBLE)))


def _folded(text: str) -> str:
    """`text` without the differences of case and form; twice normalised, because folding may undo it ("ᾴ")."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@cache
def _word() -> re.Pattern[str]:
    """One word in any script: a run of letters, digits and their marks, or one character of an unspaced script.

    Made at first need, because asking Unicode for its combining marks (`re` has no class for them) takes 20 ms.
    """
    letters, marks = rf"[^\W_{_UNSPACED}]", f"[{_combining_marks()}]"
    return re.compile(rf"{letters}+(?:{marks}+{letters}*)*|(?![\W_])[{_UNSPACED}]{marks}*")


def _combining_marks() -> str:
    """All combining marks there are, one after another; none lies in the planes left out."""
    everywhere = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    return "".join(char for char in map(chr, everywhere) if unicodedata.category(char)[0] == "M")


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"rouge": rouge_tokens, "unicode": unicode_tokens}
