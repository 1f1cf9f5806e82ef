"""What the headers of an answer say: how much is left, and how long to wait.

The one place where numbers, dates and durations of a server's are read. One that is no number, or beyond all that is
meant, is taken for absent; one that lies in the past is no wait.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from selfinstruct.backends.base import Left, Limits

LONGEST = 366 * 86_400.0
"""Seconds, past or to come, beyond which an instant or a duration is none."""
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
_PART = re.compile(rf"({_NUMBER.pattern})(ns|us|µs|ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
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
            amount, seconds = _number(headers[remaining]), seconds_of(headers[reset])
            if amount is not None and seconds is not None:
                return Left(amount, seconds, _number(headers.get(most, "")) or 0.0)
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait for, from milliseconds, seconds, a duration or a date; None when it does not
    say."""
    wait = _milliseconds(headers.get("retry-after-ms", ""))
    return seconds_of(headers.get("retry-after", ""), now=_server_time(headers)) if wait is None else wait


def seconds_of(text: str, *, now: float | None = None) -> float | None:
    """Seconds from `6m0s`, `20ms`, `1.5`, an instant since 1970 in seconds or parts of them, an ISO date or an HTTP
    date; 0 where that is past, None where it is none of these or `LONGEST` away.

    Args:
        now: the instant that dates are reckoned from, in seconds since 1970; None takes our own clock.
    """
    text, now = text.strip(), time.time() if now is None else now
    told = text.lower().replace(" ", "")
    negative, told = told.startswith("-"), told.lstrip("+-")
    if _DURATION.fullmatch(told):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(told))
    elif _NUMBER.fullmatch(told):
        seconds = _counted(float(told), now)
    elif (instant := _instant(text)) is not None:
        seconds, negative = instant - now, False
    else:
        return None
    return None if abs(seconds) > LONGEST else 0.0 if negative else max(0.0, seconds)


def _counted(value: float, now: float) -> float:
    """Seconds from a number, which may count from 1970: in seconds, or in thousandths of them, or of those."""
    while value > 1e11:
        value /= 1000
    return value - now if value > 1e9 else value


def _milliseconds(text: str) -> float | None:
    milliseconds = _number(text)
    return None if milliseconds is None or milliseconds / 1000 > LONGEST else milliseconds / 1000


def _number(text: str) -> float | None:
    """The number that a text is, if it is one as people write it, and not negative."""
    return float(text) if _NUMBER.fullmatch(text := text.strip()) else None


def _instant(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date or an ISO date, which is one of UTC where it names no zone."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError):
            continue
    return None


def _server_time(headers: Mapping[str, str]) -> float:
    """The server's own clock, by which its dates go; ours, which may have been set back, where it does not tell."""
    instant = _instant(headers.get("date", ""))
    return time.time() if instant is None else instant
