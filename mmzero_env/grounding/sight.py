"""What of the painted elements is seen: covered, cut, too faint, background, legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmzero_env.grounding.colours import RGB, alike
from mmzero_env.grounding.outline import Box
from mmzero_env.grounding.scene import Element, Scene

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
    complete = complete and all(np.isfinite(each.box.left) for each in found)
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
    # common[i, j]: share of i's box that lies in j's.
    common = np.clip(across, 0, None) * np.clip(down, 0, None) / areas[:, None]
    seen = [
        settled
        for index, each in enumerate(placed)
        if (settled := _seen(index, each, placed, common, canvas)) is not None
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
    index: int, each: Element, placed: Sequence[Element], common: np.ndarray, canvas: Box
) -> Element | None:
    covers = [other for other in np.flatnonzero(common[index] > 0.02).tolist() if other != index]
    behind: RGB | None = _WHITE
    sure = each.sure
    ground = each.solid and each.box.area > _BACKGROUND * canvas.area
    for other in covers:
        above = placed[other]
        if other < index:
            if above.fill is not None and above.solid and common[index, other] > 0.9:
                behind = above.fill.rgb
            if (
                each.kind != "text" and above.kind == each.kind
                and common[index, other] > 0.95 and common[other, index] > 0.95
            ):  # fmt: skip
                # An edge drawn for itself, on top of the shape that it belongs to.
                sure = False
        elif above.fill is not None and above.solid:
            share = common[index, other]
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
    fill = each.fill if inside or each.kind == "text" else None if edged else each.fill
    if fill is None and each.fill is not None:
        # Filled in the colour of what it stands on: white inside, and so it may be called.
        fill = each.fill
    return replace(
        each, fill=fill, sure=sure, ground=ground, swatch=_is_swatch(index, each, placed, canvas)
    )


def _is_swatch(index: int, each: Element, placed: Sequence[Element], canvas: Box) -> bool:
    """Whether a small shape has a text right behind it, as in a legend; or is a mere dot."""
    if not each.solid:
        return False
    size = max(each.box.width, each.box.height)
    if size < 0.02 * max(canvas.width, canvas.height):
        return True
    for other in placed:
        if other.kind == "text" and size <= 2 * other.size:
            gap = other.box.left - each.box.right
            if -0.1 * other.size <= gap < 2 * other.size and abs(other.box.y - each.box.y) < (
                other.size
            ):  # fmt: skip
                return True
    return False
