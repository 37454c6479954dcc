from __future__ import annotations

import numpy as np
import pytest

from mmzero_env.protocol import Image
from mmzero_env.rendering import RenderLimits
from mmzero_env.rendering.backends import BACKENDS, load_backend
from mmzero_env.rendering.draw import draw_code

WHITE, RED, BLUE, GREEN = [255, 255, 255], [255, 0, 0], [0, 0, 255], [0, 255, 0]


@pytest.fixture(scope="module")
def draw():
    backend = load_backend(BACKENDS["cairosvg"])

    def image(body: str, size: int = 40, box: str = "0 0 40 40") -> Image:
        code = f'<svg viewBox="{box}">{body}</svg>'
        drawing = draw_code(code, size, RenderLimits(), backend)
        assert drawing.image is not None, drawing.failure
        return drawing.image

    return image


def near(pixel: np.ndarray, colour: list[int]) -> bool:
    return bool((abs(pixel.astype(int) - colour) <= 2).all())


# -- paint order ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["stroke", "stroke fill", "markers stroke", "stroke markers"])
def test_a_stroke_that_comes_first_lies_below_the_fill(draw, order) -> None:
    shape = '<rect x="10" y="10" width="20" height="20" fill="red" stroke="blue" stroke-width="8"'
    drawn = draw(f'{shape} paint-order="{order}"/>')
    assert drawn[20, 12].tolist() == RED, "inside of the edge"
    assert drawn[20, 8].tolist() == BLUE, "outside of the edge"


@pytest.mark.parametrize("order", ["normal", "fill", "fill stroke", "markers"])
def test_other_orders_stroke_last(draw, order) -> None:
    shape = '<rect x="10" y="10" width="20" height="20" fill="red" stroke="blue" stroke-width="8"'
    drawn = draw(f'{shape} style="paint-order:{order}"/>')
    assert drawn[20, 12].tolist() == BLUE


@pytest.mark.parametrize("spans", ["I", "<tspan>I</tspan>"])
def test_a_halo_leaves_the_letter(draw, spans) -> None:
    text = '<text x="12" y="36" font-size="44" font-weight="bold" fill="red" stroke="lime"'
    drawn = draw(f'{text} stroke-width="8" paint-order="stroke">{spans}</text>')
    row = drawn[20]
    assert (row == RED).all(-1).sum() >= 5, "the stem"
    assert (row == GREEN).all(-1).sum() >= 5, "the halo on both sides"


def test_a_pattern_below_keeps_its_transform(draw) -> None:
    drawn = draw(
        '<pattern id="p" width="1" height="1" patternTransform="translate(5 0) scale(10)" '
        'patternUnits="userSpaceOnUse"><rect width=".5" height="1" fill="red"/></pattern>'
        '<rect width="40" height="40" fill="url(#p)" stroke="none"/>'
    )
    ordered = draw(
        '<pattern id="p" width="1" height="1" patternTransform="translate(5 0) scale(10)" '
        'patternUnits="userSpaceOnUse"><rect width=".5" height="1" fill="red"/></pattern>'
        '<rect width="40" height="40" fill="url(#p)" stroke="blue" paint-order="stroke"/>'
    )
    np.testing.assert_array_equal(ordered[5:35, 5:35], drawn[5:35, 5:35])


# -- opacity -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["normal", "stroke"])
def test_a_see_through_shape_is_put_together_first(draw, order) -> None:
    drawn = draw(
        '<rect x="10" y="10" width="20" height="20" fill="red" stroke="blue" stroke-width="8" '
        f'opacity=".5" paint-order="{order}"/>'
    )
    inside = [128, 128, 255] if order == "normal" else [255, 128, 128]
    assert near(drawn[20, 12], inside), "no mixture of fill and stroke"
    assert near(drawn[20, 20], [255, 128, 128])
    assert near(drawn[20, 8], [128, 128, 255])
    assert drawn[20, 4].tolist() == WHITE


def test_a_see_through_shape_is_drawn_as_a_group_of_it_would_be(draw) -> None:
    inner = (
        '<path d="M5 5C40 0 0 40 35 35" fill="red" stroke="blue" stroke-width="3" '
        'transform="rotate(7)"'
    )
    np.testing.assert_array_equal(
        draw(f'{inner} opacity=".4"/>'), draw(f'<g opacity=".4">{inner}/></g>')
    )


def test_opacity_of_use_counts(draw) -> None:
    drawn = draw(
        '<defs><g id="a"><rect width="40" height="40" fill="red"/>'
        '<rect width="20" height="40" fill="blue"/></g></defs><use href="#a" opacity=".5"/>'
    )
    assert near(drawn[20, 10], [128, 128, 255])
    assert near(drawn[20, 30], [255, 128, 128])


