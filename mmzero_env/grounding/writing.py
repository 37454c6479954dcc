"""Where the lines of a ``<text>`` stand, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from lxml import etree

from mmzero_env.grounding.colours import UNKNOWN, Shade, over, parse_colour
from mmzero_env.grounding.outline import apply, box_of, numbers
from mmzero_env.grounding.scene import Element
from mmzero_env.rendering.vocabulary import SVG

if TYPE_CHECKING:
    from mmzero_env.grounding.reader import State
    from mmzero_env.grounding.style import Styles

LETTER = 0.58
"""Width of a letter of DejaVu Sans in em, on average over English text. An estimate:
places of texts are used with a margin."""

_ASCENT, _DESCENT = 0.74, 0.2
_MIDDLE = frozenset(("middle", "central"))
_HANGING = frozenset(("hanging", "text-before-edge", "text-top"))


class _Line:
    """A run of letters that begins at a place of its own."""

    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y
        self.parts: list[str] = []


def write(
    node: etree._Element,
    own: Mapping[str, str],
    state: State,
    styles: Styles,
    length: Callable[[str | None, State, float], float],
) -> Iterator[Element]:
    """The lines of one text.

    Args:
        node: The ``<text>`` element.
        own: Its properties.
        state: What holds inside of it.
        styles: Of the document.
        length: Reads a length.

    Yields:
        One element a line that has a place of its own.
    """
    if state.style.get("visibility") in ("hidden", "collapse"):
        return
    lines = [_Line(*_place(own, state, length, (0.0, 0.0)))]
    placed = True
    style = dict(state.style)
    for event, part in etree.iterwalk(node, events=("start", "end")):
        if event == "start":
            if part is not node:
                if part.tag == f"{SVG}textPath":
                    placed = False
                inner = styles.of(part)
                size = inner.get("font-size")
                if size and len(lines) == 1 and not "".join(lines[0].parts).strip():
                    style["font-size"] = f"{length(size, state, 0) or 16.0:.6g}"
                if "fill" in inner and len(lines) == 1 and not lines[0].parts:
                    style["fill"] = inner["fill"]
                if any(inner.get(name) for name in ("x", "y")) or _breaks(inner, length, state):
                    lines.append(_Line(*_place(inner, state, length, (lines[-1].x, lines[-1].y))))
            lines[-1].parts.append(part.text or "")
        elif part is not node:
            lines[-1].parts.append(part.tail or "")
    size = float(style.get("font-size") or 16.0)
    fill = _ink(style, state)
    if fill is None or not all(math.isfinite(number) for number in state.matrix):
        return
    a, b, c, d, *_ = state.matrix
    scale = math.sqrt(abs(a * d - b * c))
    anchor = style.get("text-anchor")
    for line in lines:
        text = " ".join("".join(line.parts).split())
        if not text:
            continue
        width = LETTER * size * len(text)
        left = line.x - width * {"middle": 0.5, "end": 1.0}.get(anchor or "", 0.0)
        top = line.y - _ASCENT * size
        baseline = own.get("dominant-baseline") or style.get("dominant-baseline")
        if baseline in _MIDDLE:
            top = line.y - 0.5 * size
        elif baseline in _HANGING:
            top = line.y
        bottom = top + (_ASCENT + _DESCENT) * size
        ring = [(left, top), (left + width, top), (left + width, bottom), (left, bottom)]
        box = box_of(apply(state.matrix, ring))
        if box is not None:
            sure = state.sure and placed and "writing-mode" not in style
            yield Element("text", box, fill=fill, text=text, size=size * scale, sure=sure)


def _ink(style: Mapping[str, str], state: State) -> Shade | None:
    for name, otherwise in (("fill", "black"), ("stroke", "none")):
        value = style.get(name, otherwise).strip()
        if value.lower() == "currentcolor":
            value = style.get("color", "black").strip()
        if value.lower() in ("none", "transparent"):
            continue
        colour = parse_colour(value)
        if colour is None:
            return UNKNOWN
        try:
            alpha = state.alpha * colour[1] * float(style.get(f"{name}-opacity", "1"))
        except ValueError:
            alpha = state.alpha
        if alpha >= 0.05:
            return over(colour[0], round(min(1.0, alpha), 3), (1.0, 1.0, 1.0))
    return None


def _place(
    own: Mapping[str, str],
    state: State,
    length: Callable[[str | None, State, float], float],
    before: tuple[float, float],
) -> tuple[float, float]:
    """Where a line begins, in user units."""
    found = []
    for axis, (name, shift, across) in enumerate((("x", "dx", 1.0), ("y", "dy", 0.0))):
        places = own.get(name, "").replace(",", " ").split()
        place = length(places[0], state, across) if places else before[axis]
        shifts = own.get(shift, "").replace(",", " ").split()
        found.append(place + (length(shifts[0], state, across) if shifts else 0.0))
    return found[0], found[1]


def _breaks(
    own: Mapping[str, str], length: Callable[[str | None, State, float], float], state: State
) -> bool:
    """Whether a span moves down by a line, and not by a raised letter."""
    shift = own.get("dy")
    if not shift or not numbers(shift):
        return False
    size = float(state.style.get("font-size") or 16.0)
    return abs(length(shift.split()[0], state, 0)) > 0.8 * size and bool(own.get("x"))
