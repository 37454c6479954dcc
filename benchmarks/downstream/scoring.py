r"""Grades answers by rules: what stands in the last ``\boxed{}`` against the right answer.

The published evaluation cuts the box at its first closing brace, so that
``\boxed{\frac{1}{2}}`` gives ``\frac{1``; here braces are balanced
(:func:`mmzero_env.parsing.extract_boxed`), and equal means
:func:`mmzero_env.grading.equivalent`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from benchmarks.downstream.driver import FAILED
from benchmarks.downstream.sets import BenchmarkSet
from mmzero_env.grading import answer_key, equivalent
from mmzero_env.latex import plain_text
from mmzero_env.parsing import extract_boxed

RELAXED = Fraction(5, 100)
"""ChartQA: a number is right within 5 % of the right one (Masry et al. 2022, section 5.1)."""

_LETTER = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?\(?([a-z])\)?\s*[.:]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(r"\(?([A-Za-z])(?:[.:]\)?|\))\s*(?=\S)(.+)", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_YES_NO = {"1": "yes", "0": "no"}


@dataclass(frozen=True)
class Item:
    """What the driver wrote about one item.

    Attributes:
        item: Its place in the set.
        question: What was asked, with options.
        options: The options, in order; empty where there are none or the question has them.
        answer: The right answer as the set has it.
        kept: Columns that grading needs.
        texts: What the model wrote, one a sample.
    """

    item: int
    question: str
    options: tuple[str, ...]
    answer: str
    kept: Mapping[str, Any]
    texts: tuple[str, ...]

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Item:
        """An item from a line of the driver's file."""
        return cls(
            int(line["item"]),
            line["question"],
            tuple(line["options"]),
            line["answer"],
            line["kept"],
            tuple(line["texts"]),
        )


@dataclass(frozen=True)
class Verdict:
    """How one answer was graded.

    Attributes:
        right: Whether it counts as right.
        given: The final answer, or None.
        state: ``"answered"``; or why there is no answer, which counts as wrong: ``"failed"``
            (no response), ``"empty"``, ``"no box"``.
    """

    right: bool
    given: str | None
    state: str


def grade(each: BenchmarkSet, item: Item, text: str) -> Verdict:
    """Grade one text; whatever has no answer is wrong and says why."""
    if text.startswith(FAILED):
        return Verdict(False, None, "failed")
    if not text.strip():
        return Verdict(False, None, "empty")
    given = extract_boxed(text)
    if not given:
        return Verdict(False, given, "no box")
    return Verdict(is_right(each, item, given), given, "answered")


def is_right(each: BenchmarkSet, item: Item, given: str) -> bool:
    """Whether a final answer is the right one by the rule of its set."""
    if each.rule == "yes_no":
        return _word(given) == _YES_NO.get(item.answer.strip(), _word(item.answer))
    if each.rule == "parts":
        return _has_parts(given, item.answer)
    if each.rule == "relaxed":
        return any(_relaxed(given, answer) for answer in _alternatives(item.answer))
    if each.lettered or not item.options:
        letter = letter_of(item.answer, item.options)
    else:
        letter = _letter_of_text(item.answer, item.options)
    if letter is not None:
        chosen = letter_of(given, item.options)
        return chosen == letter if chosen else equivalent(given, item.answer)
    decimals = item.kept.get(each.decimals)
    if decimals and _rounds_to(given, item.answer, int(decimals)):
        return True
    return any(equivalent(given, answer) for answer in _alternatives(item.answer))


def letter_of(text: str, options: Sequence[str]) -> str | None:
    """The option that a text names, by its letter, by its words, or by both.

    Args:
        text: ``"B"``, ``"(b)"``, ``"B. 12"``, ``"option B"`` or the words of an option.
        options: In order; empty if they are not known.

    Returns:
        A capital letter, or None if no single option is named.
    """
    text = plain_text(text).strip() if "\\" in text else text.strip()
    match = _LETTER.fullmatch(text)
    if match and _within(match[1], options):
        return match[1].upper()
    match = _LETTER_AND_TEXT.fullmatch(text)
    if match and _within(match[1], options):
        letter = match[1].upper()
        if not options or equivalent(match[2], options[ord(letter) - ord("A")]):
            return letter
    return _letter_of_text(text, options)


def _within(letter: str, options: Sequence[str]) -> bool:
    return not options or ord(letter.upper()) - ord("A") < len(options)


def _letter_of_text(text: str, options: Sequence[str]) -> str | None:
    same = [place for place, option in enumerate(options) if equivalent(text, option)]
    return chr(ord("A") + same[0]) if len(same) == 1 else None


def _alternatives(answer: str) -> list[str]:
    """Right answers: one, or several where a set has them as the text of a Python list."""
    if answer.startswith("["):
        try:
            found = ast.literal_eval(answer)
        except (SyntaxError, ValueError):
            return [answer]
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return found
    return [answer]


def _relaxed(given: str, answer: str) -> bool:
    number, right = _number(given), _number(answer)
    if number is None or right is None:
        return equivalent(given, answer)
    return abs(number - right) <= RELAXED * abs(right)


def _rounds_to(given: str, answer: str, decimals: int) -> bool:
    number, right = _number(given), _number(answer)
    return number is not None and right is not None and round(number, decimals) == right


def _number(text: str) -> Fraction | None:
    kind, *values = answer_key(text)
    return values[0] if kind == "number" and isinstance(values[0], Fraction) else None


def _has_parts(given: str, answer: str) -> bool:
    """MM-Vet: all parts of one alternative, ``a <AND> b <OR> c``, as whole words."""
    words = _words(given)
    return any(
        equivalent(given, alternative)
        or all(_words(part) in words for part in alternative.split("<AND>"))
        for alternative in answer.split("<OR>")
    )


def _words(text: str) -> str:
    plain = plain_text(text) if "\\" in text else text
    return f" {' '.join(_WORD.findall(plain.lower()))} "


def _word(text: str) -> str:
    found = _words(text).split()
    return found[0] if found else ""
