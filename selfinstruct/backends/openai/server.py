"""A server as it is addressed: where, with which key, and the client for what is asked once."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from selfinstruct.errors import EndpointError
from selfinstruct.inputs.config import BackendConfig, is_local
from selfinstruct.inputs.given import CURE
from selfinstruct.text.secrets import is_in_url, remember, scrubbed


@dataclass(frozen=True)
class Server:
    """A server as messages speak of it."""

    url: str
    key_env: str
    """Name of the environment variable that the key is looked up in."""
    key: str = field(default="", repr=False)
    """The key itself; "" when there is none."""

    def __post_init__(self) -> None:
        remember(self.key)

    def clean(self, text: str) -> str:
        """The text without this key or another: some servers repeat it."""
        return scrubbed(text)

    def text_of(self, content: bytes, errors: str = "replace") -> str:
        """What a server sent, in whatever encoding JSON may have, without any key: nothing else of it is read.

        Args:
            errors: what becomes of bytes that are no text, as `bytes.decode` has it.

        Raises:
            UnicodeDecodeError: there are such, and `errors` does not say what becomes of them.
        """
        return self.clean(content.decode(json.detect_encoding(content), errors))


HOSTED = "https://api.openai.com/v1"
_CONNECT_TIMEOUT = 30.0
_NO_PROXY = {"http://": None, "https://": None}


def servers_of(config: BackendConfig) -> list[Server]:
    """Where the servers are and which key they get.

    Raises:
        EndpointError: an address is none, or OpenAI's own API is meant and there is no key.
    """
    key = os.environ.get(config.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"the key in {config.api_key_env} has characters that no key has: copy it again")
    urls = config.urls or (os.environ.get("OPENAI_BASE_URL") or HOSTED,)
    return [_server(url.rstrip("/"), config.api_key_env, key) for url in dict.fromkeys(urls)]


def _server(url: str, key_env: str, key: str) -> Server:
    if is_in_url(url):
        raise EndpointError(f"the base URL: a key or password stands in it: {CURE}")
    if not _is_address(url):
        raise EndpointError(f"base_url {url!r} is no address: write it as http://localhost:8000/v1")
    if url == HOSTED and not key:
        raise EndpointError(f"{url}: wants a key: set {key_env}, or base_url for a server of your own")
    return Server(url, key_env, key)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # a port that is none, a bracket that is not closed
        return False


def client_of(server: Server) -> AsyncOpenAI:
    """A client for what is asked once: no retries of its own, no redirects, past the environment's proxies for a server
    near by."""
    return AsyncOpenAI(
        base_url=server.url,
        api_key=server.key or "none",
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=_CONNECT_TIMEOUT),
        http_client=DefaultAioHttpClient(mounts=_NO_PROXY if is_local(server.url) else None, follow_redirects=False),
    )
