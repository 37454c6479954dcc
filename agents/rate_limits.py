"""How long a server asks its clients to wait, from the headers of a response."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|[smhd])"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks to wait before the same request is sent again.

    Args:
        headers: Of a response with status 429 or 503; names in any case.
        now: The time, in seconds since 1970.

    Returns:
        Seconds, never negative; None if no header says so. ``retry-after-ms`` goes before
        ``Retry-After``, which is a number of seconds or a date (RFC 9110, 10.2.3).
    """
    given = _lower(headers)
    if (ms := _number(given.get("retry-after-ms", ""))) is not None:
        return max(0.0, ms / 1000)
    text = given.get("retry-after", "").strip()
    if (seconds := _number(text)) is not None:
        return max(0.0, seconds)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)


def allowance(headers: Mapping[str, str], tokens: int, now: float) -> float | None:
    """Seconds until the next request fits into what the server still allows.

    Reads ``x-ratelimit-remaining-*`` and ``x-ratelimit-reset-*`` for any unit (``requests``,
    ``tokens``, …), and both without a unit.

    Args:
        headers: Of any response; names in any case.
        tokens: What a request is likely to take of an allowance counted in tokens.
        now: The time, in seconds since 1970.

    Returns:
        The longest wait that an exhausted allowance asks for; None if none is exhausted or
        the headers do not say when it is renewed.
    """
    waits = []
    given = _lower(headers)
    for name, value in given.items():
        if name != "x-ratelimit-remaining" and not name.startswith("x-ratelimit-remaining-"):
            continue
        left = _number(value)
        need = tokens if "tokens" in name else 1
        if left is None or left >= need:
            continue
        wait = _span(given.get(name.replace("remaining", "reset"), ""), now)
        if wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", text) else None


def _span(text: str, now: float) -> float | None:
    """Seconds in ``6m0s``, ``20ms``, ``7.5`` (seconds), a time since 1970 or an ISO date."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        # No server asks to wait for thirty years: so large a number is a point in time.
        if number > 1e12:
            number = number / 1000
        return max(0.0, number - now if number > 1e9 else number)
    if re.fullmatch(f"(?:{_PART})+", text):
        return sum(float(count) * _UNITS[unit] for count, unit in re.findall(_PART, text))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
