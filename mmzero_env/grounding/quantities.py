"""Numbers that a picture shows: written at a key, as lengths of bars, as places on an axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mmzero_env.grounding.outline import Box
from mmzero_env.grounding.scene import Element, Scene
from mmzero_env.grounding.words import key_of, number_of, pair_of

Key = tuple[str, ...]

MOST_BARS = 100
"""In a picture with more rectangles no bars are looked for."""


@dataclass(frozen=True)
class Axis:
    """What the tick labels beside bars say.

    Attributes:
        per_unit: Value of one canvas unit of length.
        base: Value where the bars begin.
        step: Between two neighbouring ticks.
    """

    per_unit: float
    base: float
    step: float


@dataclass(frozen=True)
class BarGroup:
    """Bars that stand on one line.

    Attributes:
        bars: From left to right, or from top to bottom.
        lengths: In canvas units.
        labels: The place in ``bars`` by the label beside it, if every bar has one.
        values: The number written at each bar, if every bar has exactly one.
        axis: If tick labels say what a length means.
    """

    bars: tuple[Element, ...]
    lengths: tuple[float, ...]
    labels: dict[Key, int]
    values: tuple[float, ...] | None
    axis: Axis | None

    @property
    def level(self) -> bool:
        """Whether all bars are equally long."""
        return max(self.lengths) < 1.01 * min(self.lengths)

    def quantities(self) -> tuple[float, ...]:
        """What the bars are compared by: written values, or else lengths."""
        return self.values or self.lengths


def bar_groups(scene: Scene) -> list[BarGroup]:
    """All groups of bars of a picture."""
    return scene.fact("bars", _find_bars)


def written(scene: Scene) -> dict[Key, float | None]:
    """Numbers written at labels; None where a label has more than one."""
    return scene.fact("written", _find_written)


def event_marks(scene: Scene) -> tuple[Element, ...]:
    """Equal marks side by side in a picture without any text: events on a bare axis."""
    return scene.fact("marks", _find_marks)


def _find_bars(scene: Scene) -> list[BarGroup]:
    fine = 1e-3 * scene.unit
    rects = [
        each for each in scene.elements
        if (each.kind == "rect" or each.kind == "line" and each.regular)
        and each.sure and not each.ground and each.fill is not None
    ]  # fmt: skip
    found = []
    if len(rects) > MOST_BARS:
        return []
    for upright in (True, False):
        rows: dict[tuple[int, int], list[Element]] = defaultdict(list)
        for each in rects:
            box = each.box
            start, thick = (box.bottom, box.width) if upright else (box.left, box.height)
            rows[round(start / fine), round(thick / fine)].append(each)
        for row in rows.values():
            row.sort(key=lambda each: each.box.x if upright else each.box.y)
            if len(row) > 1 and _apart(row, upright) and not _stacked(row, rects, upright):
                found.append(_group(scene, tuple(row), upright))
    members = [bar for group in found if not group.level for bar in group.bars]
    # Level rows that cross uneven ones are an accident of the other direction.
    return [
        group for group in found if not group.level or not any(b in members for b in group.bars)
    ]


def _apart(row: Sequence[Element], upright: bool) -> bool:
    ends = [(b.box.left, b.box.right) if upright else (b.box.top, b.box.bottom) for b in row]
    return all(before[1] <= after[0] for before, after in zip(ends, ends[1:], strict=False))


def _stacked(row: Sequence[Element], rects: Sequence[Element], upright: bool) -> bool:
    """Whether another rectangle continues one of the bars."""
    for bar in row:
        a = bar.box
        for other in rects:
            b = other.box
            if other is bar:
                continue
            if upright and abs(a.x - b.x) < 0.05 * a.width and abs(a.width - b.width) < (
                0.05 * a.width
            ):  # fmt: skip
                return True
            if not upright and abs(a.y - b.y) < 0.05 * a.height and (
                abs(a.height - b.height) < 0.05 * a.height
            ):  # fmt: skip
                return True
    return False


def _group(scene: Scene, bars: tuple[Element, ...], upright: bool) -> BarGroup:
    lengths = tuple(bar.box.height if upright else bar.box.width for bar in bars)
    labels = _labels(scene, bars, upright)
    taken = {text for text, _ in labels}
    values = [_value_at(scene, bar, upright, taken) for bar in bars]
    return BarGroup(
        bars,
        lengths,
        {key_of(text.text): index for text, index in labels},
        tuple(v for v in values if v is not None) if None not in values else None,
        _axis(scene, bars, upright),
    )


def _labels(scene: Scene, bars: tuple[Element, ...], upright: bool) -> list[tuple[Element, int]]:
    """One text beside the foot of every bar, all of them in line; else nothing."""
    found: list[tuple[Element, int]] = []
    for index, bar in enumerate(bars):
        near = []
        for text in scene.texts:
            if upright:
                beside = abs(text.box.x - bar.box.x) <= 0.5 * bar.box.width
                gap = text.box.top - bar.box.bottom
            else:
                beside = abs(text.box.y - bar.box.y) <= 0.5 * bar.box.height
                gap = bar.box.left - text.box.right
            if beside and -0.5 * text.size <= gap <= 3 * text.size:
                near.append(text)
        if len(near) != 1:
            return []
        found.append((near[0], index))
    texts = [text for text, _ in found]
    level = [text.box.y if upright else 0.0 for text in texts]
    keys = {key_of(text.text) for text in texts}
    if len(keys) < len(texts) or max(level) - min(level) > 0.5 * texts[0].size:
        return []
    return found


def _value_at(scene: Scene, bar: Element, upright: bool, taken: set[Element]) -> float | None:
    """The only number written in a bar or at its end."""
    found = []
    for text in scene.texts:
        value = number_of(text.text)
        if value is None or text in taken:
            continue
        reach = 2.0 * text.size
        box = bar.box
        if upright:
            near = Box(box.left, box.top - reach, box.right, box.bottom)
        else:
            near = Box(box.left, box.top, box.right + reach + text.box.width / 2, box.bottom)
        if near.has(text.box.x, text.box.y):
            found.append(value)
    return found[0] if len(found) == 1 else None


def _axis(scene: Scene, bars: tuple[Element, ...], upright: bool) -> Axis | None:
    """The scale that tick labels beside all bars give."""
    if upright:
        edge = min(bar.box.left for bar in bars)
        beside = [t for t in scene.texts if t.box.x < edge]
    else:
        edge = max(bar.box.bottom for bar in bars)
        beside = [t for t in scene.texts if t.box.y > edge]
    ticks = sorted(
        ((-t.box.y if upright else t.box.x), value, t)
        for t in beside
        if (value := number_of(t.text)) is not None
    ) if len(beside) < 60 else []  # fmt: skip
    if len(ticks) < 3:
        return None
    texts = [text for *_, text in ticks]
    slack = 0.7 * texts[0].size
    lines = (
        [[t.box.left for t in texts], [t.box.right for t in texts], [t.box.x for t in texts]]
        if upright
        else [[t.box.y for t in texts]]
    )
    if all(max(line) - min(line) > slack for line in lines):
        return None
    places, values = [place for place, *_ in ticks], [value for _, value, _ in ticks]
    span, rise = places[-1] - places[0], values[-1] - values[0]
    if span <= 0 or rise <= 0:
        return None
    slope = rise / span
    step = rise / (len(ticks) - 1)
    off = [
        abs(v - values[0] - slope * (p - places[0])) for p, v in zip(places, values, strict=True)
    ]
    if max(off) > 0.08 * step:
        return None
    foot = -bars[0].box.bottom if upright else bars[0].box.left
    base = values[0] + slope * (foot - places[0])
    nearest = min(values, key=lambda value: abs(value - base))
    # Tick labels stand a little off their lines.
    return Axis(slope, nearest, step) if abs(nearest - base) < 0.3 * step else None


def _find_written(scene: Scene) -> dict[Key, float | None]:
    found: dict[Key, set[float]] = defaultdict(set)
    for text in scene.texts:
        pair = pair_of(text.text)
        if pair is not None:
            found[pair[0]].add(pair[1])
    for label, value in _table(scene):
        found[key_of(label.text)].add(value)
    alone: dict[Key, float | None] = {}
    for key, values in found.items():
        alone[key] = next(iter(values)) if len(values) == 1 else None
    return alone


def _table(scene: Scene) -> list[tuple[Element, float]]:
    """Rows of one label and one number, the numbers below each other; two rows at least."""
    rows: list[list[Element]] = []
    for text in sorted(scene.texts, key=lambda each: each.box.y):
        if rows and abs(text.box.y - rows[-1][-1].box.y) < 0.4 * text.size:
            rows[-1].append(text)
        else:
            rows.append([text])
    pairs = []
    for row in rows:
        if len(row) == 2:
            label, number = sorted(row, key=lambda each: each.box.left)
            value = number_of(number.text)
            if value is not None and number_of(label.text) is None:
                pairs.append((label, number, value))
    if len(pairs) < 2:
        return []
    for of in (lambda b: b.left, lambda b: b.x, lambda b: b.right):
        slack = 0.8 * pairs[0][0].size
        columns = [[of(pair[side].box) for pair in pairs] for side in (0, 1)]
        if all(max(column) - min(column) < slack for column in columns[1:]):
            return [(label, value) for label, _, value in pairs]
    return []


def _find_marks(scene: Scene) -> tuple[Element, ...]:
    if scene.texts:
        return ()
    for group in bar_groups(scene):
        if group.level and len(group.bars) > 2 and len({round(b.box.y) for b in group.bars}) == 1:
            return group.bars
    return ()


def evenly_spaced(marks: Sequence[Element]) -> bool:
    """Whether marks stand at equal distances, as bars do."""
    gaps = [b.box.x - a.box.x for a, b in zip(marks, marks[1:], strict=False)]
    return max(gaps) - min(gaps) < 0.02 * max(gaps)
