"""What a server's answers and failures mean: the one place where the world outside is sorted into our errors.

    with boundary(server):                    # raises Transient, RateLimited, Refused, EndpointError or NotFound
        async with session.post(...) as answer:
            payload = payload_of(answer.status, answer.headers, await answer.read(), server)

Nothing here asks anything. A bug passes through untouched: only what a network or a server can do is caught.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import ContentEncodingError

from selfinstruct.backends.base import LONGEST_WAIT, LONGEST_WISH
from selfinstruct.backends.openai.headers import retry_after
from selfinstruct.backends.openai.server import Server
from selfinstruct.errors import EndpointError, Fault, RateLimited, Refused, SelfInstructError, Transient
from selfinstruct.text.secrets import masked

BODY_KEPT = 2_000
"""Characters of a server's words that are kept with a fault."""


class NotFound(SelfInstructError):
    """The server says 404, or that it has no such model; never leaves the backends, which know what to advise."""

    def __init__(self, message: str, *, names_model: bool) -> None:
        super().__init__(message)
        self.names_model = names_model


class Said(NamedTuple):
    """An error as the server put it, whichever of the usual shapes it came in."""

    status: int
    message: str = ""
    code: str = ""
    """Its `code` and `type`, as words to look for."""
    param: str = ""
    body: str = ""
    retry_after: float | None = None
    location: str = ""
    """Where a redirect points to."""


class BadRequest(Refused):
    """A request that the server calls malformed, with its own words, for whoever can mend it."""

    def __init__(self, said: Said) -> None:
        super().__init__("bad_request", said.message, status=said.status, body=said.body)
        self.said = said


@contextmanager
def boundary(server: Server) -> Iterator[None]:
    """Raise one of our errors for whatever the client, the network or the server raises inside.

    Raises:
        Transient, RateLimited, Refused, EndpointError, NotFound.
    """
    try:
        yield
    except openai.APIStatusError as error:
        answer = error.response
        # Its own words stand in the library's error, which is why no log is told of that.
        raise error_of(read_error(answer.status_code, answer.headers, answer.content, server), server) from None
    except TimeoutError as error:
        raise Transient("timeout", f"{server.url}: no answer in time") from error
    except (openai.APIConnectionError, aiohttp.ClientError, httpx2.HTTPError, OSError) as error:
        raise broken_connection(error, server) from None


def payload_of(status: int, headers: Mapping[str, str], content: bytes, server: Server) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        Transient: it is not JSON, or not an object.
        SelfInstructError: it is an error, by its status or in spite of it.
    """
    if status >= 300:
        raise error_of(read_error(status, headers, content, server), server)
    try:
        payload = parsed(text := server.text_of(content, "surrogatepass"))
    except ValueError:
        text = server.text_of(content)
        raise _unreadable("not_json", _what_came(text), status, text, server) from None
    if not isinstance(payload, dict):
        raise _unreadable("not_json", "JSON that is no object", status, text, server)
    if payload.get("error"):
        raise error_of(read_error(status, headers, content, server), server)
    return payload


def parsed(text: str) -> Any:
    """The value that JSON of a server's, without keys by now (`Server.text_of`), stands for.

    Raises:
        ValueError: it is none, or nested more deeply than any that is meant.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def object_of(value: object) -> dict[str, Any]:
    """The value where it is an object of JSON's, as it should be; an empty one where a server had another idea."""
    return value if isinstance(value, dict) else {}


def read_error(status: int, headers: Mapping[str, str], content: bytes, server: Server) -> Said:
    """Read an error in any of the usual shapes; what is not JSON is its own message."""
    body = server.text_of(content)
    shaped = _error_object(body)
    code = shaped.get("code")
    if isinstance(code, int) and 400 <= code < 600 and status < 400:
        status = code  # Gateways put the true status into the body of a 200.
    words = " ".join(str(word) for word in (code, shaped.get("type"), shaped.get("status")) if word)
    message = _one_line(str(shaped.get("message") or "") or _what_came(body))
    return Said(
        status,
        message,
        words,
        str(shaped.get("param") or ""),
        body[:BODY_KEPT],
        retry_after(headers),
        server.clean(headers.get("location", "")),
    )


