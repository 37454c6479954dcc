from __future__ import annotations

import numpy as np
import pytest

from mmzero_env.protocol import Image
from mmzero_env.rendering import RenderLimits
from mmzero_env.rendering.backends import BACKENDS, load_backend
from mmzero_env.rendering.draw import draw_code


@pytest.fixture(scope="module")
def draw():
    backend = load_backend(BACKENDS["cairosvg"])

    def image(body: str, root: str = "") -> Image:
        code = f'<svg viewBox="0 0 200 100" {root}>{body}</svg>'
        drawing = draw_code(code, 200, RenderLimits(), backend)
        assert drawing.image is not None, drawing.failure
        # Without the white above and below.
        return drawing.image[50:150]

    return image


def columns(image: Image, colour: tuple[int, int, int] = (0, 0, 0)) -> tuple[int, int]:
    """First and last column with ink of a colour."""
    ink = (abs(image.astype(int) - colour) < 100).all(-1).any(0)
    found = np.flatnonzero(ink)
    return int(found[0]), int(found[-1])


# -- relative sizes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "pixels"),
    [
        ('<g font-size="20"><text y="50" font-size="150%">Hx</text></g>', 30),
        ('<g font-size="20"><text y="50" font-size="1.5em">Hx</text></g>', 30),
        ('<g font-size="1.5em"><g><text y="50">Hx</text></g></g>', 24),
        ('<g font-size="1.5em"><text y="50" font-size="1.5em">Hx</text></g>', 36),
        ('<text y="50" font-size="2em"><tspan>Hx</tspan></text>', 32),
        ('<text y="50" font-size="200%"><tspan font-size="50%">Hx</tspan></text>', 16),
        ('<style>g{font-size:.5em}</style><g><g><text y="50">Hx</text></g></g>', 10),
        ('<g font-size="20"><text y="50" font-size="larger">Hx</text></g>', 24),
        ('<g font-size="30px"><text y="50" style="font-size:2ex">Hx</text></g>', 30),
        ('<defs><g id="a"><text y="50" font-size="2em">Hx</text></g></defs><use href="#a"/>', 80),
        ('<defs><text id="a" y="50" font-size="2em">Hx</text></defs><use href="#a"/>', 80),
    ],
)
def test_relative_sizes_are_of_the_parent(draw, body, pixels) -> None:
    root = 'font-size="40"' if "use" in body or "style>" in body else ""
    plain = f'<text y="50" font-size="{pixels}">Hx</text>'
    np.testing.assert_array_equal(draw(body, root), draw(plain))


# -- anchors -------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["middle", "end"])
def test_spans_of_a_line_share_its_anchor(draw, anchor) -> None:
    text = f'<text x="100" y="50" font-size="20" text-anchor="{anchor}">'
    spans = draw(f"{text}total <tspan>= 330</tspan> <tspan>units</tspan></text>")
    # Whole lines are anchored by their advance, single texts by their ink.
    start, end = columns(spans)
    plain_start, plain_end = columns(draw(f"{text}total = 330 units</text>"))
    assert abs(start - plain_start) <= 2
    assert abs(end - plain_end) <= 2


def test_a_bold_red_span_follows_its_line(draw) -> None:
    drawn = draw(
        '<text x="100" y="50" font-size="20" text-anchor="middle">Alerts '
        '<tspan fill="red" font-weight="bold" font-size="30">3</tspan></text>'
    )
    black, red = columns(drawn), columns(drawn, (255, 0, 0))
    assert 3 <= red[0] - black[1] <= 12
    assert abs((black[0] + red[1]) / 2 - 100) <= 3


def test_every_line_of_a_paragraph_has_its_own_anchor(draw) -> None:
    drawn = draw(
        '<text y="30" font-size="20" text-anchor="middle"><tspan x="60">W<tspan>WW</tspan></tspan>'
        '<tspan x="140" dy="40" fill="red">i<tspan>i</tspan></tspan></text>'
    )
    assert abs(sum(columns(drawn)) / 2 - 60) <= 2
    assert abs(sum(columns(drawn, (255, 0, 0))) / 2 - 140) <= 2


def test_an_anchor_inside_of_a_line_changes_nothing(draw) -> None:
    text = '<text x="10" y="50" font-size="20">ab{}</text>'
    np.testing.assert_array_equal(
        draw(text.format('<tspan text-anchor="middle">cd</tspan>')),
        draw(text.format("<tspan>cd</tspan>")),
    )


# -- raised letters ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "dy"), [("super", -4), ("sub", 2), ("5", -5), ("50%", -5), ("-1em", 10)]
)
def test_a_shifted_span_returns_to_its_line(draw, shift, dy) -> None:
    text = '<text x="10" y="50" font-size="20">x{}y</text>'
    shifted = f'<tspan baseline-shift="{shift}" font-size="10">2</tspan>'
    drawn = draw(text.format(shifted))
    one = '<text x="10" y="50" font-size="20">x'
    expected = draw(
        f'{one}<tspan dy="{dy}" font-size="10">2</tspan><tspan dy="{-dy}">y</tspan></text>'
    )
    np.testing.assert_array_equal(drawn, expected)


# -- laid out once -------------------------------------------------------------------------


def test_hidden_letters_take_their_place(draw) -> None:
    text = '<text x="10" y="50" font-size="20">{}<tspan fill="red">V</tspan></text>'
    for how in ('visibility="hidden"', 'fill="none"'):
        hidden = draw(text.format(f"<tspan {how}>WW</tspan>"))
        shown = draw(text.format("<tspan>WW</tspan>"))
        assert columns(hidden, (255, 0, 0)) == columns(shown, (255, 0, 0))


def test_a_gradient_spans_the_box_of_its_text(draw) -> None:
    drawn = draw(
        '<linearGradient id="g"><stop offset=".5" stop-color="red"/>'
        '<stop offset=".5" stop-color="blue"/></linearGradient>'
        '<text x="50" y="50" font-size="40" fill="url(#g)">MMMM</text>'
    )
    red, blue = columns(drawn, (255, 0, 0)), columns(drawn, (0, 0, 255))
    assert red[1] <= blue[0]
