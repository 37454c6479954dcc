"""Words and numbers of a text, as labels and claims are compared by."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

# A sign before a number belongs to it only where no word or number stands before it.
_TOKEN = re.compile(
    r"(?P<number>(?:(?<![\w.)\]])[-+])?\d+(?:,\d{3})*(?:\.\d+)?%?(?![^\W\d_]|\.\d))"
    r"|(?P<word>[^\W_]+(?:['\u2019][^\W_]+)*)"
    r"|(?P<arrow>->|-->|=>|\u2192|\u27f6)"
    r"|(?P<sign>[^\w\s])"
)
_UNIT = re.compile(
    r"[$\u20ac\u00a3\u00a5]?\s*([-+]?\d+(?:,\d{3})*(?:\.\d+)?)\s*(%|\u00b0|[^\W\d_]{1,3}\.?)?"
)
COUNTS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
"""Numbers in words."""


@dataclass(frozen=True)
class Token:
    """One word, number or sign of a text.

    Attributes:
        kind: "number", "word", "arrow" or "sign".
        text: In lower case.
        start: Where it begins in the text.
        end: Where it ends.
    """

    kind: str
    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """The words, numbers and signs of a text, in order."""
    return [
        Token(str(found.lastgroup), found[0].lower(), found.start(), found.end())
        for found in _TOKEN.finditer(text)
    ]


def value_of(token: str) -> float | None:
    """The value of a token; percent count as such."""
    try:
        return float(token.replace(",", "").rstrip("%"))
    except ValueError:
        return None


@functools.lru_cache(maxsize=4096)
def key_of(text: str) -> tuple[str, ...]:
    """The words and numbers of a label, by which it is named."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return tuple(token.text for token in tokens(text) if token.kind in ("word", "number"))


@functools.lru_cache(maxsize=4096)
def number_of(text: str) -> float | None:
    """The value of a label that is a number, perhaps with a unit; None otherwise."""
    found = _UNIT.fullmatch(text.strip().replace("\u2212", "-"))
    return float(found[1].replace(",", "")) if found else None
