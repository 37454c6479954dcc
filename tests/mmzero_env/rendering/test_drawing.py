from __future__ import annotations

import numpy as np
import pytest

from mmzero_env.protocol import Drawing, Image, RenderJob
from mmzero_env.rendering import Renderer, RenderLimits
from mmzero_env.rendering.backends import BACKENDS, load_backend
from mmzero_env.rendering.draw import draw_code

WHITE = [255, 255, 255]
RED = [255, 0, 0]


@pytest.fixture(scope="module")
def backend():
    return load_backend(BACKENDS["cairosvg"])


def picture(code: str, backend, size: int = 40) -> Drawing:
    return draw_code(code, size, RenderLimits(), backend)


def image(code: str, backend, size: int = 40) -> Image:
    drawing = picture(code, backend, size)
    assert drawing.image is not None, drawing.failure
    assert drawing.image.shape == (size, size, 3)
    assert drawing.image.dtype == np.uint8
    return drawing.image


def test_a_rectangle_has_its_exact_pixels(backend) -> None:
    code = '<svg viewBox="0 0 20 20"><rect x="5" y="2" width="10" height="4" fill="#0a141e"/></svg>'
    expected = np.full((40, 40, 3), 255, dtype=np.uint8)
    expected[4:12, 10:30] = [10, 20, 30]
    np.testing.assert_array_equal(image(code, backend), expected)


def test_nothing_drawn_is_white_and_opacity_blends_with_white(backend) -> None:
    assert (image('<svg viewBox="0 0 9 9"/>', backend) == 255).all()
    half = '<svg viewBox="0 0 9 9"><rect width="9" height="9" fill="red" opacity=".5"/></svg>'
    centre = image(half, backend)[20, 20]
    assert centre[0] == 255
    assert 126 <= centre[1] == centre[2] <= 129


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [("0 0 40 20", slice(10, 30), slice(0, 40)), ("0 0 10 40", slice(0, 40), slice(15, 25))],
)
def test_the_picture_is_fitted_and_centred(backend, box, rows, columns) -> None:
    drawn = image(
        f'<svg viewBox="{box}"><rect x="-99" y="-99" width="999" height="999" fill="red"/></svg>',
        backend,
    )
    expected = np.full((40, 40, 3), 255, dtype=np.uint8)
    expected[rows, columns] = RED
    np.testing.assert_array_equal(drawn, expected)


def test_a_claimed_size_costs_nothing(backend) -> None:
    small = '<svg width="30" height="30"><circle cx="9" cy="9" r="5"/></svg>'
    large = '<svg width="300000" height="300000"><circle cx="90000" cy="90000" r="50000"/></svg>'
    np.testing.assert_allclose(
        image(small, backend).astype(int), image(large, backend).astype(int), atol=2
    )


def test_a_missing_size_is_measured(backend) -> None:
    body = '<g opacity=".99"><rect width="30" height="30" fill="red"/></g>'
    drawing = picture(f"<svg>{body}</svg>", backend)
    assert "size_missing" in drawing.flags
    assert drawing.image is not None
    np.testing.assert_array_equal(
        drawing.image, image(f'<svg viewBox="0 0 30 30">{body}</svg>', backend)
    )
    nothing = picture("<svg/>", backend)
    assert nothing.failure is not None
    assert nothing.failure.reason == "not_drawable"


def test_text_is_legible(backend) -> None:
    letter = '<text x="2" y="30" font-size="30">H</text>'
    drawn = image(f'<svg viewBox="0 0 40 40">{letter}</svg>', backend)
    dark = (drawn < 60).all(axis=-1)
    assert dark[:5].sum() == 0
    assert dark[33:].sum() == 0
    # Two stems with a gap between them, joined by the bar.
    stems = dark[12]
    assert stems.sum() >= 4
    assert np.diff(np.flatnonzero(stems)).max() > 5
    assert dark[18:22].sum(axis=1).max() > 12


