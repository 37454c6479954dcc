"""Boards whose cells have names: A1, or row 2 column 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmzero_env.grounding.scene import Element, Scene

SIZES = range(2, 9)
"""Numbers of rows and columns that are looked for in an unlabelled board."""

_LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Board:
    """A board of cells.

    Attributes:
        columns: Middles of the columns, from left to right, in canvas units.
        rows: Middles of the rows in the order of their numbers.
        contents: What is in each cell, by column and row from 0.
    """

    columns: tuple[float, ...]
    rows: tuple[float, ...]
    contents: dict[tuple[int, int], tuple[Element, ...]]

    def at(self, column: int, row: int) -> tuple[Element, ...] | None:
        """What is in a cell, counted from 0; None if there is no such cell."""
        if not (0 <= column < len(self.columns) and 0 <= row < len(self.rows)):
            return None
        return self.contents.get((column, row), ())

    def named(self, name: str) -> tuple[Element, ...] | None:
        """What is in a cell such as "b3": the second column, row 3."""
        return self.at(_LETTERS.find(name[0]), int(name[1:]) - 1)


def board(scene: Scene) -> Board | None:
    """The board that a picture shows; None if it shows none for certain.

    Either letters stand above columns and numbers beside rows; or a square canvas without
    text holds nothing but shapes, each in the middle of its own cell of an n by n division
    and of about the size of a cell. Rows of the latter are numbered from above.
    """
    return scene.fact("board", lambda scene: _labelled(scene) or _bare(scene))


def _bare(scene: Scene) -> Board | None:
    shapes, canvas = scene.solids, scene.canvas
    if len(shapes) < 2 or len(shapes) < len(scene.elements) or not scene.complete:
        return None
    if abs(canvas.width - canvas.height) > 0.02 * scene.unit or not all(s.sure for s in shapes):
        return None
    fitting = []
    for n in SIZES:
        side = scene.unit / n
        places: dict[tuple[int, int], tuple[Element, ...]] = {}
        for each in shapes:
            x, y = each.box.x / side - 0.5, each.box.y / side - 0.5
            place = round(x), round(y)
            size = max(each.box.width, each.box.height) / side
            if max(abs(x - place[0]), abs(y - place[1])) > 0.1 or not 0.4 <= size <= 1.01:
                break
            places[place] = (each,)
        if len(places) == len(shapes):
            middles = tuple(side * (i + 0.5) for i in range(n))
            fitting.append(Board(middles, middles, places))
    return fitting[0] if len(fitting) == 1 else None


def _labelled(scene: Scene) -> Board | None:
    single = [text for text in scene.texts if len(text.text) == 1]
    letters = sorted((t for t in single if t.text.lower() in _LETTERS), key=lambda t: t.box.x)
    digits = sorted((t for t in single if t.text in "12345678"), key=lambda t: t.text)
    columns = _axis([t.text.lower() for t in letters], "abcdefgh", [t.box.x for t in letters])
    rows = _axis([t.text for t in digits], "12345678", [t.box.y for t in digits])
    if columns is None or rows is None:
        return None
    if _spread([t.box.y for t in letters]) > 0.5 * letters[0].size or (
        _spread([t.box.x for t in digits]) > 0.5 * digits[0].size
    ):
        return None
    contents: dict[tuple[int, int], tuple[Element, ...]] = {}
    for each in scene.solids:
        place = _nearest(columns, each.box.x), _nearest(rows, each.box.y)
        if place[0] is not None and place[1] is not None:
            contents[place[0], place[1]] = (*contents.get((place[0], place[1]), ()), each)
    return Board(columns, rows, contents) if scene.complete else None


def _axis(names: Sequence[str], expected: str, places: Sequence[float]) -> tuple[float, ...] | None:
    """Middles of columns or rows, if their names are in order and their distances equal."""
    if len(names) < 2 or "".join(names) != expected[: len(names)]:
        return None
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    if min(abs(gap) for gap in gaps) == 0 or _spread(gaps) > 0.15 * abs(gaps[0]):
        return None
    return tuple(places)


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _nearest(middles: Sequence[float], at: float) -> int | None:
    side = abs(middles[1] - middles[0])
    index = min(range(len(middles)), key=lambda i: abs(middles[i] - at))
    return index if abs(middles[index] - at) < 0.45 * side else None
