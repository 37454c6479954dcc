"""Reads an SVG into a :class:`.scene.Scene`: one walk over what the guard let through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lxml import etree

from mmzero_env.grounding.colours import UNKNOWN, Shade, over, parse_colour
from mmzero_env.grounding.outline import (
    IDENTITY,
    Box,
    Matrix,
    Outline,
    Point,
    apply,
    box_of,
    combine,
    corners,
    numbers,
    parse_path,
    parse_transform,
)
from mmzero_env.grounding.scene import Element, Scene
from mmzero_env.grounding.sight import settle
from mmzero_env.grounding.style import Styles
from mmzero_env.grounding.writing import write
from mmzero_env.protocol import Failure
from mmzero_env.rendering.guard import Vetted, vet
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.references import HREFS, index_ids
from mmzero_env.rendering.vocabulary import SVG

MOST_ELEMENTS = 300
"""Pictures with more are read up to here, and nothing is said to be missing in them."""

LINE_ASPECT = 10.0
"""A rectangle that is so many times as long as wide is a line."""

_GROUPS = frozenset(SVG + name for name in ("g", "switch", "svg", "symbol"))
_SHAPES = frozenset(SVG + name for name in "rect circle ellipse line polyline polygon path".split())
# Initial values where they matter, SVG 1.1 and CSS 2.1.
_INHERITED = frozenset(
    "fill stroke stroke-width fill-opacity stroke-opacity visibility color font-size "
    "stroke-dasharray text-anchor dominant-baseline marker-start marker-end writing-mode".split()
)
_MARKERS = ("marker-start", "marker-end")
_UNITS = {"px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}
_BLACK = "black"
_CUTS = frozenset(("clip-path", "mask", "mix-blend-mode"))
_WHOLE = frozenset(("none", "normal", "auto"))


class State(NamedTuple):
    """What an element hands down to its children.

    Attributes:
        style: Inherited properties.
        matrix: From user units to canvas units.
        alpha: Opacity of all ancestors together.
        width, height: What percentages refer to, in user units.
        sure: Nothing around cuts, masks, filters or blends.
    """

    style: Mapping[str, str]
    matrix: Matrix
    alpha: float
    width: float
    height: float
    sure: bool = True


def read_scene(code: str, limits: RenderLimits | None = None) -> Scene | Failure:
    """The elements that a viewer of a picture sees.

    Args:
        code: An SVG, as :func:`mmzero_env.parsing.extract_svg` gives it.
        limits: Caps of the guard; the defaults when None.

    Returns:
        The scene, or why the guard refuses the code.
    """
    limits = limits or RenderLimits()
    document = vet(code, limits)
    return document if isinstance(document, Failure) else document_scene(document)


def document_scene(document: Vetted) -> Scene:
    """The same for a document that has passed the guard."""
    return _Reader(document).scene()


class _Reader:
    """One walk over one document."""

    def __init__(self, document: Vetted) -> None:
        self.document = document
        self.root = document.root
        self.styles = Styles(self.root)
        self.ids = index_ids(self.root)
        self.found: list[Element] = []
        self.complete = self.styles.complete and not {
            "image_dropped",
            "foreign_object_dropped",
        } & set(document.flags)

    def scene(self) -> Scene:
        width, height = self.document.width, self.document.height
        state = State({}, IDENTITY, 1.0, width or 300.0, height or 150.0)
        self.walk(self.root, state, 0)
        if width is None or height is None:
            # Such a picture is cut where its ink ends.
            around = box_of([p for each in self.found for p in _ends(each.box)])
            canvas = around or Box(0.0, 0.0, 300.0, 150.0)
        else:
            canvas = Box(0.0, 0.0, width, height)
        return settle(self.found, canvas, self.complete)

    def walk(self, node: etree._Element, outer: State, depth: int) -> None:
        if len(self.found) > MOST_ELEMENTS or depth > 64:
            self.complete = False
            return
        tag = node.tag
        if tag not in _SHAPES and tag not in _GROUPS and tag not in (f"{SVG}text", f"{SVG}use"):
            return
        own = self.styles.of(node)
        if own.get("display") == "none":
            return
        state = self.state(node, own, outer)
        if state is None or state.alpha < 0.02:
            self.complete = self.complete and state is not None
            return
        if tag in _SHAPES:
            if state.style.get("visibility") not in ("hidden", "collapse"):
                self.shape(str(tag)[len(SVG) :], own, state)
        elif tag == f"{SVG}text":
            for text in write(node, own, state, self.styles, self.length):
                self.found.append(text)
        elif tag == f"{SVG}use":
            self.use(own, state, depth)
        else:
            if tag == f"{SVG}svg" and node is not self.root:
                moved = (self.length(own.get(n), state, w) for n, w in (("x", 1), ("y", 0)))
                state = _moved(state, *moved)
                state = self.viewport(own, state)
            elif node is self.root:
                state = self.viewport(own, state)
            elif tag == f"{SVG}symbol":
                state = self.viewport(own, state)
            for child in node:
                if child.tag != f"{SVG}symbol":
                    self.walk(child, state, depth + 1)

    def state(self, node: etree._Element, own: Mapping[str, str], outer: State) -> State | None:
        """What holds inside of an element; None if where it is cannot be told."""
        style = outer.style
        changed = {n: v for n, v in own.items() if n in _INHERITED and v != "inherit"}
        if "marker" in own:
            changed |= dict.fromkeys(_MARKERS, own["marker"])
        if changed:
            style = {**style, **changed}
            if "font-size" in changed:
                style["font-size"] = f"{self.font_size(changed['font-size'], outer):.6g}"
        matrix = outer.matrix
        if "transform" in own and own["transform"] != "none":
            one = parse_transform(own["transform"])
            if one is None or "transform-origin" in own or "transform-box" in own:
                origin = _origin(own) if one is not None else None
                if one is None or origin is None:
                    return None
                x, y = origin
                one = combine(combine((1, 0, 0, 1, x, y), one), (1, 0, 0, 1, -x, -y))
            matrix = combine(matrix, one)
        alpha = outer.alpha * _share(own["opacity"]) if "opacity" in own else outer.alpha
        sure = outer.sure
        if not _CUTS.isdisjoint(own):
            sure = sure and all(own.get(name, "none") in _WHOLE for name in _CUTS)
        if "filter" in own and own["filter"] != "none" and sure:
            sure = self.is_shadow(own["filter"])
        return State(style, matrix, alpha, outer.width, outer.height, sure)

    def is_shadow(self, value: str) -> bool:
        """Whether a filter adds a shadow or softens an edge, and changes nothing else."""
        name = value.strip().removeprefix("url(#").removesuffix(")")
        inside = [str(part.tag)[len(SVG) :] for part in self.ids.get(name, ())]
        return bool(inside) and inside[-1] in ("feDropShadow", "feMerge", "feBlend")

    def font_size(self, text: str, outer: State) -> float:
        before = _number(outer.style.get("font-size"), 16.0)
        text = text.strip()
        if text.endswith("em"):
            return before * _number(text[:-2], 1.0)
        if text.endswith("%"):
            return before * _number(text[:-1], 100.0) / 100
        return self.length(text, outer, 0) or before

    def length(self, text: str | None, state: State, across: float = 1) -> float:
        """A length in user units; ``across`` 1 for widths, 0 for heights, 0.5 for others."""
        if not text:
            return 0.0
        text = text.strip()
        if text.endswith("%"):
            full = across * state.width + (1 - across) * state.height
            return _number(text[:-1], 0.0) * full / 100
        unit = text[-2:].lower()
        if unit in _UNITS:
            return _number(text[:-2], 0.0) * _UNITS[unit]
        if unit in ("em", "ex"):
            size = _number(state.style.get("font-size"), 16.0)
            return _number(text[:-2], 0.0) * size * (1.0 if unit == "em" else 0.5)
        return _number(text, 0.0)

    def viewport(self, own: Mapping[str, str], state: State) -> State:
        """Inside of an ``<svg>`` or ``<symbol>``: SVG 1.1, section 7.8."""
        width = self.length(own.get("width", "100%"), state, 1)
        height = self.length(own.get("height", "100%"), state, 0)
        given = numbers(own.get("viewBox", ""))
        if len(given) != 4 or min(given[2:]) <= 0 or min(width, height) <= 0:
            return state._replace(width=width or state.width, height=height or state.height)
        x, y, across, down = given
        ratio = own.get("preserveAspectRatio", "xMidYMid").split() or ["xMidYMid"]
        sx, sy = width / across, height / down
        left = top = 0.0
        if ratio[0] != "none":
            sx = sy = max(sx, sy) if "slice" in ratio else min(sx, sy)
            part = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
            left = part.get(ratio[0][1:4], 0.5) * (width - across * sx)
            top = part.get(ratio[0][5:8], 0.5) * (height - down * sy)
        inner = (sx, 0.0, 0.0, sy, left - x * sx, top - y * sy)
        matrix = combine(state.matrix, inner)
        return state._replace(matrix=matrix, width=across, height=down)

    def use(self, own: Mapping[str, str], state: State, depth: int) -> None:
        name = next((own[href] for href in HREFS if href in own), "")
        target = self.ids.get(name.removeprefix("#"))
        if target is None:
            return
        moved = (self.length(own.get(n), state, w) for n, w in (("x", 1), ("y", 0)))
        state = _moved(state, *moved)
        if target.tag == f"{SVG}symbol" and ("width" in own or "height" in own):
            state = state._replace(
                width=self.length(own.get("width", "100%"), state, 1),
                height=self.length(own.get("height", "100%"), state, 0),
            )
        self.walk(target, state, depth + 1)

    def shape(self, name: str, own: Mapping[str, str], state: State) -> None:
        if not math.isfinite(sum(state.matrix)):
            self.complete = False
            return
        fill = self.paint("fill", own, state)
        stroke = self.paint("stroke", own, state)
        width = self.length(state.style.get("stroke-width", "1"), state, 0.5)
        if width <= 0:
            stroke = None
        if fill is None and stroke is None:
            return
        a, b, c, d, *_ = state.matrix
        pen = width * math.sqrt(abs(a * d - b * c)) if stroke is not None else 0.0
        drawn = self.drawn(name, own, state)
        if drawn is None:
            self.complete = False
            return
        starts, ends = (state.style.get(name, "none") != "none" for name in _MARKERS)
        for each in drawn:
            inside = fill
            dashed = "stroke-dasharray" in state.style and fill is None and each.kind != "line"
            if each.kind == "line" and not each.regular:
                if stroke is None:
                    continue
                inside = None
                each = each._replace(starts=starts, ends=ends)
            self.found.append(
                each._replace(
                    fill=inside,
                    stroke=stroke,
                    size=pen,
                    sure=each.sure and state.sure and not dashed,
                    clear=self.is_clear(state),
                )
            )

    def is_clear(self, state: State) -> bool:
        """Whether what lies behind a filled shape can be seen through it."""
        share = state.alpha * _share(state.style.get("fill-opacity"))
        return share < 0.95 or "rgba" in state.style.get("fill", "")

    def paint(self, name: str, own: Mapping[str, str], state: State) -> Shade | None:
        value = state.style.get(name, _BLACK if name == "fill" else "none").strip()
        if value.lower() == "currentcolor":
            value = state.style.get("color", _BLACK).strip()
        if value.lower() in ("none", "transparent"):
            return None
        alpha = state.alpha * _share(state.style.get(f"{name}-opacity"))
        if alpha < 0.02:
            return None
        if "url(" in value:
            return UNKNOWN
        colour = parse_colour(value)
        if colour is None:
            return UNKNOWN
        alpha *= colour[1]
        return over(colour[0], round(alpha, 3), (1.0, 1.0, 1.0)) if alpha >= 0.02 else None

    def drawn(self, name: str, own: Mapping[str, str], state: State) -> list[Element] | None:
        """The geometry of one shape; None if it cannot be told."""

        def at(key: str, across: float = 1) -> float:
            return self.length(own.get(key), state, across)

        matrix = state.matrix
        upright = abs(matrix[1]) + abs(matrix[2]) < 1e-9 * (abs(matrix[0]) + abs(matrix[3]))
        if name == "rect":
            x, y, width, height = at("x"), at("y", 0), at("width"), at("height", 0)
            if width <= 0 or height <= 0:
                return []
            rounding = max(at("rx"), at("ry", 0))
            ring = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            square = rounding <= 0.25 * min(width, height)
            return [_polygon(apply(matrix, ring), upright, square)]
        if name in ("circle", "ellipse"):
            rx = at("r", 0.5) if name == "circle" else at("rx")
            ry = rx if name == "circle" else at("ry", 0)
            return [] if rx <= 0 or ry <= 0 else [_round(at("cx"), at("cy", 0), rx, ry, matrix)]
        if name == "line":
            way = [(at("x1"), at("y1", 0)), (at("x2"), at("y2", 0))]
            return [_line(apply(matrix, way))]
        if name == "path":
            pieces = parse_path(own.get("d", ""))
        else:
            flat = numbers(own.get("points", ""))
            way = tuple(zip(flat[::2], flat[1::2], strict=False))
            joined = name == "polygon" or len(way) > 3 and way[0] == way[-1]
            pieces = [Outline(way, False, joined)] if len(way) > 1 else []
        if pieces is None:
            return None
        filled = self.paint("fill", own, state) is not None
        if filled and all(len(corners(piece.points)) < 3 for piece in pieces):
            # Nothing is inside of straight lines.
            filled = False
        if len(pieces) > 1 and filled:
            # Holes and parts of one shape: seen as a whole.
            around = box_of(apply(matrix, [p for piece in pieces for p in piece.points]))
            return None if around is None else [Element("path", around)]
        return [_outline(piece, matrix, upright, filled) for piece in pieces]


def _outline(piece: Outline, matrix: Matrix, upright: bool, filled: bool) -> Element:
    points = apply(matrix, piece.points)
    if not piece.closed and not filled:
        return _line(points)
    box = box_of(points) or Box(math.nan, math.nan, math.nan, math.nan)
    if (
        piece.radii
        and piece.closed
        and max(piece.radii) - min(piece.radii) < 1e-2 * max(piece.radii)
    ):
        turn = sum(math.dist(a, b) for a, b in zip(piece.points, piece.points[1:], strict=False))
        if turn > 6 * piece.radii[0]:
            return Element("ellipse", box)
    if piece.curved or not piece.closed and len(piece.points) < 3:
        return Element("path", box)
    return _polygon(points, upright, True)


def _polygon(points: list[Point], upright: bool, square: bool) -> Element:
    box = box_of(points)
    if box is None:
        return Element("path", Box(math.nan, math.nan, math.nan, math.nan))
    ring = corners(points)
    long, short = max(box.width, box.height), min(box.width, box.height)
    if len(ring) < 3:
        return _line(points)
    if len(ring) == 4:
        on_edges = all(
            min(abs(x - box.left), abs(x - box.right)) < 1e-3 * long
            and min(abs(y - box.top), abs(y - box.bottom)) < 1e-3 * long
            for x, y in ring
        )
        if on_edges:
            if long > LINE_ASPECT * short:
                half = (box.y, box.x)[box.height > box.width]
                ends = (
                    ((box.x, box.top), (box.x, box.bottom))
                    if box.height > box.width
                    else ((box.left, half), (box.right, half))
                )
                return Element("line", box, points=ends, regular=True)
            return Element("rect", box, 4, tuple(ring), regular=square)
        sides = [math.dist(a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        return Element("polygon", box, 4, tuple(ring), regular=max(sides) < 1.03 * min(sides))
    return Element("polygon", box, len(ring), tuple(ring))


def _round(x: float, y: float, rx: float, ry: float, matrix: Matrix) -> Element:
    a, b, c, d, *_ = matrix
    ((cx, cy),) = apply(matrix, [(x, y)])
    # Half the sides of the box around an ellipse under a linear map.
    across, down = math.hypot(a * rx, c * ry), math.hypot(b * rx, d * ry)
    box = Box(cx - across, cy - down, cx + across, cy + down)
    return Element("circle" if abs(across - down) < 0.02 * across else "ellipse", box)


def _line(points: list[Point]) -> Element:
    box = box_of(points)
    if box is None:
        return Element("path", Box(math.nan, math.nan, math.nan, math.nan))
    return Element("line", box, points=tuple(points))


def _ends(box: Box) -> Iterator[Point]:
    yield (box.left, box.top)
    yield (box.right, box.bottom)


def _moved(state: State, x: float, y: float) -> State:
    if not x and not y:
        return state
    return state._replace(matrix=combine(state.matrix, (1.0, 0.0, 0.0, 1.0, x, y)))


def _origin(own: Mapping[str, str]) -> Point | None:
    if own.get("transform-box"):
        return None
    parts = own.get("transform-origin", "0 0").split()
    try:
        x, y = (float(part.removesuffix("px")) for part in parts[:2])
    except ValueError:
        return None
    return x, y


def _share(text: str | None) -> float:
    return min(1.0, max(0.0, _number(text, 1.0)))


def _number(text: str | None, otherwise: float) -> float:
    try:
        value = float(text) if text else otherwise
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise
