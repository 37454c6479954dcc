r"""Whether two short answers are the same answer.

``equivalent`` has two modes.

* ``"sane"`` gives every answer one normal form and compares those, so the verdict
  is symmetric and transitive and a vote does not depend on the order of the
  answers. Numbers are exact rationals: ``7/2``, ``3.5``, ``3 1/2`` and
  ``\frac{7}{2}`` are one answer, ``3.33`` and ``10/3`` are two.
* ``"official"`` reproduces the verdicts of the grader behind the published rewards
  (:mod:`mmzero_env.published_grading`) in either direction.

Shared conventions of both: letter case, LaTeX wrappers, a dollar or percent sign, a
measuring unit behind a number and correct thousands separators do not count. Not
known to either: rounding, synonyms, abbreviations, spelled-out numbers.

No call can hang: long texts are only compared as words, and arithmetic is capped
(:mod:`mmzero_env.algebra`).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from mmzero_env.algebra import evaluate
from mmzero_env.errors import UserError, unknown
from mmzero_env.latex import plain_text
from mmzero_env.published_grading import published_verdict

GradingMode = Literal["sane", "official"]
GRADING_MODES: tuple[GradingMode, ...] = ("sane", "official")

# Longer answers are compared as words only, and never cached.
MAX_CHARS = 2_000
CACHED_CHARS = 256
CACHE_SIZE = 65_536

Key = tuple[object, ...]
"""Normal form of an answer: a kind and its content; equal keys, same answer."""

_UNIT = (
    r"(?:degree|cm|centimeter|meter|mile|second|minute|hour|day|week|month|year|foot|feet|inch"
    r"|yard)(?:es|s)?(?:\s*\^\s*\{?[0-9]+\}?)?"
)
_SCALES = {"million": 6, "billion": 9, "trillion": 12}
_SIGNED = r"[+-]?[0-9][0-9.,]*(?:e[+-]?[0-9]+)?"
_WITH_UNIT = re.compile(rf"^(.*[0-9)}}.])\s*{_UNIT}$", re.DOTALL)
_WITH_SCALE = re.compile(rf"^({_SIGNED})\s*(million|billion|trillion)$")
_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
# Inside a list only a group that starts with 0 is surely no element of its own.
_THOUSANDS_IN_LIST = re.compile(r"([0-9]),(0[0-9]{2})(?![0-9])")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[+-]?[0-9]{1,3})?")
_FRACTION = re.compile(r"-?[1-9][0-9]*+/[1-9][0-9]*+")
_MIXED = re.compile(r"^([+-]?)\s*([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)$")
_NAMED = re.compile(r"^[^\W\d]\w?\s*=([^=]*)$")
_DASHED = re.compile(r"[0-9.]+(?:-[0-9.]+)+")
_SLASHED = re.compile(r"[^/]*/[^/]*/.*", re.DOTALL)
_ROOT = re.compile(r"√\s*([0-9]+)")
_OPERATOR = re.compile(r"[+*/^]|sqrt|pi")
_ARITHMETIC = re.compile(r"[0-9]|[+*/^]|sqrt|pi")
_NOT_LETTERS = re.compile(r"sqrt|pi|(?<=[0-9.])e[+-]?[0-9]+")
_LABEL = re.compile(r"[^\W\d]{2}|[^\W\d][0-9]|[!_]")
_BLANKS = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])")
_LONE_BRACKETS = re.compile(r"^\((\w)\)$")
_OPENERS, _CLOSERS = "([", ")]"


def equivalent(
    a: str, b: str, *, mode: GradingMode = "sane", tolerance: float | None = None
) -> bool:
    r"""Whether two answers are the same answer; symmetric and bounded in time.

    Args:
        a: One answer, as written inside ``\boxed{}``.
        b: The other.
        mode: ``"sane"`` or ``"official"``, see the module docstring.
        tolerance: Two numbers also agree if they differ by at most this share of
            the larger one. Only in sane mode. None compares exactly.

    Returns:
        The verdict.

    Raises:
        UserError: For an unknown mode, or a tolerance that is negative, not finite
            or combined with the official mode.
    """
    check_grading(mode, tolerance)
    if mode == "official":
        return _official(a, b)
    first, second = answer_key(a), answer_key(b)
    return first == second or (tolerance is not None and _close(first, second, tolerance))


def check_grading(mode: str, tolerance: float | None) -> None:
    """Refuses a grading mode or tolerance that does not exist.

    Raises:
        UserError: As described for :func:`equivalent`.
    """
    if mode not in GRADING_MODES:
        raise unknown("grading mode", mode, GRADING_MODES)
    if tolerance is None:
        return
    if not math.isfinite(tolerance) or tolerance < 0:
        raise UserError(f"expected a tolerance of 0 or more, or None; got {tolerance!r}")
    if mode == "official":
        raise UserError("the official grading mode knows no tolerance; use mode='sane'")


def answer_key(text: str) -> Key:
    """The normal form of an answer in sane mode.

    Args:
        text: An answer of any length.

    Returns:
        ``("number", value)``, ``("expression", ...)``, ``("list", opener, closer,
        *keys)`` or ``("words", text)``; hashable, equal for equivalent answers.
    """
    return _short_key(text) if len(text) <= CACHED_CHARS else _key(text)


@lru_cache(maxsize=CACHE_SIZE)
def _short_key(text: str) -> Key:
    return _key(text)


def forget() -> None:
    """Empties the caches of normal forms and verdicts; no verdict depends on them."""
    _short_key.cache_clear()
    _official_pair.cache_clear()


def _official(a: str, b: str) -> bool:
    if len(a) + len(b) <= CACHED_CHARS:
        return _official_pair(min(a, b), max(a, b))
    return published_verdict(a, b) or published_verdict(b, a)


@lru_cache(maxsize=CACHE_SIZE)
def _official_pair(a: str, b: str) -> bool:
    return published_verdict(a, b) or published_verdict(b, a)


def _close(first: Key, second: Key, tolerance: float) -> bool:
    if first[0] == second[0] == "number":
        left, right = first[1], second[1]
        assert isinstance(left, Fraction) and isinstance(right, Fraction)
        return abs(left - right) <= Fraction(tolerance) * max(abs(left), abs(right))
    if first[0] == second[0] == "list" and first[1:3] == second[1:3]:
        left_items, right_items = first[3:], second[3:]
        return len(left_items) == len(right_items) and all(
            x == y or (isinstance(x, tuple) and isinstance(y, tuple) and _close(x, y, tolerance))
            for x, y in zip(left_items, right_items, strict=True)
        )
    return False


def _key(text: str) -> Key:
    if len(text) > MAX_CHARS:
        return ("words", " ".join(text.lower().split()))
    # What most answers are needs no parsing.
    if len(text) <= 18 and (_DECIMAL.fullmatch(text) or _FRACTION.fullmatch(text)):
        return ("number", Fraction(text))
    cleaned = _clean(text)
    if not cleaned and text.strip():
        # "%" alone is not the empty answer: nothing was left because nothing was said.
        return ("words", text.strip().lower())
    return _cleaned_key(cleaned)


def _cleaned_key(text: str, nested: bool = False) -> Key:
    items = None if nested else _list_items(text)
    if items is not None:
        keys = [_cleaned_key(_strip_unit(item.strip()), nested=True) for item in items]
        return ("list", text[0], text[-1], *keys)
    number = _number_key(text)
    if number is not None:
        return number
    words = text.replace(" and ", ",").replace(" or ", ",").replace("{", "").replace("}", "")
    words = _LONE_BRACKETS.sub(r"\1", _BLANKS.sub("", words))
    return ("words", words)


def _clean(text: str) -> str:
    """Drops what does not count: wrappers, signs of currency and percent, units."""
    text = text.strip()
    if not text.isascii():
        text = "".join(_ascii_digit(char) for char in text).replace("−", "-")
    text = text.replace("\\left", "").replace("\\right", "").replace("{,}", ",")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\!", "")
    text = text.replace("\\$", "").replace("\\%", "").replace("$", "").replace("%", "")
    if "\\" in text:
        text = plain_text(text, grouped=True).replace("∪", "u")
    text = text.lower().strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    named = _NAMED.match(text)
    if named:
        text = named.group(1).strip()
    return _strip_unit(text)


def _ascii_digit(char: str) -> str:
    return str(int(char)) if char.isdecimal() else char


def _strip_unit(text: str) -> str:
    match = _WITH_UNIT.match(text)
    return match.group(1).strip() if match else text


def _number_key(text: str) -> Key | None:
    """The key of a number or a sum of symbols; None if the text is neither."""
    text = _ROOT.sub(r"sqrt(\1)", text).replace("√", "sqrt").replace("π", "pi")
    if not _ARITHMETIC.search(text):
        return None
    text = text.replace("×", "*").replace("·", "*").replace("÷", "/")
    text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    scaled = _WITH_SCALE.match(text)
    if scaled:
        text = f"{scaled.group(1)}*10^{_SCALES[scaled.group(2)]}"
    text = re.sub(r"([+-])\s+(?=[0-9(])", r"\1", text.replace("{", "(").replace("}", ")"))
    mixed = _MIXED.match(text.replace("(", "").replace(")", ""))
    if mixed:
        sign, whole, top, bottom = mixed.groups()
        text = f"{sign}({whole}+{top}/{bottom})"
    elif re.search(r"[0-9.]\s+[0-9.]", text):
        return None
    text = "".join(text.split())
    if _DASHED.fullmatch(text) or _SLASHED.fullmatch(text) or _is_prose(text):
        # Ranges, dates and codes look like sums but are none.
        return None
    value = evaluate(text)
    if value is None:
        return None
    if value.number is not None:
        return ("number", value.number)
    return ("expression", value.key)


def _is_prose(text: str) -> bool:
    """Whether letters are words or labels here rather than the symbols of a sum."""
    if _DECIMAL.fullmatch(text):
        return False
    bare = _NOT_LETTERS.sub("", text)
    if _LABEL.search(bare):
        return True
    return any(char.isalpha() for char in bare) and _OPERATOR.search(text) is None


def _list_items(text: str) -> list[str] | None:
    """The elements of ``(a, b)`` or ``[a, b]``; None if the text is no such list."""
    text = _THOUSANDS_IN_LIST.sub(r"\1\2", text)
    if len(text) < 3 or text[0] not in _OPENERS or text[-1] not in _CLOSERS:
        return None
    inside = text[1:-1]
    if any(bracket in inside for bracket in "()[]") or "," not in inside:
        return None
    return inside.split(",")
