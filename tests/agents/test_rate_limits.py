from __future__ import annotations

import pytest

from agents.rate_limits import allowance, retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after-ms": "1500", "Retry-After": "7"}, 1.5),
        ({"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30),
        ({"Retry-After": "Thu, 14 Jan 2027 08:00:30 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, 0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("left", "reset", "seconds"),
    [
        ("0", "6m0s", 360),
        ("0", "20ms", 0.02),
        ("0", "1h2m3.5s", 3723.5),
        ("0", "7.5", 7.5),
        ("0", str(NOW + 9), 9),
        ("0", str(int((NOW + 9) * 1000)), 9),
        ("0", "2027-01-15T08:00:05Z", 5),
        ("0", "later", None),
        ("0", "", None),
        ("1", "60s", None),
        ("many", "60s", None),
    ],
)
def test_allowance(left, reset, seconds):
    headers = {"X-RateLimit-Remaining-Requests": left, "X-RateLimit-Reset-Requests": reset}
    assert allowance(headers, 1, NOW) == seconds


def test_an_allowance_of_tokens_must_cover_a_request():
    headers = {"x-ratelimit-remaining-tokens": "90", "x-ratelimit-reset-tokens": "3s"}
    assert allowance(headers, 90, NOW) is None
    assert allowance(headers, 91, NOW) == 3
