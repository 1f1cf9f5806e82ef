"""Keys and passwords, in whatever form they are written."""

from __future__ import annotations

import base64
import html
import json
import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfinstruct.text.secrets import MARK, Scrubber, is_in_url, is_key, is_secret, is_variable, masked, names_secret

KEY = "sk-Te/st+9_\"a'b\\c&d=="


def every(form: str) -> Callable[[str], str]:
    """Each character in a form."""
    return lambda key: "".join(form.format(ord(char)) for char in key)


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": json.dumps,
    "in JSON in JSON": lambda key: json.dumps(json.dumps({"a": [key]})),
    "in JSON four deep": lambda key: json.dumps(json.dumps(json.dumps(json.dumps(key)))),
    "escaped": every("\\u{:04x}"),
    "escaped in capitals": every("\\u{:04X}"),
    "escaped in JSON": lambda key: json.dumps(every("\\u{:04x}")(key)),
    "a backslash that is escaped": every("\\u005cu{:04x}"),
    "of JavaScript": every("\\x{:02x}"),
    "of JavaScript, braced": every("\\u{{{:x}}}"),
    "every other one": lambda key: "".join(
        f"\\u{ord(c):04x}" if i % 2 else f"%{ord(c):02X}" for i, c in enumerate(key)
    ),
    "slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "quoted": quote,
    "quoted wholly": every("%{:02x}"),
    "quoted twice": lambda key: quote(quote(key, safe=""), safe=""),
    "HTML": html.escape,
    "HTML numbers": every("&#{};"),
    "HTML hex numbers": every("&#x{:X};"),
    "hex": lambda key: key.encode().hex(),
    "HEX": lambda key: key.encode().hex().upper(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 after one": lambda key: base64.b64encode(f":{key}".encode()).decode(),
    "base64 after two": lambda key: base64.b64encode(f"a:{key}, and more".encode()).decode(),
    "base64 of addresses": lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
    "base64 in JSON": lambda key: json.dumps(base64.b64encode(key.encode()).decode()).replace("/", "\\/"),
    "base64 in lines": lambda key: base64.encodebytes(f"{'x' * 50}{key}".encode()).decode(),
    "base64 in lines in JSON": lambda key: json.dumps(base64.encodebytes(f"{'x' * 50}{key}".encode()).decode()),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_taken_out_in_every_form(form: str) -> None:
    """Nothing of it is left but what base64 mixes with its neighbours."""
    written = FORMS[form](KEY)
    left = Scrubber([KEY]).clean(f"before {written} after")
    assert MARK in left
    assert left.startswith("before ")
    assert left.endswith(" after")
    assert len(left) < len(f"before {MARK} after") + (90 if "base64" in form or "JSON" in form else 12)


@given(
    key=st.text(string.printable[:94], min_size=8, max_size=20).filter(is_secret),
    form=st.sampled_from(list(FORMS.values())),
    around=st.tuples(st.text(max_size=5), st.text(max_size=5)),
)
def test_any_key_is_found_in_any_form(key: str, form: Callable[[str], str], around: tuple[str, str]) -> None:
    """Whatever stands around it."""
    assert MARK in Scrubber([key]).clean(around[0] + form(key) + around[1])


@given(text=st.text(), value=st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_other_text_is_left_as_it_is(text: str, value: dict[str, str]) -> None:
    """Text and JSON without the key come out unchanged."""
    scrubber = Scrubber([KEY])
    assert scrubber.clean(text) == text
    assert scrubber.clean(json.dumps(value)) == json.dumps(value)


def test_json_stays_json_without_its_key() -> None:
    """The mark stands in the string that held the key."""
    for whole in (KEY, f"\n{KEY}\\n", f'"{KEY}"', f"\\{KEY}\\"):
        cleaned = json.loads(Scrubber([KEY]).clean(json.dumps({"text": whole, KEY: 1})))
        assert MARK in cleaned
        assert MARK in cleaned["text"]


@pytest.mark.parametrize("word", ["", "none", "EMPTY", "ollama", "dummy", "password", "x1"])
def test_a_mere_word_is_no_secret(word: str) -> None:
    """Servers without keys are told such words, which answers hold too."""
    assert Scrubber([word]).clean(f"a {word} b") == f"a {word} b"


KEYS = [
    "sk-0123456789abcdef", "sk-proj-abcdefghijkl", "sk_live_0123456789", "hf_abcdefghijklmnopqrstuv",
    "gsk_0123456789abcdefghij", "xai-0123456789abcdefghij", "AIzaSyA0123456789abcdefghijklmnop", "AKIA0123456789ABCDEF",
    "ghp_0123456789abcdefghij", "github_pat_0123456789abcdefghij", "glpat-0123456789abcdefghij", "xoxb-0123456789",
    "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln", "Bearer abcdef0123456789", "nvapi-0123456789abcdefghij",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_services_are_known(key: str) -> None:
    """Alone and inside a text; they are masked, and no variable's name."""
    assert is_key(key)
    assert is_key(f"--api={key}")
    assert key not in masked(f"no model {key!r} there")
    assert not is_variable(key)


@pytest.mark.parametrize("text", ["risk-adjusted-returns", "gpt-4o-mini", "Qwen/Qwen3-8B", "disk-0123456789",
                                  "sk-learn", "hf.co/bartowski/Llama-3", "hf_transfer", "a basic answer"])  # fmt: skip
def test_other_names_are_no_keys(text: str) -> None:
    """Names of models and words with hyphens pass."""
    assert not is_key(text)
    assert masked(text) == text


@pytest.mark.parametrize(("name", "plausible"), {
    "OPENAI_API_KEY": True, "MY_KEY": True, "key2": True, "_K": True, "OpenAI_Key_For_Project2": True,
    "": False, "MY-KEY": False, "2KEY": False, "A KEY": False, "sk-1234": False, "sk_live_0123456789": False,
    "a1b2c3d4e5f6a7b8c9d0e1f2": False, "KEY=1": False, "$KEY": False, "K\n": False, "K" * 101: False,
    "schlüssel": False,
    "AKIA0123456789ABCDEF": False, "hf_abcdefghijklmnopqrstuvwxyz": False,
}.items())  # fmt: skip
def test_a_variable_has_a_plausible_name(name: str, plausible: bool) -> None:
    """A key in its place is told from it."""
    assert is_variable(name) is plausible


@pytest.mark.parametrize(("name", "secret"), {
    "api_key": True, "--api-key": True, "Authorization": True, "x-api-key": True, "token": True, "hf_token": True,
    "HF_TOKEN": True, "access-token": True, "password": True, "client_secret": True, "OPENAI_API_KEY": True,
    "key": True, "apikey": True, "credentials": True, "cookie": True,
    "max_tokens": False, "--tokenizer": False, "prompt_cache_key": False, "stop_token_ids": False, "eos_token": False,
    "--max-num-batched-tokens": False, "author": False, "top_k": False, "skip_special_tokens": False,
    "api_key_env": False,
}.items())  # fmt: skip
def test_secrets_are_told_by_their_names(name: str, secret: bool) -> None:
    """What only counts tokens is none."""
    assert names_secret(name) is secret


@pytest.mark.parametrize(("url", "holds"), {
    "http://localhost:8000/v1": False, "https://host/v1?api-version=2024-02": False, "https://host/@cf/meta": False,
    "https://user:pw@host/v1": True, "https://sk-key@host/v1": True, "user:pw@host/v1": True,
    "https://h/v1?key=x": True,
    "https://h/v1?a=b&API-Key=x": True, "https://h/v1?sig=x": True, "https://h/v1#access_token=x": True,
    "https://h/sk-0123456789abcdef/v1": True, "https://h/v1?subscription-key=": True, "http://[::1": False,
    "//user@host/v1": True,
}.items())  # fmt: skip
def test_an_address_may_hold_a_secret(url: str, holds: bool) -> None:
    """A name or password, or a parameter that is called like a key."""
    assert is_in_url(url) is holds


def test_a_password_of_an_address_is_masked() -> None:
    """In an error that repeats the address."""
    assert masked("at https://ada:pass/word") == "at https://ada:pass/word"
    assert masked("at https://ada:pass@host/v1 it") == "at https://[key]@host/v1 it"
