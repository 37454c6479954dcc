"""Which shapes of a diagram are joined by lines and arrows."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.grounding.outline import Box, Point
from mmzero_env.grounding.scene import Element, Scene

REACH = 0.035
"""How far a line may end before the shape that it leads to, as a share of the canvas."""


@dataclass(frozen=True)
class Links:
    """The joined shapes of a diagram.

    Attributes:
        nodes: Shapes that may be joined.
        forward: Pairs of places in ``nodes``: an arrow leads from the first to the second.
        plain: Pairs joined by a line without a direction, in the order of reading (from
            left to right, then downwards).
        certain: Whether every line of the picture joins two shapes, so that shapes
            without a line between them are not joined.
    """

    nodes: tuple[Element, ...]
    forward: frozenset[tuple[int, int]]
    plain: frozenset[tuple[int, int]]
    certain: bool

    def node(self, place: Element) -> int | None:
        """The node that an element is, or in which a text stands."""
        found = [
            index for index, node in enumerate(self.nodes)
            if node is place or place.kind == "text" and node.box.has(place.box.x, place.box.y)
        ]  # fmt: skip
        return found[0] if len(found) == 1 else None

    def has(self, a: int, b: int) -> bool | None:
        """Whether a leads to b directly; None if the picture does not tell."""
        if (a, b) in self.forward or (a, b) in self.plain:
            return True
        if (b, a) in self.plain:
            return None
        return False if self._known(a, b) else None

    def joins(self, a: int, b: int) -> bool | None:
        """Whether a line or an arrow joins both, whatever its direction."""
        if any(pair in each for pair in ((a, b), (b, a)) for each in (self.forward, self.plain)):
            return True
        return False if self._known(a, b) else None

    def steps(self, a: int, b: int) -> int | None:
        """Length of the shortest way from a to b; None if there is none for certain."""
        pairs = self.forward | self.plain
        reached, at, count = {a}, {a}, 0
        while at and b not in at:
            at = {y for x, y in pairs if x in at} - reached
            reached |= at
            count += 1
        return count if b in at and self._known(a, b) else None

    def _known(self, a: int, b: int) -> bool:
        joined = {place for pair in self.forward | self.plain for place in pair}
        return self.certain and a in joined and b in joined


def links(scene: Scene) -> Links | None:
    """The links of a picture; None if it has none."""
    return scene.fact("links", _find)


def _find(scene: Scene) -> Links | None:
    reach = REACH * scene.unit
    nodes = tuple(each for each in scene.solids if not each.swatch)
    if len(nodes) < 2 or not scene.lines or len(nodes) * len(scene.lines) > 4000:
        return None
    heads = [
        each for each in nodes
        if each.corners == 3 and max(each.box.width, each.box.height) < 1.5 * reach
    ]  # fmt: skip
    nodes = tuple(each for each in nodes if each not in heads)
    forward, plain, certain = set(), set(), scene.complete
    for line in scene.lines:
        met = _met(line, nodes, reach)
        if len(met) < 2:
            certain = False
            continue
        if len(set(met)) < len(met):
            certain = False
        begins = line.starts or _headed(line.points[0], heads, reach)
        ends = line.ends or _headed(line.points[-1], heads, reach)
        for a, b in zip(met, met[1:], strict=False):
            if ends:
                forward.add((a, b))
            if begins:
                forward.add((b, a))
            if not begins and not ends:
                plain.add(_in_reading_order(a, b, nodes))
    if not forward and not plain:
        return None
    return Links(nodes, frozenset(forward), frozenset(plain), certain)


def _headed(end: Point, heads: list[Element], reach: float) -> bool:
    return any(head.box.has(*end, margin=0.6 * reach) for head in heads)


def _in_reading_order(a: int, b: int, nodes: tuple[Element, ...]) -> tuple[int, int]:
    first, second = nodes[a].box, nodes[b].box
    across, down = second.x - first.x, second.y - first.y
    behind = across < 0 if abs(across) > 0.2 * abs(down) else down < 0
    return (b, a) if behind else (a, b)


def _met(line: Element, nodes: tuple[Element, ...], reach: float) -> list[int]:
    """The nodes on the way of a line, in order: those at its ends, those that it crosses."""
    found: list[tuple[float, int]] = []
    last = len(line.points) - 1
    for index, node in enumerate(nodes):
        entries = []
        for number in range(last):
            start, end = line.points[number], line.points[number + 1]
            # The ends may stop short of a shape; in between only what is crossed counts.
            margin = reach if number in (0, last - 1) else 0.0
            at = _crossing(start, end, node.box, -0.1 * min(node.box.width, node.box.height))
            if at is None and margin:
                for place, point in ((0.0, start), (1.0, end)):
                    outer = number == 0 if place == 0 else number == last - 1
                    if outer and node.box.has(*point, margin=margin):
                        at = place
            if at is not None:
                entries.append(number + at)
        if entries:
            # A line leaves the shape that it begins in.
            whole = node.box.has(*line.points[0], margin=reach)
            found.append((0.0 if whole else min(entries), index))
    found.sort()
    return [index for _, index in found]


def _crossing(start: Point, end: Point, box: Box, margin: float) -> float | None:
    """Where a segment is first inside of a box, as a share of its length (Liang-Barsky)."""
    low, high = 0.0, 1.0
    edges = (
        (start[0], end[0] - start[0], box.left - margin, box.right + margin),
        (start[1], end[1] - start[1], box.top - margin, box.bottom + margin),
    )
    for place, step, near, far in edges:
        if abs(step) < 1e-9:
            if not near <= place <= far:
                return None
            continue
        a, b = sorted(((near - place) / step, (far - place) / step))
        low, high = max(low, a), min(high, b)
    return low if low <= high else None