def error_of(said: Said, server: Server) -> SelfInstructError:  # noqa: PLR0911 - a line for each meaning
    """What an error means for the request, or for the run."""
    if said.status == 402 or _matches(_QUOTA, said):
        return EndpointError(f"{server.url}: no quota left: {said.message}: top up the account, then run again")
    if said.status in (400, 403, 422) and _matches(_FILTERED, said):
        return _refused("content_filter", said)
    if 300 <= said.status < 400:
        return EndpointError(_redirect_advice(said, server))
    if said.status in (401, 403, 407):
        return EndpointError(_key_advice(said, server))
    if said.status == 413 or (said.status in (400, 422, 429) and _matches(_TOO_LONG, said)):
        return _refused("prompt_too_long", said)
    if said.status == 429 or (said.status == 503 and said.retry_after is not None):
        return _rate_limited(said, server)
    if said.status in (400, 404) and _matches(_WRONG_DIALECT, said):
        return EndpointError(_dialect_advice(said, server))
    if said.status in (404, 405) or (said.status in (400, 422) and _matches(_NO_MODEL, said)):
        return NotFound(said.message, names_model=_matches(_NO_MODEL, said))
    if said.status in (408, 409) or said.status >= 500 or said.status < 400:
        return _transient(said, server)
    return BadRequest(said)


def broken_connection(error: BaseException, server: Server) -> Transient:
    """The fault for a connection that failed; the libraries' own words are one cause deeper each."""
    causes = list(_causes(error))
    for types, kind, what in _BROKEN:
        for cause in causes:
            if isinstance(cause, types):
                return Transient(kind, _one_line(server.clean(f"{server.url}: {what}{masked(_reason(cause))}")))
    return Transient("connection", _one_line(server.clean(f"{server.url}: {masked(repr(causes[-1]))}")))


_ASKED = ("/models", "/chat/completions", "/completions", "/files", "/batches")
"""What is asked below the address of a server."""

# Codes and wordings of the servers people use: OpenAI, Azure, vLLM, llama.cpp, SGLang, TGI, OpenRouter, Mistral,
# DeepSeek, Anthropic, Gemini. tests/backends/test_boundary.py has an example of each.
_QUOTA = re.compile(
    r"insufficient_quota|billing_(hard_limit|not_active)|insufficient[_ ](credits?|balance|funds)|credit balance",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content_filter|content[_ ]policy|content management policy|was flagged|moderation", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window)|maximum (model|sequence) length"
    r"|prompt is too long|request too large|reduce the length|max_new_tokens`? must be|token count.{0,40}exceeds",
    re.IGNORECASE,
)
_WRONG_DIALECT = re.compile(r"not a chat model|this is a chat model|chat template", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model_not_found|invalid[_ ]model|model.{0,120}(not found|not exist|not a valid)|not a valid model|unknown model",
    re.IGNORECASE,
)
_OF_A_KEY = re.compile(r"\b(api|access|secret)?[-_ ]?(key|token|credential)s?\b|auth", re.IGNORECASE)
_BROKEN: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "tls", "its certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "tls", "no TLS connection"),
    (aiohttp.ClientConnectorDNSError, "no_such_host", "the name is unknown"),
    (ContentEncodingError, "truncated_body", "the answer cannot be decompressed"),
    (aiohttp.ClientPayloadError, "truncated_body", "the answer broke off"),
    (httpx2.DecodingError, "truncated_body", "the answer cannot be decompressed"),
    ((aiohttp.ServerTimeoutError, TimeoutError), "timeout", "no answer in time"),
    (aiohttp.ServerDisconnectedError, "disconnected", "the connection was closed without an answer"),
    (ConnectionResetError, "disconnected", "the connection was reset"),
    (ConnectionRefusedError, "connection_refused", "the connection was refused"),
    (aiohttp.ClientProxyConnectionError, "connection", "no connection to the proxy on the way"),
    (aiohttp.ClientHttpProxyError, "connection", "the proxy on the way makes no connection"),
    (aiohttp.ClientConnectorError, "connection", "no connection"),
    (aiohttp.ClientResponseError, "not_http", "what answers does not speak HTTP"),
)