@pytest.mark.parametrize("how", ['filter="url(#f)"', 'mask="url(#m)"'])
def test_opacity_counts_once_beside_a_filter_or_a_mask(draw, how) -> None:
    drawn = draw(
        '<filter id="f"><feGaussianBlur stdDeviation="0"/></filter>'
        '<mask id="m"><rect width="40" height="40" fill="white"/></mask>'
        f'<rect width="40" height="40" fill="red" opacity=".5" {how}/>'
    )
    assert near(drawn[20, 20], [255, 128, 128])


# -- blending ------------------------------------------------------------------------------

OVERLAP = (
    '<rect width="30" height="40" fill="#ffff00"/>'
    '<rect x="10" width="30" height="40" fill="#00ffff" {}/>'
)


@pytest.mark.parametrize(
    ("mode", "both"),
    [
        ("normal", [0, 255, 255]),
        ("multiply", GREEN),
        ("screen", WHITE),
        ("difference", [255, 0, 255]),
        ("darken", GREEN),
    ],
)
def test_shapes_blend(draw, mode, both) -> None:
    drawn = draw(OVERLAP.format(f'style="mix-blend-mode:{mode}"'))
    assert drawn[20, 20].tolist() == both
    assert drawn[20, 5].tolist() == [255, 255, 0]


def test_a_blended_group_blends_as_one(draw) -> None:
    drawn = draw(
        '<rect width="40" height="40" fill="#ffff00"/><g style="mix-blend-mode:multiply">'
        '<rect width="20" height="40" fill="red"/><rect width="20" height="40" fill="#0ff"/></g>'
    )
    assert drawn[20, 10].tolist() == GREEN, "cyan on yellow; red below it is covered"


def test_an_isolated_group_does_not_see_what_lies_below(draw) -> None:
    inner = '<rect width="40" height="40" fill="#0ff" style="mix-blend-mode:multiply"/>'
    below = '<rect width="40" height="40" fill="#ff0"/>'
    assert draw(f"{below}<g>{inner}</g>")[20, 20].tolist() == GREEN
    isolated = draw(f'{below}<g style="isolation:isolate">{inner}</g>')
    assert isolated[20, 20].tolist() == [0, 255, 255]


# -- masks ---------------------------------------------------------------------------------

MASKED = '<rect width="40" height="40" fill="red" mask="url(#m)"/>'


def test_black_in_a_mask_hides_and_white_shows(draw) -> None:
    drawn = draw(
        '<mask id="m"><rect width="40" height="40" fill="white"/>'
        f'<rect width="20" height="40" fill="black"/></mask>{MASKED}'
    )
    assert drawn[20, 10].tolist() == WHITE
    assert drawn[20, 30].tolist() == RED


def test_brightness_of_colours_and_opacity_multiply(draw) -> None:
    drawn = draw(
        '<mask id="m"><rect width="20" height="40" fill="#808080"/>'
        f'<rect x="20" width="20" height="40" fill="white" fill-opacity=".5"/></mask>{MASKED}'
    )
    assert near(drawn[20, 10], [255, 127, 127])
    assert near(drawn[20, 30], [255, 127, 127])
    blue = draw(f'<mask id="m"><rect width="40" height="40" fill="blue"/></mask>{MASKED}')
    assert blue[20, 20, 1] > 230, "blue is dark"


def test_a_mask_by_alpha_does_not_ask_for_colours(draw) -> None:
    drawn = draw(
        '<mask id="m" style="mask-type:alpha"><rect width="20" height="40" fill="black"/></mask>'
        + MASKED
    )
    assert drawn[20, 10].tolist() == RED
    assert drawn[20, 30].tolist() == WHITE


def test_a_mask_lies_where_its_content_stands(draw) -> None:
    circle = '<circle cx="{}" cy="20" r="8" fill="white"/>'
    drawn = draw(
        f'<mask id="m">{circle.format(30)}</mask>'
        '<g transform="scale(.5)"><rect x="20" y="10" width="60" height="60" fill="red" '
        'mask="url(#m)"/></g>'
    )
    red = (drawn == RED).all(-1)
    assert red[10, 15]
    assert np.flatnonzero(red.any(0)).tolist() == list(range(12, 18))


def test_a_mask_ends_at_its_region(draw) -> None:
    white = '<rect x="-99" y="-99" width="999" height="999" fill="white"/>'
    region = 'x="10" y="0" width="10" height="40" maskUnits="userSpaceOnUse"'
    drawn = draw(f'<mask id="m" {region}>{white}</mask>{MASKED}')
    assert drawn[20, 15].tolist() == RED
    assert drawn[20, 5].tolist() == drawn[20, 25].tolist() == WHITE
    # Of the shape's box, half of it.
    drawn = draw(f'<mask id="m" x="0" y="0" width=".5" height="1">{white}</mask>{MASKED}')
    assert drawn[20, 15].tolist() == RED
    assert drawn[20, 25].tolist() == WHITE


