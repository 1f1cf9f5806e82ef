"""What the headers of an answer say: how much is left, and how long to wait."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from selfinstruct.backends.base import Left, Limits

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Names = tuple[tuple[str, str, str], ...]
"""What servers call what remains, when it is reset, and the most that there is."""
_REQUESTS, _TOKENS = (
    tuple((name.format("remaining"), name.format("reset"), name.format("limit")) for name in names)
    for names in (
        ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}", "x-ratelimit-{}", "ratelimit-{}"),
        ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}"),
    )
)


def limits_of(headers: Mapping[str, str]) -> Limits | None:
    """What the headers say is left, in the dialects of OpenAI, Anthropic and the IETF draft; None when they do not."""
    requests, tokens = _left(headers, _REQUESTS), _left(headers, _TOKENS)
    return None if requests is None and tokens is None else Limits(requests, tokens)


def _left(headers: Mapping[str, str], names: Names) -> Left | None:
    for remaining, reset, most in names:
        if remaining in headers and reset in headers:
            try:
                left = Left(float(headers[remaining]), seconds_of(headers[reset]), float(headers.get(most, 0)))
            except (ValueError, OverflowError):
                continue
            if all(0 <= number < math.inf for number in left):
                return left
    return None


def seconds_of(text: str, *, now: float | None = None) -> float:
    """Seconds from `6m0s`, `20ms`, `1.5`, an instant in seconds or milliseconds since 1970, or an ISO date.

    Raises:
        ValueError: it is none of these.
    """
    now = time.time() if now is None else now
    if parts := _DURATION.findall(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        value = float(text)
    except ValueError:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    if value > 1e11:
        value /= 1000
    return max(0.0, value - now) if value > 1e9 else value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait for, from a number of seconds or an HTTP date; None when it does not say."""
    text = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - _server_time(headers))
    except ValueError:
        return None


def _server_time(headers: Mapping[str, str]) -> float:
    """The server's own clock, by which its dates go; ours, which may have been set back, where it does not tell."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        return time.time()