def _transient(said: Said, server: Server) -> Transient:
    kind = {408: "timeout", 409: "conflict"}.get(said.status, "server_error" if said.status >= 500 else "error_object")
    return Transient(
        kind,
        f"{server.url}: {said.status}: {said.message}",
        status=said.status,
        body=said.body,
        retry_after=None if said.retry_after is None else min(said.retry_after, LONGEST_WISH),
    )


def _rate_limited(said: Said, server: Server) -> SelfInstructError:
    wait = said.retry_after
    if wait is not None and wait > LONGEST_WAIT:
        return EndpointError(f"{server.url}: asks to wait {wait / 60:.0f} minutes: {said.message}: run again then")
    message = f"{server.url}: {said.status}: {said.message}"
    return RateLimited("rate_limited", message, status=said.status, body=said.body, retry_after=wait)


def _refused(kind: str, said: Said) -> Fault:
    return Refused(kind, said.message, status=said.status, body=said.body)


def _unreadable(kind: str, what: str, status: int, text: str, server: Server) -> Transient:
    return Transient(kind, f"{server.url}: answered with {what}", status=status, body=text[:BODY_KEPT])


def _key_advice(said: Said, server: Server) -> str:
    words = f"({said.status}: {said.message})"
    if said.status == 407:
        return f"{server.url}: a proxy on the way wants a password: look at HTTP_PROXY and HTTPS_PROXY {words}"
    if said.status == 403 and not _matches(_OF_A_KEY, said):
        return f"{server.url}: will not answer us: look at why, and what the key in {server.key_env} may do {words}"
    if not server.key:
        return f"{server.url}: wants a key: set {server.key_env} {words}"
    return f"{server.url}: the key in {server.key_env} was refused {words}"


def _redirect_advice(said: Said, server: Server) -> str:
    """Nothing follows a redirect: prompts and keys go to the address that was named, and to no other."""
    to = _address(said.location, server)
    advice = "if that is meant, name it with --base-url"
    return f"{server.url}: redirects to {to} ({said.status}), where nothing is sent: {advice}"


def _address(location: str, server: Server) -> str:
    """Where a redirect points to, whole, without what might be a secret in it."""
    try:
        parts = urlsplit(urljoin(server.url + "/", location))
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    if not (location and host):
        return "an address that it does not name"
    path = next((parts.path.removesuffix(end) for end in _ASKED if parts.path.endswith(end)), parts.path)
    return _one_line(f"{parts.scheme}://{host}{path}")


def _dialect_advice(said: Said, server: Server) -> str:
    other = "chat" if "this is a chat model" in said.message.lower() else "completion"
    return f'{server.url}: {said.message}: set dialect = "{other}"'


def _error_object(body: str) -> dict[str, Any]:
    """The part of an error's body that has the message: OpenAI, FastAPI, flat, or wrapped in a list."""
    try:
        shape = parsed(body)
    except ValueError:
        return {}
    if isinstance(shape, list) and shape:
        shape = shape[0]
    if not isinstance(shape, dict):
        return {"message": str(shape)}
    inner = shape.get("error") or shape.get("detail") or shape
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):
        first = inner[0]
        loc = first.get("loc")
        place = [str(part) for part in loc] if isinstance(loc, list) else []
        return {
            "message": f"{first.get('msg', '')} ({'.'.join(place)})",
            "param": place[-1] if place else "",
        } | first
    return inner if isinstance(inner, dict) else {"message": str(inner)}


def _what_came(text: str) -> str:
    start = text[:400].lstrip().lower()
    if not start:
        return "an empty body"
    if start.startswith(("{", "[")) and _is_json(text):
        return "JSON without a message: " + _one_line(text[:200])[:80]
    if start.startswith(("<!doctype", "<html")):
        return "an HTML page"
    return "text that is not JSON: " + _one_line(text[:200])[:80]


def _is_json(text: str) -> bool:
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def _matches(pattern: re.Pattern[str], said: Said) -> bool:
    return bool(pattern.search(said.code) or pattern.search(said.message))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _reason(cause: BaseException) -> str:
    """The operating system's own word, when there is one that adds something."""
    inner = getattr(cause, "os_error", None) or getattr(cause, "certificate_error", None)
    return f" ({inner})" if inner else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
