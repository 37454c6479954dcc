"""Outlines of shapes: transforms, path data, corners, boxes."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]
Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) of SVG 1.1, section 7.4: x' = a x + c y + e, y' = b x + d y + f."""

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(_NUMBER)
_STEP = re.compile(rf"[a-df-zA-DF-Z]|{_NUMBER}")
_FUNCTION = re.compile(r"([a-zA-Z]+)\s*\(([^()]*)\)")
_ARITY = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
_FLAGS_TOGETHER = re.compile(r"[aA][^a-zA-Z]*")
_CURVE_STEPS = (0.25, 0.5, 0.75, 1.0)


class Box(NamedTuple):
    """A rectangle along the axes, in canvas units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def x(self) -> float:
        """Centre, across."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Centre, down."""
        return (self.top + self.bottom) / 2

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height

    def has(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Whether a point lies inside, or at most so far outside."""
        return (
            self.left - margin <= x <= self.right + margin
            and self.top - margin <= y <= self.bottom + margin
        )

    def holds(self, other: Box, margin: float = 0.0) -> bool:
        """Whether another box lies inside."""
        return (
            self.left - margin <= other.left
            and self.top - margin <= other.top
            and other.right <= self.right + margin
            and other.bottom <= self.bottom + margin
        )

    def common(self, other: Box) -> float:
        """Area that both cover."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, across) * max(0.0, down)


def box_of(points: Sequence[Point]) -> Box | None:
    """The box around points; None without points or where one is not finite."""
    if not points:
        return None
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    box = Box(min(xs), min(ys), max(xs), max(ys))
    # An infinite or missing number anywhere shows in the sum.
    return box if math.isfinite(sum(xs) + sum(ys)) else None


def apply(matrix: Matrix, points: Sequence[Point]) -> list[Point]:
    """Points after a transform."""
    a, b, c, d, e, f = matrix
    return [(a * x + c * y + e, b * x + d * y + f) for x, y in points]


def combine(outer: Matrix, inner: Matrix) -> Matrix:
    """The transform that applies ``inner`` first."""
    if outer is IDENTITY:
        return inner
    if inner is IDENTITY:
        return outer
    a, b, c, d, e, f = outer
    p, q, r, s, t, u = inner
    return (
        a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s,
        a * t + c * u + e, b * t + d * u + f,
    )  # fmt: skip


def numbers(text: str) -> list[float]:
    """All numbers in an attribute."""
    return [float(found) for found in _NUMBERS.findall(text)]


@functools.lru_cache(maxsize=1024)
def parse_transform(text: str) -> Matrix | None:
    """A ``transform`` as one matrix; None if it holds a function that SVG 1.1 lacks."""
    matrix = IDENTITY
    rest = _FUNCTION.sub("", text)
    if rest.strip(" ,\t\r\n"):
        return None
    for name, inside in _FUNCTION.findall(text):
        one = _function(name.lower(), numbers(inside), inside)
        if one is None:
            return None
        matrix = combine(matrix, one)
    return matrix


def _function(name: str, given: list[float], inside: str) -> Matrix | None:
    count = len(given)
    if name == "matrix" and count == 6:
        a, b, c, d, e, f = given
        return (a, b, c, d, e, f)
    if name == "translate" and count in (1, 2) and "%" not in inside:
        return (1.0, 0.0, 0.0, 1.0, given[0], given[1] if count == 2 else 0.0)
    if name == "scale" and count in (1, 2):
        return (given[0], 0.0, 0.0, given[-1], 0.0, 0.0)
    if name == "rotate" and count in (1, 3):
        turn = math.radians(given[0])
        if re.search(r"\d(?:g?rad|turn)", inside):
            return None
        cos, sin = math.cos(turn), math.sin(turn)
        x, y = given[1:] or (0.0, 0.0)
        return (cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y)
    if name in ("skewx", "skewy") and count == 1:
        lean = math.tan(math.radians(given[0]))
        return (1.0, 0.0, lean, 1.0, 0.0, 0.0) if name == "skewx" else (1.0, lean, 0.0, 1.0, 0, 0)
    return None


@dataclass(frozen=True)
class Outline:
    """One piece of a path.

    Attributes:
        points: Its corners, and points along its curves.
        curved: Whether a curve is among its parts.
        closed: Whether it ends where it began.
        radii: Radii of its circular arcs, where it is made of nothing else; else empty.
    """

    points: tuple[Point, ...]
    curved: bool
    closed: bool
    radii: tuple[float, ...] = ()


def parse_path(data: str) -> list[Outline] | None:
    """The pieces of path data; None if it cannot be read, or holds an arc of an ellipse.

    Source of the commands: SVG 1.1, section 8.3. Curves are given by points along them,
    arcs by points at equal angles.
    """
    if any("a" in found.lower() and _packed(found) for found in _FLAGS_TOGETHER.findall(data)):
        return None
    return _Path(_STEP.findall(data)).pieces()


def _packed(arcs: str) -> bool:
    """Whether the numbers of arcs are written so that their flags stick together."""
    return len(_NUMBERS.findall(arcs)) % 7 != 0


class _Path:
    """Reads one path from its commands and numbers."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.done: list[Outline] = []
        self.points: list[Point] = []
        self.radii: list[float] = []
        self.straight = self.curved = self.rough = False
        self.at: Point = (0.0, 0.0)
        self.control: Point | None = None

    def pieces(self) -> list[Outline] | None:
        index, command = 0, ""
        while index < len(self.steps):
            if self.steps[index].isalpha():
                command = self.steps[index]
                index += 1
                if command.upper() not in _ARITY or (not self.done and not self.points
                                                     and command.upper() != "M"):  # fmt: skip
                    return None
                if command in "Zz":
                    self.finish(closed=True)
                    continue
            elif command in ("", "Z", "z"):
                return None
            arity = _ARITY[command.upper()]
            given = self.steps[index : index + arity]
            if len(given) < arity or any(step.isalpha() for step in given):
                return None
            self.step(command, [float(number) for number in given])
            index += arity
            command = {"M": "L", "m": "l"}.get(command, command)
        self.finish(closed=False)
        return None if self.rough else self.done

    def step(self, command: str, given: list[float]) -> None:
        kind = command.upper()
        x, y = (0.0, 0.0) if command.isupper() else self.at
        if kind == "M":
            self.finish(closed=False)
            self.at = (given[0] + x, given[1] + y)
            self.points = [self.at]
            return
        if not self.points:
            self.points = [self.at]
        if kind == "H":
            self.line((given[0] + x, self.at[1]))
        elif kind == "V":
            self.line((self.at[0], given[0] + y))
        elif kind == "L":
            self.line((given[0] + x, given[1] + y))
        elif kind == "A":
            self.arc(given[0], given[1], given[3] != 0, given[4] != 0, (given[5] + x, given[6] + y))
        else:
            handles = [(given[i] + x, given[i + 1] + y) for i in range(0, len(given), 2)]
            if kind in "ST":
                mirror = self.control or self.at
                handles.insert(0, (2 * self.at[0] - mirror[0], 2 * self.at[1] - mirror[1]))
            self.curve(handles)
            self.control = handles[-2]
            return
        self.control = None

    def line(self, end: Point) -> None:
        self.straight = True
        self.points.append(end)
        self.at = end

    def curve(self, handles: list[Point]) -> None:
        hull = [self.at, *handles]
        for t in _CURVE_STEPS:
            level = hull
            while len(level) > 1:  # de Casteljau
                level = [
                    (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]))
                    for a, b in zip(level, level[1:], strict=False)
                ]
            self.points.append(level[0])
        self.curved = self.straight = True
        self.at = handles[-1]

    def arc(self, rx: float, ry: float, large: bool, sweep: bool, end: Point) -> None:
        self.curved = True
        rx, ry = abs(rx), abs(ry)
        (x0, y0), (x1, y1) = self.at, end
        span = math.hypot(x1 - x0, y1 - y0)
        if rx == 0 or ry == 0 or span == 0 or abs(rx - ry) > 1e-3 * rx:
            # Of an ellipse, turned perhaps, only the ends are known here.
            self.rough = self.rough or span > 0
            self.straight = True
            self.points.append(end)
            self.at = end
            return
        radius = max(rx, span / 2)
        rise = math.sqrt(max(0.0, radius**2 - (span / 2) ** 2))
        side = rise if large != sweep else -rise
        cx = (x0 + x1) / 2 - side * (y1 - y0) / span
        cy = (y0 + y1) / 2 + side * (x1 - x0) / span
        start = math.atan2(y0 - cy, x0 - cx)
        turn = math.atan2(y1 - cy, x1 - cx) - start
        turn += math.tau * ((turn < 0) if sweep else -(turn > 0))
        steps = max(2, math.ceil(abs(turn) / (math.pi / 8)))
        self.points += [
            (cx + radius * math.cos(start + turn * i / steps),
             cy + radius * math.sin(start + turn * i / steps))
            for i in range(1, steps)
        ]  # fmt: skip
        self.points.append(end)
        self.radii.append(radius)
        self.at = end

    def finish(self, closed: bool) -> None:
        if len(self.points) > 1:
            first, last = self.points[0], self.points[-1]
            size = max(abs(last[0]), abs(last[1]), 1.0)
            joined = max(abs(first[0] - last[0]), abs(first[1] - last[1])) < 1e-3 * size
            radii = () if self.straight else tuple(self.radii)
            self.done.append(Outline(tuple(self.points), self.curved, closed or joined, radii))
        if closed and self.points:
            self.at = self.points[0]
        self.points, self.radii, self.straight, self.curved = [], [], False, False


def corners(points: Sequence[Point]) -> list[Point]:
    """The corners of a closed outline: no point twice, none on the way between two others."""
    box = box_of(points)
    if box is None:
        return []
    near = 1e-3 * max(box.width, box.height)
    kept: list[Point] = []
    for point in points:
        if not kept or math.dist(point, kept[-1]) > near:
            kept.append(point)
    while len(kept) > 1 and math.dist(kept[0], kept[-1]) <= near:
        kept.pop()
    return [
        point
        for before, point, after in zip(
            kept[-1:] + kept[:-1], kept, kept[1:] + kept[:1], strict=True
        )
        if len(kept) < 3 or _distance(point, before, after) > 2 * near
    ]


def _distance(point: Point, start: Point, end: Point) -> float:
    """From a point to the line through two others."""
    along = math.dist(start, end)
    if along == 0:
        return math.dist(point, start)
    (x, y), (x0, y0), (x1, y1) = point, start, end
    return abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / along
