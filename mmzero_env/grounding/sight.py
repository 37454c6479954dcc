"""What of the painted elements is seen: covered, cut, too faint, background, legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmzero_env.grounding.colours import RGB, alike
from mmzero_env.grounding.outline import Box
from mmzero_env.grounding.scene import Element, Scene

Overlap = tuple[int, float, float]
"""Another element, and the shares of the own box and of its box that both cover."""

_WHITE: RGB = (1.0, 1.0, 1.0)
_BACKGROUND = 0.7
"""Share of the canvas from which on a shape is its background."""


def settle(found: Sequence[Element], canvas: Box, complete: bool) -> Scene:
    """Leave what is visible, and say what can be relied on.

    Args:
        found: Everything painted, in this order.
        canvas: The picture.
        complete: Whether everything could be read.
    """
    placed = [each for each in found if _is_inside(each.box, canvas)]
    complete = complete and all(math.isfinite(each.box.left) for each in found)
    if not placed:
        return Scene((), canvas, complete)
    boxes = np.array([(b.left, b.top, b.right, b.bottom) for b in (e.box for e in placed)])
    areas = np.maximum(1e-9, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    across = np.minimum(boxes[:, None, 2], boxes[None, :, 2]) - np.maximum(
        boxes[:, None, 0], boxes[None, :, 0]
    )
    down = np.minimum(boxes[:, None, 3], boxes[None, :, 3]) - np.maximum(
        boxes[:, None, 1], boxes[None, :, 1]
    )
    shared = np.clip(across, 0, None) * np.clip(down, 0, None)
    first, second = np.nonzero(shared > 0.02 * areas[:, None])
    both = shared[first, second]
    rows: list[list[Overlap]] = [[] for _ in placed]
    for i, j, mine, other in zip(
        first.tolist(),
        second.tolist(),
        (both / areas[first]).tolist(),
        (both / areas[second]).tolist(),
        strict=True,
    ):
        if i != j:
            rows[i].append((j, mine, other))
    texts = [each for each in placed if each.kind == "text"]
    seen = [
        settled
        for index, each in enumerate(placed)
        if (settled := _seen(index, each, placed, rows[index], texts, canvas)) is not None
    ]
    return Scene(tuple(seen), canvas, complete)


def _is_inside(box: Box, canvas: Box) -> bool:
    return (
        box.right > canvas.left
        and box.left < canvas.right
        and box.bottom > canvas.top
        and box.top < canvas.bottom
    )


def _seen(
    index: int,
    each: Element,
    placed: Sequence[Element],
    overlaps: Sequence[Overlap],
    texts: Sequence[Element],
    canvas: Box,
) -> Element | None:
    behind: RGB | None = _WHITE
    sure = each.sure
    ground = each.solid and each.box.area > _BACKGROUND * canvas.area
    for other, share, theirs in overlaps:
        above = placed[other]
        if other < index:
            if above.fill is not None and above.solid and share > 0.1:
                # What stands on two colours is seen on one of them.
                behind = above.fill.rgb if share > 0.9 else None
            if (
                each.kind != "text" and above.kind == each.kind
                and share > 0.95 and theirs > 0.95
            ):  # fmt: skip
                # An edge drawn for itself, on top of the shape that it belongs to.
                sure = False
            if (
                above.kind == each.kind
                and each.kind in ("circle", "ellipse", "path")
                and above.box.holds(each.box)
            ):
                # A ring is one thing for some, two circles for others.
                sure = False
        elif above.fill is not None and above.solid and not above.clear:
            if share > 0.999 and above.kind == "rect" and above.sure:
                return None
            # Whether a part is covered by what is not a rectangle cannot be told by boxes.
            sure = sure and (share < 0.1 or each.kind in ("line", "text"))
        if other > index and each.solid and above.solid and each.box.holds(above.box):
            ground = ground or (each.kind == "rect" and above.box.area < 0.8 * each.box.area)
    inside = each.fill is not None and not alike(each.fill.rgb, behind)
    edged = each.stroke is not None and not alike(each.stroke.rgb, behind)
    if not inside and not edged:
        return None
    if not canvas.holds(each.box, 0.02 * max(canvas.width, canvas.height)) and not ground:
        sure = False
    return each._replace(sure=sure, ground=ground, swatch=_is_swatch(each, texts, canvas))


def _is_swatch(each: Element, texts: Sequence[Element], canvas: Box) -> bool:
    """Whether a small shape has a text right behind it, as in a legend; or is a mere dot."""
    if not each.solid:
        return False
    size = max(each.box.width, each.box.height)
    if size < 0.02 * max(canvas.width, canvas.height):
        return True
    for other in texts:
        if size <= 2 * other.size:
            gap = other.box.left - each.box.right
            if -0.1 * other.size <= gap < 2 * other.size and abs(other.box.y - each.box.y) < (
                other.size
            ):  # fmt: skip
                return True
    return False