def test_all_families_are_the_bundled_font_and_styles_differ(backend) -> None:
    def text(attributes: str) -> Image:
        return image(
            f'<svg viewBox="0 0 40 40"><text y="30" font-size="20" {attributes}>Rag</text></svg>',
            backend,
        )

    plain = text("")
    for family in ("Arial", "serif", "monospace", "No Such Font"):
        np.testing.assert_array_equal(text(f'font-family="{family}"'), plain)
    bold, italic = text('font-weight="bold"'), text('font-style="italic"')
    assert bold.sum() < plain.sum(), "bold has more ink"
    assert (italic != plain).any()
    assert (italic != bold).any()


def test_system_fonts_change_nothing(backend, monkeypatch, tmp_path) -> None:
    code = (
        '<svg viewBox="0 0 90 90"><pattern id="p" width="30" height="30" '
        'patternUnits="userSpaceOnUse"><text y="20" font-family="serif">Pg</text></pattern>'
        '<rect width="90" height="60" fill="url(#p)"/>'
        '<text y="85" font-family="serif">Ag</text></svg>'
    )
    # A configuration without any font, seen by the worker only.
    config = tmp_path / "fonts.conf"
    config.write_text("<fontconfig></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(config))
    with Renderer(size=90, workers=1) as renderer:
        [drawing] = renderer.render([RenderJob("a", code)])
    here = image(code, backend, 90)
    assert (here[:60] < 128).any()
    assert (here[60:] < 128).any()
    np.testing.assert_array_equal(drawing.image, here)


@pytest.mark.parametrize(
    ("body", "colour"),
    [
        ('<rect width="9" height="9" fill="hsl(0 100% 50%)"/>', RED),
        ('<style>:root{--c:red}rect{fill:var(--c)}</style><rect width="9" height="9"/>', RED),
        ('<rect width="9" height="9" style="fill:rgb(255 0 0 / 100%)"/>', RED),
        ('<g style="color:red"><rect width="9" height="9" fill="currentColor"/></g>', RED),
        ('<rect width="9" height="9" fill="none"/>', WHITE),
        ('<a href="http://x/"><rect width="9" height="9" fill="red"/></a>', RED),
        ('<image href="file:///etc/passwd" width="9" height="9"/>', WHITE),
    ],
)
def test_colours_that_models_write(backend, body: str, colour: list[int]) -> None:
    drawn = image(f'<svg viewBox="0 0 9 9">{body}</svg>', backend)
    assert drawn[20, 20].tolist() == colour


def test_a_background_of_the_root_is_painted(backend) -> None:
    drawn = image('<svg viewBox="0 0 40 20" style="background:red"/>', backend)
    assert drawn[20, 20].tolist() == RED
    assert drawn[2, 20].tolist() == WHITE


def test_a_style_sheet_cannot_move_the_size(backend) -> None:
    drawn = image(
        '<svg viewBox="0 0 9 9"><style>svg{width:auto;height:0}</style>'
        '<rect width="9" height="9" fill="red"/></svg>',
        backend,
    )
    assert drawn[0, 0].tolist() == RED


def test_an_arrow_head_without_a_view_box_keeps_its_units(backend) -> None:
    drawn = image(
        '<svg viewBox="0 0 40 40"><marker id="m" markerWidth="20" markerHeight="20" '
        'markerUnits="userSpaceOnUse"><rect width="10" height="10" fill="red"/></marker>'
        '<path d="M10 10L30 10" marker-start="url(#m)"/></svg>',
        backend,
    )
    red = (drawn == RED).all(axis=-1)
    assert red[12:18, 12:18].all()
    assert not red[:, 22:].any(), "the content is not stretched to the box of the marker"


def test_what_the_library_trips_over_is_a_named_failure(backend) -> None:
    drawing = picture('<svg viewBox="0 0 9 9"><rect opacity="very"/></svg>', backend)
    assert drawing.failure is not None
    assert drawing.failure.reason == "not_drawable"
    assert "very" in drawing.failure.detail
    cycle = picture(
        '<svg viewBox="0 0 9 9"><style>rect{fill:url(#p)}</style><pattern id="p" width="3" '
        'height="3" patternUnits="userSpaceOnUse"><rect width="3" height="3"/></pattern>'
        '<rect width="9" height="9"/></svg>',
        backend,
    )
    assert cycle.failure is not None
    assert cycle.failure.reason == "reference_cycle"
