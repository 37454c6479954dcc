"""Words and numbers of a text, as labels and claims are compared by."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

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
# "Rent: 40", "AB = 5 cm", "Rent (40%)", "Rent 40%".
_PAIR = re.compile(
    r"(?P<key>[^:=]*[^\W\d_][^:=]*?)\s*"
    r"(?:[:=]\s*(?P<a>[$\u20ac\u00a3]?[-+]?[\d,.]+\s*(?:%|\u00b0|[^\W\d_]{1,3})?)"
    r"|\((?P<b>[$\u20ac\u00a3]?[\d,.]+\s*(?:%|\u00b0)?)\)|\s(?P<c>[\d,.]+%))"
)
COUNTS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
"""Numbers in words."""


class Token(NamedTuple):
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


@functools.lru_cache(maxsize=4096)
def pair_of(text: str) -> tuple[tuple[str, ...], float] | None:
    """Key and value of a label that holds both; None otherwise."""
    found = _PAIR.fullmatch(text.strip()) if len(text) < 80 else None
    value = number_of(found["a"] or found["b"] or found["c"]) if found else None
    return (key_of(found["key"]), value) if found and value is not None else None
