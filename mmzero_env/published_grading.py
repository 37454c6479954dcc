"""The verdicts of the grader behind MM-Zero's published rewards, rule by rule.

MM-Zero grades with ``mathruler`` 0.1.0, which follows the graders of the MATH and
PRM800K data sets: two normalisations of the text, then element-wise comparison of
tuples, the last resort being symbolic equality. This module reproduces the
verdicts, oddities included, because recorded reward values depend on them: unit
words are deleted wherever their letters occur ("second" is "minute"), letters
commute ("no" is "on"), blanks between digits vanish ("1 2" is "12"), and a
fraction never equals an integer ("6/2" is not "3").

Nothing here is meant for new work; :mod:`mmzero_env.grading` has the sound grader.
The symbolic step is :mod:`mmzero_env.algebra`, so every call is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mmzero_env.algebra import evaluate, same
from mmzero_env.latex import plain_text

# Beyond this many characters only equal normal forms of the plain text count.
MAX_CHARS = 4_000

_UNITS = (
    "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard"
).split()
_UNIT_PATTERNS = [re.compile(rf"{unit}(?:es)?s? *(?:\^[0-9]+)?") for unit in _UNITS]
_SCALES = (("million", "*10^6"), ("billion", "*10^9"), ("trillion", "*10^12"))
_TEXT_WRAPPER = re.compile(r"^\\text\{(.+?)\}$", re.MULTILINE)
_GROUPED_DIGITS = re.compile(r"(\d),(\d{3})($|\D)")
_FRACTION = re.compile(r"^-?[0-9]+.?/0*[1-9][0-9]*.?$")
_BRACKETS = "()[]"
_INTEGER_SLACK = 1e-7
_TOO_HARD = re.compile(r"\^\{|\^\(|\^[0-9]+\^|\^[0-9][0-9]+")
_MAX_LETTERS = 2


def published_verdict(given: str, truth: str) -> bool:
    """Whether the published grader accepts one answer for another.

    Args:
        given: The answer to grade.
        truth: The answer it is compared with.

    Returns:
        Its verdict in this direction.
    """
    if max(len(given), len(truth)) > MAX_CHARS:
        return given.strip() == truth.strip()
    if _math_form(given) == _math_form(truth):
        return True
    left, right = _answer_form(given), _answer_form(truth)
    if left == right:
        return True
    if not left:
        return False
    left_items, right_items = _items(left), _items(right)
    if len(left_items) != len(right_items):
        return False
    if len(right_items) > 1 and (left[0], left[-1]) != (right[0], right[-1]):
        return False
    return all(map(_same_item, left_items, right_items))


def _same_item(left: str, right: str) -> bool:
    if _FRACTION.search(left) and _FRACTION.search(right):
        return left == right
    if _is_integer(left) != _is_integer(right):
        return False
    # One string holds both sides there, so the letter limit counts them together.
    letters = set(f"{left}{right}".replace("sqrt", "").replace("frac", ""))
    if sum(letter.isalpha() for letter in letters) > _MAX_LETTERS:
        return False
    if _TOO_HARD.search(left) or _TOO_HARD.search(right):
        return False
    first, second = evaluate(left), evaluate(right)
    return first is not None and second is not None and same(first, second)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _near_integer(value: float | None) -> bool:
    return (
        value is not None
        and abs(value) < float("inf")
        and (abs(value - round(value)) <= _INTEGER_SLACK)
    )


def _is_integer(text: str) -> bool:
    return _near_integer(_float(_without_grouping(text)))


def _without_grouping(text: str) -> str:
    while (shorter := _GROUPED_DIGITS.sub(r"\1\2\3", text)) != text:
        text = shorter
    return text


def _items(text: str) -> list[str]:
    """The elements of a bracketed list, or the text itself as the only one."""
    text = _without_grouping(text)
    if len(text) > 2 and text[0] in _BRACKETS and text[-1] in _BRACKETS:
        if not any(bracket in text[1:-1] for bracket in _BRACKETS):
            return [item.strip() for item in text[1:-1].split(",")]
    return [text] if text else []


def _answer_form(text: str) -> str:
    """The normal form of a short answer."""
    if match := _TEXT_WRAPPER.search(text):
        text = match.group(1)
    for drop in ("\\%", "\\$", "$", "%"):
        text = text.replace(drop, "")
    text = text.replace(" or ", " , ").replace(" and ", " , ")
    for word, power in _SCALES:
        text = text.replace(word, power)
    for pattern in _UNIT_PATTERNS:
        text = pattern.sub("", text)
    text = re.sub(r"\^ *\\circ", "", text)
    if text[:1] == "{" and text[-1:] == "}":
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    value = _float(text)
    if value is not None and _near_integer(value):
        text = str(round(value))
    if "\\" in text:
        text = _readable(text)
    text = re.sub("- *", "-", text)
    text = re.sub("([0-9]) +([0-9])", r"\1+\2", text)
    text = text.replace(" ", "").replace("{", "").replace("}", "").lower()
    if _is_integer(text):
        text = str(int(float(text.replace(",", ""))))
    return text


_READABLE: tuple[tuple[str, str], ...] = (
    ("√", "sqrt"),
    ("π", "pi"),
    ("∞", "inf"),
    ("∪", "U"),
    ("·", "*"),
    ("×", "*"),
)


def _readable(text: str) -> str:
    text = plain_text(text)
    for symbol, word in _READABLE:
        text = text.replace(symbol, word)
    return text.strip()


class _Malformed(Exception):
    """LaTeX that the second normalisation cannot read; the text stays as it was."""


def _math_form(text: str) -> str:
    """The normal form of a LaTeX answer."""
    text = text.strip()
    if match := _TEXT_WRAPPER.search(text):
        text = match.group(1).strip()
    try:
        return _latex_form(text)
    except _Malformed:
        return text


def _latex_form(text: str) -> str:
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for drop in ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"):
        text = text.replace(drop, "")
    before, *units = text.split("\\text{ ")
    if len(units) > 1:
        raise _Malformed
    text = before.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    name, *values = text.split("=")
    if len(values) == 1 and len(name) <= 2:
        text = values[0]
    text = _with_braces(text, "\\sqrt", _braced_root).replace(" ", "")
    text = _with_braces(text, "\\frac", _braced_fraction)
    if text == "0.5":
        return "\\frac{1}{2}"
    top, *bottoms = text.split("/")
    if len(bottoms) == 1:
        try:
            if text == f"{int(top)}/{int(bottoms[0])}":
                return f"\\frac{{{int(top)}}}{{{int(bottoms[0])}}}"
        except ValueError:
            return text
    return text


def _with_braces(text: str, macro: str, braced: Callable[[str], str | None]) -> str:
    """Adds the braces that LaTeX lets a writer omit after a macro."""
    first, *rest = text.split(macro)
    done = [first]
    for piece in rest:
        fixed = braced(piece)
        if fixed is None:
            return text
        done.append(fixed)
    return macro.join(done)


def _braced_root(after: str) -> str | None:
    if not after:
        raise _Malformed
    return after if after[0] == "{" else f"{{{after[0]}}}{after[1:]}"


def _braced_fraction(after: str) -> str | None:
    if not after:
        raise _Malformed
    if after[0] == "{":
        return after
    if len(after) < 2:
        return None
    top, bottom, rest = after[0], after[1], after[2:]
    return f"{{{top}}}{bottom}{rest}" if bottom == "{" else f"{{{top}}}{{{bottom}}}{rest}"
