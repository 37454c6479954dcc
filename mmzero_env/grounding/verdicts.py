"""Whether statements about a picture are true.

Every function answers with a verdict and why: True, False, or None where the picture does
not tell. False needs certainty: whatever a viewer might see otherwise counts as None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

from mmzero_env.grounding.board import board
from mmzero_env.grounding.claims import Statement
from mmzero_env.grounding.links import links
from mmzero_env.grounding.phrases import Mention
from mmzero_env.grounding.quantities import (
    BarGroup,
    bar_groups,
    evenly_spaced,
    event_marks,
    written,
)
from mmzero_env.grounding.scene import STRAIGHT, Element, Scene
from mmzero_env.grounding.words import key_of

Verdict = tuple[bool | None, str]

TOLERANCE = 0.045
"""Relative error of a value read off a length, to each side. Neighbours from 1 to 9 differ
by more than both sides together: 9/8 > 1.045²."""

ROUGH = 0.15
"""The same for a value that is said to be approximate."""

TICK_SHARE = 0.25
"""Error of a value read off an axis, as a share of the distance of two ticks."""

_ABSENT = "not found in the picture, or more than once"


def locate(scene: Scene, mention: Mention) -> Element | None:
    """The one element that a mention means; None if none or several may be meant."""
    if mention.label is None:
        if mention.shape in ("bar", "box") and mention.colour is not None:
            found = scene.the(mention.colour, None)
            return found if found is not None and found.kind == "rect" else None
        return scene.the(mention.colour, mention.shape)
    texts = scene.labels.get(mention.label, ())
    return texts[0] if len(texts) == 1 and texts[0].sure else None


def judge(statement: Statement, scene: Scene) -> Verdict:
    """The verdict on a statement of any kind but "value"."""
    return _JUDGES[statement.kind](statement, scene)


def _count(statement: Statement, scene: Scene) -> Verdict:
    (mention,) = statement.about
    counted = _bars(scene, mention)
    if counted is None and scene.merged and mention.shape in (*STRAIGHT, "shape", "box"):
        return None, "shapes touch, and may be seen as other shapes"
    least, most = counted or scene.count(mention.colour, mention.shape)
    number = statement.number or 0.0
    if least == most == number:
        return True, f"there are {least}"
    if number < least or most is not None and number > most:
        return False, f"there are {least}" if least == most else f"there are {least} to {most}"
    return None, f"there are {least} or more"


def _bars(scene: Scene, mention: Mention) -> tuple[int, int] | None:
    """How many bars of a colour there are; None if not all rectangles are of one group."""
    groups = bar_groups(scene)
    if mention.shape != "bar" or len(groups) != 1 or not scene.complete:
        return None
    rects = [each for each in scene.solids if each.kind == "rect" and not each.swatch]
    if any(each not in groups[0].bars for each in rects):
        return None
    answers = [bar.fits(mention.colour, None) for bar in groups[0].bars]
    return answers.count(True), len(answers) - answers.count(False)


def _presence(statement: Statement, scene: Scene) -> Verdict:
    (mention,) = statement.about
    least, most = scene.count(mention.colour, mention.shape)
    if least:
        return True, f"there are {least}"
    none = most == 0 and not (scene.merged and mention.shape in STRAIGHT)
    return (False, "there is none") if none else (None, "it cannot be told")


def _text(statement: Statement, scene: Scene) -> Verdict:
    wanted = key_of(statement.word)
    if not wanted or not scene.texts:
        return None, "no text to compare with"
    shown = [word for text in scene.texts for word in key_of(text.text)]
    if any(wanted == tuple(shown[i : i + len(wanted)]) for i in range(len(shown))):
        return True, "it is written"
    run = "".join(shown)
    if "".join(wanted) in run or not scene.complete:
        return None, "it may be written in parts"
    missing = [word for word in wanted if len(word) > 1 and word not in run]
    if not missing or any(each.kind == "path" for each in scene.elements):
        return None, "its words are written, in another order or as outlines"
    return False, f"{missing[0]!r} is not written"


def _cell(statement: Statement, scene: Scene) -> Verdict:
    found = board(scene)
    if found is None or statement.place is None:
        return None, "no board is recognised"
    inside = found.at(*statement.place)
    if inside is None:
        return None, "the board has no such cell"
    (mention,) = statement.about
    answers = [each.fits(mention.colour, mention.shape) for each in inside]
    if True in answers:
        return True, "it is there"
    if None in answers:
        return None, "viewers may differ"
    return False, "something else is there" if inside else "the cell is empty"


def _position(statement: Statement, scene: Scene) -> Verdict:
    first, second = (locate(scene, mention) for mention in statement.about)
    if first is None or second is None or first is second:
        return None, _ABSENT
    if any(not each.sure or each.kind in ("line", "path") for each in (first, second)):
        return None, "where it is cannot be told for certain"
    if _same_group(scene, first, second) and statement.word in ("above", "below"):
        return None, "of bars, above may mean a larger value"
    a, b = first.box, second.box
    side = statement.word
    if side in ("above", "below") and any(_has_value(scene, m) for m in statement.about):
        return None, "above may mean a larger value"
    if side in ("left", "right"):
        return _beyond(a.x, b.x, a.width, b.width, side == "left")
    if side in ("above", "below"):
        return _beyond(a.y, b.y, a.height, b.height, side == "above")
    if side == "inside":
        if b.holds(a):
            return True, "it is inside"
        return (False, "they are apart") if a.common(b) == 0 else (None, "they overlap")
    apart, size, sizes = (
        (abs(a.y - b.y), min(a.height, b.height), max(a.height, b.height)) if side == "row"
        else (abs(a.x - b.x), min(a.width, b.width), max(a.width, b.width))
    )  # fmt: skip
    if apart < 0.2 * size:
        return True, f"they share a {side}"
    return (False, f"they share no {side}") if apart > sizes else (None, "nearly")


def _has_value(scene: Scene, mention: Mention) -> bool:
    return mention.label is not None and (
        mention.label in written(scene)
        or any(mention.label in group.labels for group in bar_groups(scene))
    )


def _beyond(a: float, b: float, size: float, other: float, before: bool) -> Verdict:
    """Whether a lies before b on an axis, by more than a quarter of the smaller one."""
    ahead = b - a if before else a - b
    margin = 0.25 * min(size, other)
    if ahead > max(margin, 0.1 * max(size, other)):
        return True, "it is so"
    # Where their extents overlap on the axis, a viewer may compare edges.
    if ahead < -max(margin, 0.5 * (size + other) * 0.5):
        return False, "it is the other way round"
    return None, "they are nearly level"


def bar_of(scene: Scene, mention: Mention) -> tuple[BarGroup, int] | None:
    """The bar that a colour or a label names, with its group."""
    found: list[tuple[BarGroup, int]] = []
    coloured = scene.the(mention.colour, None) if mention.colour else None
    for group in bar_groups(scene):
        if mention.label is not None:
            if mention.label in group.labels:
                found.append((group, group.labels[mention.label]))
        elif coloured in group.bars:
            found.append((group, group.bars.index(coloured)))
    return found[0] if len(found) == 1 else None


def _same_group(scene: Scene, first: Element, second: Element) -> bool:
    return any(first in g.bars and second in g.bars for g in bar_groups(scene))


def _compared(scene: Scene, mention: Mention) -> tuple[dict[object, float], object] | None:
    """Quantities that belong together, and which of them is meant."""
    if mention.label is not None and mention.label in (shown := written(scene)):
        if None in shown.values():
            return None
        return {key: value for key, value in shown.items() if value is not None}, mention.label
    bar = bar_of(scene, mention)
    if bar is None:
        return None
    group, index = bar
    marks = event_marks(scene)
    if marks and group.bars == marks:
        if evenly_spaced(marks):
            return None
        return {i: mark.box.x for i, mark in enumerate(marks)}, index
    return dict(enumerate(group.quantities())), index


def _extreme(statement: Statement, scene: Scene) -> Verdict:
    found = _compared(scene, statement.about[0])
    if found is None:
        return None, _ABSENT
    values, key = found
    sign = 1 if statement.word == "most" else -1
    own = sign * values[key]
    best = max(sign * value for value in values.values())
    if own >= best - 1e-6 * abs(best):
        return True, "it is"
    near = abs(best - own) < 0.02 * max(abs(best), abs(own))
    return (None, "nearly") if near else (False, f"another is {statement.word}")


def _order(statement: Statement, scene: Scene) -> Verdict:
    first, second = (_compared(scene, mention) for mention in statement.about)
    if first is None or second is None or first[0] != second[0] or first[1] == second[1]:
        return None, _ABSENT
    sign = 1 if statement.word == "most" else -1
    ahead = sign * (first[0][first[1]] - second[0][second[1]])
    size = max(abs(first[0][first[1]]), abs(second[0][second[1]]))
    if abs(ahead) < 0.02 * size and ahead:
        return None, "nearly equal"
    return (True, "it is") if ahead > 0 else (False, "it is not")


def _link(statement: Statement, scene: Scene) -> Verdict:
    found = links(scene)
    if found is None:
        return None, "no lines between shapes are recognised"
    places = [locate(scene, mention) for mention in statement.about]
    a, b = (found.node(place) if place is not None else None for place in places)
    if a is None or b is None or a == b:
        return None, _ABSENT
    if statement.word == "joined":
        answer = found.joins(a, b)
    elif statement.word == "steps":
        steps = found.steps(a, b)
        answer = None if steps is None else steps == statement.number
    else:
        answer = found.has(a, b)
        if answer is False and statement.word == "leads" and found.steps(a, b) is not None:
            answer = None
    why = {True: "it is so", False: "nothing leads there", None: "the direction is open"}
    return answer, why[answer]


_JUDGES: dict[str, Callable[[Statement, Scene], Verdict]] = {
    "count": _count,
    "presence": _presence,
    "text": _text,
    "cell": _cell,
    "position": _position,
    "extreme": _extreme,
    "order": _order,
    "link": _link,
}


def judge_values(claimed: Sequence[Statement], scene: Scene) -> list[Verdict]:
    """The verdicts on all values that an answer states, together.

    Where a number is written at the key, or an axis gives lengths a meaning, each value is
    judged by itself. Bars without either show values up to a common factor, events on a
    bare axis up to a common linear map: there the largest set of values that fits one of
    them is taken as true, and the rest is false. So the number of false ones is the least
    that must be wrong, whatever the factor is.
    """
    verdicts: list[Verdict] = [(None, _ABSENT)] * len(claimed)
    by_group: dict[int, list[tuple[int, int]]] = {}
    groups = bar_groups(scene)
    shown = written(scene)
    for place, statement in enumerate(claimed):
        (mention,) = statement.about
        number = statement.number or 0.0
        label = mention.label
        bar = bar_of(scene, mention)
        if label is not None and label in shown and bar is None:
            value = shown[label] if len(scene.labels.get(label, ())) == 1 else None
            verdicts[place] = (None, _ABSENT) if value is None else _equal(number, value, statement)
        elif bar is not None:
            group, index = bar
            if group.values is not None:
                verdicts[place] = _equal(number, group.values[index], statement)
            elif group.axis is not None:
                axis = group.axis
                value = axis.base + axis.per_unit * group.lengths[index]
                slack = max(TICK_SHARE * axis.step, TOLERANCE * abs(value))
                slack *= 2 if statement.rough else 1
                fits = abs(number - value) <= slack
                verdicts[place] = fits, f"the axis says {value:.3g}"
            else:
                by_group.setdefault(groups.index(group), []).append((place, index))
    for number, members in by_group.items():
        if len(members) < 2:
            continue
        group = groups[number]
        kept = _fitting(group, [(claimed[place], index) for place, index in members], scene)
        if kept is None:
            continue
        others = [members[at] for at in range(len(members)) if at not in kept]
        if others and _is_another_scale(group, claimed, others, {members[at][1] for at in kept}):
            # Pixels and values, say.
            continue
        for at, (place, _) in enumerate(members):
            why = "fits the others" if at in kept else "does not fit the others"
            verdicts[place] = at in kept, why
    numbers = sorted(statement.number or 0.0 for statement in claimed)
    if len(numbers) > 2 and numbers == list(range(1, len(numbers) + 1)):
        if any(answer is False for answer, _ in verdicts):
            return [(None, "places in an order, perhaps")] * len(claimed)
    return verdicts


def _is_another_scale(
    group: BarGroup,
    claimed: Sequence[Statement],
    others: Sequence[tuple[int, int]],
    bars: set[int],
) -> bool:
    """Whether the values left over fit other scales, for bars that have a value already."""
    while others:
        if any(index not in bars for _, index in others):
            return False
        fits = _proportional(group, [(claimed[place], index) for place, index in others])
        if len({others[at][1] for at in fits}) < 2:
            return False
        others = [each for at, each in enumerate(others) if at not in fits]
    return True


def _equal(number: float, value: float, statement: Statement) -> Verdict:
    """Whether a stated number is the written one, rounded perhaps."""
    why = f"{value:g} is written"
    if math.isclose(number, value, rel_tol=1e-9, abs_tol=1e-9):
        return True, why
    if statement.rough and abs(number - value) <= ROUGH * abs(value):
        return True, why
    if any(math.isclose(number, round(value, digits)) for digits in (0, 1, 2)):
        return True, why
    if number and value and abs(math.log10(abs(number / value)) % 1) < 1e-9:
        return None, f"{why}, perhaps in another unit"
    return False, why


def _fitting(
    group: BarGroup, claimed: Sequence[tuple[Statement, int]], scene: Scene
) -> set[int] | None:
    """The largest set of claims, by place, that one scale makes true; None if unclear."""
    marks = event_marks(scene)
    options = []
    if not marks or group.bars != marks or evenly_spaced(marks):
        options.append(_proportional(group, claimed))
    if marks and group.bars == marks:
        if len(claimed) < 3:
            return None
        options.append(_linear(marks, claimed))
    return max(options, key=len)


def _proportional(group: BarGroup, claimed: Sequence[tuple[Statement, int]]) -> set[int]:
    factors = [
        (math.log(statement.number / group.lengths[index]), place)
        for place, (statement, index) in enumerate(claimed)
        if statement.number and statement.number > 0
    ]
    width = 2 * (ROUGH if any(s.rough for s, _ in claimed) else TOLERANCE)
    best: set[int] = set()
    for low, _ in sorted(factors):
        inside = {place for factor, place in factors if low <= factor <= low + width}
        if len(inside) > len(best):
            best = inside
    return best


def _linear(marks: Sequence[Element], claimed: Sequence[tuple[Statement, int]]) -> set[int]:
    points = [(marks[index].box.x, statement.number or 0.0) for statement, index in claimed]
    numbers = [number for _, number in points]
    slack = 0.06 * (max(numbers) - min(numbers))
    best: set[int] = {0}
    for (x, v), (y, w) in combinations(points, 2):
        if x == y or (w - v) / (y - x) <= 0:
            continue
        slope = (w - v) / (y - x)
        fits = {i for i, (z, u) in enumerate(points) if abs(v + slope * (z - x) - u) <= slack}
        if len(fits) > len(best):
            best = fits
    return best
