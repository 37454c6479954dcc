"""What drawing a document will cost once every reference is followed.

``<use>``, patterns, markers, masks and clip paths let a few bytes draw millions of
shapes. The cost is counted without drawing, so a bomb is refused for what it is and
never for how busy the machine was. The unit is one plain shape, about 0.15 ms of CPU
time in the default backend; the weights below were measured with it.
"""

from __future__ import annotations

import re

from lxml import etree

from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.references import MARKERS, SVG, fragments, href_of, index_ids
from mmzero_env.rendering.refusal import Refusal

# Weights in units of one plain shape.
LETTER = 0.25
PATH_CHARACTER = 0.02
LAYER = 4.0
MASK = 35.0
USE = 2.0
SEARCH = 0.005

# Painted only where something refers to them.
_STORED = frozenset(
    f"{SVG}{name}"
    for name in (
        "defs symbol clipPath mask marker pattern linearGradient radialGradient filter style"
    ).split()
)
_TEXT = frozenset(f"{SVG}{name}" for name in ("text", "tspan", "textPath"))
_INHERITED = ("fill", "stroke", "style", *MARKERS)
_NUMBER = re.compile(r"\d+\.?\d*|\.\d+")


def check_cost(root: etree._Element, limits: RenderLimits) -> None:
    """Refuse a document that would cost too much.

    Args:
        root: The ``<svg>`` element, references already cleaned.
        limits: ``max_cost`` and ``max_depth``.

    Raises:
        Refusal: ``too_costly``, ``too_deep`` or ``reference_cycle``.
    """
    total = drawing_cost(root, limits)
    if total > limits.max_cost:
        raise Refusal(
            "too_costly", f"drawing cost {total:.3g}, at most {limits.max_cost:g} plain shapes"
        )


def drawing_cost(root: etree._Element, limits: RenderLimits) -> float:
    """The cost of a document with every reference followed.

    Args:
        root: The ``<svg>`` element, references already cleaned.
        limits: ``max_depth``.

    Returns:
        The cost in units of one plain shape.

    Raises:
        Refusal: ``too_deep`` or ``reference_cycle``.
    """
    counter = _Counter(root, limits)
    total, _ = counter.drawn(root)
    # A style sheet may give any element any paint; count it for all of them.
    for sheet in root.iter(f"{SVG}style"):
        for name in fragments(sheet.text or ""):
            total += counter.elements * counter.referred(name)[0]
        total += (sheet.text or "").count("{") * counter.elements * SEARCH
    return total


class _Counter:
    """Cost and depth of elements, each computed once."""

    def __init__(self, root: etree._Element, limits: RenderLimits) -> None:
        self.ids = index_ids(root)
        self.elements = sum(1 for _ in root.iter(etree.Element))
        self.limits = limits
        self.known: dict[etree._Element, tuple[float, int]] = {}
        self.open: set[etree._Element] = set()

    def referred(self, name: str) -> tuple[float, int]:
        """Cost and depth of what ``#name`` draws."""
        target = self.ids.get(name)
        return (0.0, 0) if target is None else self.content(target)

    def drawn(self, element: etree._Element) -> tuple[float, int]:
        """Cost and depth of an element where it stands."""
        return (0.0, 0) if element.tag in _STORED else self.content(element)

    def content(self, element: etree._Element) -> tuple[float, int]:
        """Cost and depth of an element when something draws it."""
        known = self.known.get(element)
        if known is not None:
            return known
        if element in self.open:
            raise Refusal("reference_cycle", f"#{element.get('id', '')[:40]} draws itself")
        self.open.add(element)
        # The chain of open elements is the depth on the way down.
        if len(self.open) > 2 * self.limits.max_depth:
            raise Refusal("too_deep", "references nested too deeply")
        cost, depth = self._own(element), 0
        for child in element:
            child_cost, child_depth = self.drawn(child)
            cost += child_cost
            depth = max(depth, child_depth)
        for attribute, value in element.items():
            for name in fragments(value):
                ref_cost, ref_depth = self.referred(name)
                cost += ref_cost * self._times(element, attribute)
                depth = max(depth, ref_depth)
        target = href_of(element)
        if target is not None:
            ref_cost, ref_depth = self.referred(target)
            is_use = element.tag == f"{SVG}use"
            cost += ref_cost + (USE + SEARCH * self.elements if is_use else 0.0)
            depth = max(depth, ref_depth)
        depth += 1
        if depth > self.limits.max_depth:
            raise Refusal("too_deep", f"references nest deeper than {self.limits.max_depth}")
        self.open.discard(element)
        self.known[element] = cost, depth
        return cost, depth

    def _times(self, element: etree._Element, attribute: str) -> int:
        """How often a reference in an attribute is drawn."""
        if attribute not in _INHERITED:
            return 1
        shapes = sum(1 for _ in element.iter(etree.Element))
        if attribute in MARKERS or attribute == "style":
            vertices = sum(
                len(_NUMBER.findall(node.get("points") or node.get("d") or ""))
                for node in element.iter(etree.Element)
            )
            return max(shapes, vertices // 2 + 1)
        return shapes

    def _own(self, element: etree._Element) -> float:
        cost = 1.0
        data = element.get("d") or element.get("points")
        if data:
            cost += PATH_CHARACTER * len(data)
        if element.tag in _TEXT:
            letters = len((element.text or "").strip())
            letters += sum(len((child.tail or "").strip()) for child in element)
            cost += LETTER * letters
        if element.get("mask"):
            cost += MASK
        if element.get("filter") or (len(element) and element.get("opacity", "1") != "1"):
            cost += LAYER
        return cost
