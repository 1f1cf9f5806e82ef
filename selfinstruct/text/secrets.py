r"""Keys and passwords: told by how they look, and taken out of text in whatever form they are written.

>>> from selfinstruct.text.secrets import Scrubber
>>> Scrubber(["sk-0123456789"]).clean(r'{"text": "use \u0073k-0123456789"}')
'{"text": "use [key]"}'
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from functools import cached_property
from urllib.parse import parse_qsl, urlsplit

MARK = "[key]"
"""What stands where a key was."""

_SLASHES = r"\\(?:\\|u005[cC])*"
"""Backslashes of an escape, that of JSON inside JSON too."""
_ESCAPE = re.compile(r"\\(?:u(?:00[2-7]|\{)|x|/)|%[2-7]|&(?:#|amp|lt|gt|quot|apos)")
"""One of a character that a key may have."""
_ENDS = (slice(4), slice(-4, None))
"""Of base64: one of its ends stands in one line."""
_BREAK = r"(?:\s|\\+[nr])*"
"""Where base64 may go on in another line."""
_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


class Scrubber:
    """Takes secrets out of text.

    Args:
        keys: the secrets; one that is a mere word (`is_secret`) is left alone.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(filter(is_secret, set(keys)), key=len, reverse=True)
        """Those that are taken out, the longest first."""
        self._plain = [*self.keys, *(run[cut] for key in self.keys for run in _base64(key) for cut in _ENDS)]
        self._quoted = any(char in key for key in self.keys for char in "\"'\\")
        self._hex = [key.encode().hex() for key in self.keys]

    def clean(self, text: str) -> str:
        """The text without them: plain, escaped as JSON does, in a URL or HTML, as hexadecimal digits or base64."""
        return self._found.sub(MARK, text) if self.keys and self._may_be_in(text) else text

    def _may_be_in(self, text: str) -> bool:
        """Whether it is worth a closer look, which takes ten times as long."""
        if self._quoted or any(plain in text for plain in self._plain) or _ESCAPE.search(text):
            return True
        lower = text.lower()
        return any(digits in lower for digits in self._hex)

    @cached_property
    def _found(self) -> re.Pattern[str]:
        return re.compile("|".join(form for key in self.keys for form in _forms(key)))


def is_secret(key: str) -> bool:
    """Whether a key is more than a word such as `EMPTY` or `none`, which servers without keys are told: to take that
    out of answers would spoil them."""
    return len(key) >= 12 or (len(key) >= 6 and not key.isalpha())


_known = Scrubber(())


def remember(key: str) -> None:
    """From now on, `scrubbed` takes this key out too."""
    global _known  # noqa: PLW0603 - a process has one environment, and so one set of keys
    if key not in _known.keys:
        _known = Scrubber([*_known.keys, key])


def scrubbed(text: str) -> str:
    """The text without any key that this process has looked up."""
    return _known.clean(text)


def _forms(key: str) -> Iterable[str]:
    """Patterns of all ways in which a key is written; each character of it may be in a form of its own."""
    yield "".join(map(_written, key))
    yield f"(?i:{key.encode().hex()})"
    for run in _base64(key):
        yield _BREAK.join(map(_of_base64, run))


def _base64(key: str) -> Iterable[str]:
    """What base64 of a text that holds the key has of it, which depends on how much stands before it."""
    raw = key.encode()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        yield whole[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]


def _written(char: str) -> str:
    code = ord(char)
    named = f"|&{_NAMED[char]};" if char in _NAMED else ""
    plain = rf"\\*{re.escape(char)}" if char in "/\"'\\" else re.escape(char)
    escaped = rf"{_SLASHES}(?:u00|x|u\{{0*)(?i:{code:02x})\}}?|%(?:25)*(?i:{code:02x})"
    return rf"(?:{plain}|{escaped}|&#(?:0*{code}|[xX]0*(?i:{code:x}));{named})"


def _of_base64(char: str) -> str:
    alike = {"+": "-", "/": "_"}.get(char)  # of the alphabet for addresses
    return f"(?:{_written(char)}|{_written(alike)})" if alike else _written(char)


# -- what looks like a secret -----------------------------------------------------------------------------------------

_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk[-_](?=[\w-]{8})|[rp]k-(?=[\w-]{16})|[rp]k_(?:live|test)_|(?:xai|nvapi|pplx|glpat|csk|tvly)-(?=[\w-]{16})"
    r"|(?:gsk|hf|r8|fw|tgp_v1|gh[opsu]|github_pat)_(?=[A-Za-z0-9]{16})|xox[a-z]-(?=[\w-]{8})|AIza(?=[\w-]{20})"
    r"|(?:AKIA|ASIA)(?=[A-Z0-9]{12})|ya29\.(?=[\w-]{8})|eyJ(?=[\w-]{8,}\.)"
    r"|(?i:bearer|basic)\s+(?=[\w.~+/=-]{8})(?=[\w.~+/=-]*\d)"
    r")[\w.~+/=-]+"
)
"""Keys of the services that people use, by how they begin."""
_IN_URL = re.compile(r"(?<=://)[^/?#\s]*@")
_NAME = re.compile(
    r"(?:.*_)?(?:api_?keys?|authorization|bearer|passw(?:or)?ds?|passphrase|secrets?|secret_?key|credentials?"
    r"|access_?key(?:_id)?|private_?key|subscription_?key)"
    r"|(?:.*_)?(?:access|auth|api|bearer|refresh|session|id|hf|secret|security)_?tokens?|auth|key|pwd|tokens?|cookie",
    re.IGNORECASE,
)
_ONLY_IN_URLS = ("sig", "signature", "code")


def is_key(text: str) -> bool:
    """Whether there is something in a text that looks like a key of a service."""
    return bool(_KEY.search(text))


def names_secret(name: str) -> bool:
    """Whether what bears this name is a secret: `api_key`, `Authorization`, `--hf-token`."""
    return bool(_NAME.fullmatch(name.strip().lstrip("-").replace("-", "_")))


def is_variable(name: str) -> bool:
    """Whether a name may be that of an environment variable, and is no key put in its place."""
    random = any(len(word) >= 20 and not word.isalpha() for word in name.split("_"))
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name)) and not random and not is_key(name)


def is_in_url(url: str) -> bool:
    """Whether an address holds a name, a password or a key."""
    _, slashes, rest = url.partition("://")
    if "@" in re.split(r"[/?#]", rest if slashes else url.lstrip("/"), maxsplit=1)[0] or is_key(url):
        return True
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    told = parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(parts.fragment)
    return any(names_secret(name) or name.lower() in _ONLY_IN_URLS for name, _ in told)


def masked(text: str) -> str:
    """A text for a person, without what looks like a key or a password of an address."""
    return _IN_URL.sub(f"{MARK}@", _KEY.sub(MARK, text))
