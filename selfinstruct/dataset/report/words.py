"""The root verb of an instruction and its direct noun object, as in figure 2 of Self-Instruct (arXiv 2212.10560).

What it is: a reading of English orders ("Write a short story about …": write, story) by a lexicon of word forms
(lemminflect) and the order of words. What it is not: a parser; the paper used one, whose weights are a download of
hundreds of megabytes. docs/report.md says how often it is right. Of other languages it takes the first word and the
next longer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from selfinstruct.text.words import unicode_tokens

ENGLISH = frozenset(("the", "of", "to", "and", "for", "is", "with", "that", "what", "how"))
"""Words that make a tenth to a third of any English text, and next to nothing of any other."""
ENGLISH_SHARE = 0.08
LONGER = 4
"""Letters from which on a word of an unknown language is taken for one that says something."""

_TOKEN = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.?!:;])\s+|\n+")

_ARTICLES = frozenset(("a", "an", "the", "this", "these", "those", "my", "your", "his", "our", "their", "its", "her"))
_DETERMINERS = _ARTICLES | {"every", "each", "some", "any", "all", "both", "another", "no", "one"}
_PERSONS = frozenset(("me", "us", "him", "them", "you", "her"))
_PARTICLES = frozenset(("out", "up", "down", "off", "back", "away", "over"))
_PREPOSITIONS = frozenset((
    "about", "above", "across", "after", "against", "along", "among", "around", "as", "at", "before", "behind",
    "below", "between", "beyond", "by", "during", "except", "for", "from", "in", "inside", "into", "like", "near",
    "on", "onto", "outside", "per", "regarding", "since", "through", "throughout", "to", "toward", "towards", "under",
    "until", "upon", "using", "via", "with", "within", "without", "together",
))  # fmt: skip
_CLAUSES = frozenset((
    "that", "which", "who", "whom", "whose", "what", "when", "where", "why", "how", "whether", "if", "because", "so",
    "while", "than", "then", "it", "they", "he", "she", "we", "i", "is", "are", "was", "were", "be", "been", "do",
    "does", "did", "has", "have", "had", "can", "could", "will", "would", "shall", "should", "may", "might", "must",
    "not", "there", "here", "everything", "something", "anything", "nothing", "someone", "anyone",
))  # fmt: skip
_FINITE = frozenset(
    ("is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "or")
)
"""What a noun may be followed by and an order is not."""
_JOINERS = frozenset((",", "and", "or", "but"))
_GIVING = frozenset(("give", "offer", "show", "send", "teach", "tell", "assign", "make", "hand"))
_NO_WORD = "\"'“”‘’«»()[]*_-–—•#>.0123456789 \t"
_FRAME = re.compile(
    r"^(?:(?:please|kindly|now|next|then|first|finally|also|just|simply|briefly|and)\b\W*"
    r"|(?:can|could|would|will) you (?:please )?(?:kindly )?"
    r"|(?:i|we)(?: would|['’]d)? (?:need|want|like) you to "
    r"|you (?:should|must|need to|have to|are (?:asked|required|expected) to) "
    r"|(?:your|the) (?:task|job|goal|aim|objective) is to "
    r"|(?:help me|try) to )+"
)
_OPENING = re.compile(
    rf"(?:{'|'.join(sorted(_PREPOSITIONS))}|given|based|according|relative|if|when|once|while|\w+ing)\b"
)


class Phrase(NamedTuple):
    """A verb and its object, each `None` where there is none."""

    verb: str | None
    noun: str | None


def is_english(texts: Iterable[str]) -> bool:
    """Whether these texts, taken together, are English."""
    words = [word for text in texts for word in unicode_tokens(text)]
    return sum(word in ENGLISH for word in words) >= ENGLISH_SHARE * len(words)


def first_words(text: str) -> Phrase:
    """For any language: the first word, and the next of more than a few letters."""
    words = unicode_tokens(text)
    rest = (word for word in words[1:] if len(word) >= LONGER or not word.isascii())
    return Phrase(words[0] if words else None, next(rest, None))


def verb_and_noun(text: str) -> Phrase:
    """The verb of the first order in an English text, and the noun that it is about.

    >>> verb_and_noun("Using the notes, write a short, friendly reply to the customer.")
    Phrase(verb='write', noun='reply')
    >>> verb_and_noun("Explain why the sky is blue.")
    Phrase(verb='explain', noun=None)
    """
    for sentence in _SENTENCE.split(text.strip()):
        words = _order(sentence.lower())
        if words:
            return Phrase(words[0], _object(words))
    return Phrase(None, None)


def _order(sentence: str) -> list[str]:
    """The words of a sentence from its imperative on; none where it gives no order."""
    bare = _unframed(sentence)
    while _OPENING.match(bare) and "," in bare:
        bare = _unframed(bare.partition(",")[2])
    words = _TOKEN.findall(bare)
    return words if words and _is_imperative(words) else []


def _unframed(sentence: str) -> str:
    """Without "please", "could you", "carefully" and their like, in front."""
    bare = _FRAME.sub("", sentence.lstrip(_NO_WORD), count=1)
    first, _, rest = bare.partition(" ")
    return rest if rest and first.endswith("ly") and "VERB" not in _forms(first) else bare


def _is_imperative(words: list[str]) -> bool:
    """Whether the first word is a verb in its base form, and neither the subject of the next nor one of a list."""
    verb, after, later = [*words[:3], "", ""][:3]
    forms, following = _forms(verb), _forms(after)
    if verb not in forms.get("VERB", ()) or verb in _CLAUSES or verb in _PREPOSITIONS:
        return False
    if "NOUN" not in forms and "ADJ" not in forms:
        return True
    finite = "VERB" in following and after.endswith("s") and ("NOUN" not in following or later in _DETERMINERS)
    return not finite and after not in (",", *_FINITE)


def _object(words: list[str]) -> str | None:
    """The head of the noun phrase after the verb: its last noun."""
    head: str | None = None
    before = ""
    for word in _after_verb(words):
        forms = _forms(word)
        if word in _DETERMINERS:
            if head and words[0] not in _GIVING:
                break
            head = None
        elif word in _JOINERS:
            if "ADJ" not in _forms(before):
                break
        elif _ends_phrase(word, forms, head):
            break
        elif "NOUN" in forms or (not forms and word[0].isalpha() and not word.endswith(("'s", "’s"))):
            head = forms.get("NOUN", (word,))[0]
        before = word
    return head


def _after_verb(words: list[str]) -> Iterator[str]:
    """What follows the verb and what belongs to it: "out", "me", "briefly"."""
    rest = iter(words[1:])
    for word in rest:
        if word not in _PARTICLES and word not in _PERSONS - _ARTICLES and not _adverb(word):
            yield word
            break
    yield from rest


def _ends_phrase(word: str, forms: dict[str, tuple[str, ...]], head: str | None) -> bool:
    if word == "of":
        return head is not None
    if word in _PREPOSITIONS or word in _CLAUSES or (not word[0].isalnum() and word not in "\"'“”‘’"):
        return True
    return head is not None and ("NOUN" not in forms and ("VERB" in forms or _adverb(word)))


def _adverb(word: str) -> bool:
    forms = _forms(word)
    return "ADV" in forms and "NOUN" not in forms and "ADJ" not in forms and word not in _PREPOSITIONS | _CLAUSES


@lru_cache(maxsize=2**16)
def _forms(word: str) -> dict[str, tuple[str, ...]]:
    """What a word form can be, such as {"NOUN": ("story",)}, with its base forms."""
    from lemminflect import getAllLemmas

    return dict(getAllLemmas(word))