def test_content_in_units_of_the_box(draw) -> None:
    drawn = draw(
        '<mask id="m" maskContentUnits="objectBoundingBox">'
        '<rect width=".5" height="1" fill="white"/></mask>'
        '<rect x="20" width="20" height="40" fill="red" mask="url(#m)" opacity=".5"/>'
    )
    assert near(drawn[20, 25], [255, 128, 128])
    assert drawn[20, 35].tolist() == drawn[20, 10].tolist() == WHITE


def test_a_mask_inside_of_a_pattern(draw) -> None:
    drawn = draw(
        '<mask id="m"><rect width="5" height="10" fill="white"/>'
        '<rect x="5" width="5" height="10"/></mask>'
        '<pattern id="p" width="10" height="10" patternUnits="userSpaceOnUse">'
        '<rect width="10" height="10" fill="red" mask="url(#m)"/></pattern>'
        '<rect width="40" height="40" fill="url(#p)"/>'
    )
    assert drawn[20, [2, 12, 22, 32]].tolist() == 4 * [RED]
    assert drawn[20, [7, 17, 27, 37]].tolist() == 4 * [WHITE]


# -- patterns ------------------------------------------------------------------------------


def test_a_tile_of_two_units_is_as_sharp_as_the_page(draw) -> None:
    drawn = draw(
        '<pattern id="p" width="2" height="2" patternUnits="userSpaceOnUse">'
        '<rect width="1" height="2" fill="red"/></pattern>'
        '<rect width="4" height="4" fill="url(#p)"/>',
        box="0 0 4 4",
    )
    expected = np.full((40, 40, 3), 255, np.uint8)
    expected[:, :10] = expected[:, 20:30] = RED
    np.testing.assert_array_equal(drawn, expected)


def test_a_pattern_of_shares_fills_two_shapes_alike(draw) -> None:
    drawn = draw(
        '<pattern id="p" width=".5" height=".5"><rect width="5" height="10" fill="red"/></pattern>'
        '<rect width="20" height="20" fill="url(#p)"/>'
        '<rect y="20" width="20" height="20" fill="url(#p)"/>'
    )
    assert (drawn[:, 1:4] == RED).all()
    np.testing.assert_array_equal(drawn[:20, :20], drawn[20:, :20])


def test_an_enlarged_tile_stays_in_bounds(draw) -> None:
    drawn = draw(
        '<pattern id="p" width="100" height="100" patternUnits="userSpaceOnUse">'
        '<rect width="50" height="100" fill="red"/></pattern>'
        '<g transform="scale(500)"><rect width="40" height="40" fill="url(#p)"/></g>'
    )
    # Not at the seam between two tiles, which is a little blurred.
    assert (drawn[30:, 30:] == RED).all()


# -- transforms and filters ----------------------------------------------------------------

BAR = '<rect x="0" y="18" width="40" height="4" fill="red" {}/>'


@pytest.mark.parametrize(
    "how",
    [
        'style="transform:rotate(90deg);transform-origin:20px 20px"',
        'style="transform:rotate(.25turn);transform-origin:center"',
        'style="transform:rotate(100grad);transform-origin:50% 50%"',
        'style="transform:rotate(90deg);transform-origin:center;transform-box:fill-box"',
        'transform="rotate(90)" transform-origin="20 20"',
        'transform="rotate(90)" transform-origin="center"',
    ],
)
def test_a_bar_turned_about_its_middle_stands(draw, how) -> None:
    red = (draw(BAR.format(how)) == RED).all(-1)
    assert red[:, 19:21].all()
    assert not red[:, :15].any()


SHADOW = (
    '<filter id="f"><feGaussianBlur in="SourceAlpha" stdDeviation="1"/><feOffset dx="20"/>'
    '<feMerge><feMergeNode/><feMergeNode in="SourceGraphic"/></feMerge></filter>'
)
MOVED = '<filter id="f"><feOffset dx="20"/><feGaussianBlur stdDeviation="0"/></filter>'


@pytest.mark.parametrize(("effect", "column"), [(SHADOW, 5), (MOVED, 25)])
def test_an_offset_for_a_shadow_leaves_the_shape(draw, effect, column) -> None:
    drawn = draw(f'{effect}<rect width="10" height="40" fill="red" filter="url(#f)"/>')
    assert drawn[20, column].tolist() == RED
    assert (drawn == RED).all(-1).sum() == 400
