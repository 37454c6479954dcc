from __future__ import annotations

import os
import random

import numpy as np
import pytest

from mmzero_env.protocol import Drawing, Failure, Image, RenderJob
from mmzero_env.rendering import Renderer, RenderLimits, vet
from mmzero_env.rendering import librsvg as direct
from mmzero_env.rendering import vips_svg as vips
from mmzero_env.rendering.backends import BACKENDS, load_backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.librsvg_origins import bake_origins

WHITE = [255, 255, 255]
RED = [255, 0, 0]
NAMES = ("librsvg-direct", "librsvg-vips")
HUGE = (
    '<svg viewBox="0 0 400 400"><text y="300" font-size="900000">Hi</text></svg>',
    '<svg viewBox="0 0 400 400"><text font-size="10" transform="scale(1000)">Hi</text></svg>',
    '<svg viewBox="0 0 4 4"><text font-size="500em" font-weight="bold">\u4e2d</text></svg>',
)
SHADOW = (
    '<svg viewBox="0 0 40 40"><filter id="s" x="-1" y="-1" width="3" height="3">{}</filter>'
    '<rect x="10" y="10" width="10" height="10" fill="red" filter="url(#s)"/></svg>'
)


def skip_without_direct() -> None:
    complaint = direct.missing()
    if complaint:
        pytest.skip(complaint)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    if request.param == "librsvg-direct":
        skip_without_direct()
    return request.param


@pytest.fixture(scope="module")
def backend(name):
    return load_backend(BACKENDS[name])


def picture(code: str, backend, size: int = 40) -> Drawing:
    return draw_code(code, size, RenderLimits(), backend)


def image(code: str, backend, size: int = 40) -> Image:
    drawing = picture(code, backend, size)
    assert drawing.image is not None, drawing.failure
    assert drawing.image.shape == (size, size, 3)
    assert drawing.image.dtype == np.uint8
    return drawing.image


def text(attributes: str, letters: str = "Rag", before: str = "") -> str:
    return (
        f'<svg viewBox="0 0 40 40">{before}<text y="30" font-size="20" {attributes}>{letters}'
        "</text></svg>"
    )


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
    ("attributes", "rows", "columns"),
    [
        ('viewBox="0 0 40 20"', slice(10, 30), slice(0, 40)),
        ('viewBox="0 0 10 40"', slice(0, 40), slice(15, 25)),
        ('width="300" height="150"', slice(10, 30), slice(0, 40)),
        # Proportions of its own inside the picture.
        ('width="40" height="20" viewBox="0 0 10 10"', slice(10, 30), slice(10, 30)),
        ('width="40" height="20" viewBox="0 0 10 10" preserveAspectRatio="none"',
         slice(10, 30), slice(0, 40)),
        # 40 by 29.6 pixels: to whole ones.
        ('viewBox="0 0 100 74"', slice(5, 35), slice(0, 40)),
    ],
)  # fmt: skip
def test_the_picture_is_fitted_and_centred(backend, attributes, rows, columns) -> None:
    drawn = image(f'<svg {attributes}><rect width="100%" height="100%" fill="red"/></svg>', backend)
    expected = np.full((40, 40, 3), 255, dtype=np.uint8)
    expected[rows, columns] = RED
    np.testing.assert_array_equal(drawn, expected)


def test_a_claimed_size_costs_nothing(backend) -> None:
    small = '<svg width="30" height="30"><circle cx="9" cy="9" r="5"/></svg>'
    large = '<svg width="300000" height="300000"><circle cx="90000" cy="90000" r="50000"/></svg>'
    np.testing.assert_allclose(
        image(small, backend).astype(int), image(large, backend).astype(int), atol=2
    )


@pytest.mark.parametrize(
    ("body", "box"),
    [
        ('<g opacity=".99"><rect width="30" height="30" fill="red"/></g>', "0 0 30 30"),
        ('<rect x="20" y="-10" width="20" height="30" fill="red"/>', "0 -10 40 30"),
        ('<rect x="-200" width="100" height="50" stroke="red" stroke-width="2"/>',
         "-201 -1 102 52"),
        ('<circle r=".25" cx=".5" cy=".5"/>', "0 0 .75 .75"),
    ],
)  # fmt: skip
def test_a_missing_size_is_measured(backend, body, box) -> None:
    drawing = picture(f"<svg>{body}</svg>", backend)
    assert "size_missing" in drawing.flags
    assert drawing.image is not None
    np.testing.assert_allclose(
        drawing.image.astype(int),
        image(f'<svg viewBox="{box}">{body}</svg>', backend).astype(int),
        atol=3,
    )


def test_without_size_and_ink_there_is_no_picture(backend) -> None:
    failure = picture("<svg/>", backend).failure
    assert failure is not None
    assert failure.reason == "not_drawable"


def test_a_style_sheet_cannot_move_the_size(backend) -> None:
    drawn = image(
        '<svg viewBox="0 0 9 9"><style>svg{width:auto;height:0 !important}</style>'
        '<rect width="9" height="9" fill="red"/></svg>',
        backend,
    )
    assert drawn[0, 0].tolist() == RED
    assert drawn[39, 39].tolist() == RED


def test_an_inch_is_96_pixels(backend) -> None:
    drawn = image('<svg viewBox="0 0 192 192"><rect width="1in" height="192"/></svg>', backend)
    assert (drawn[:, :20] == 0).all()
    assert (drawn[:, 20:] == 255).all()


@pytest.mark.parametrize(
    ("body", "colour"),
    [
        ('<rect width="9" height="9" fill="hsl(0 100% 50%)"/>', RED),
        ('<style>:root{--c:red}rect{fill:var(--c)}</style><rect width="9" height="9"/>', RED),
        ('<g style="color:red"><rect width="9" height="9" fill="currentColor"/></g>', RED),
        ('<a href="http://x/"><rect width="9" height="9" fill="red"/></a>', RED),
        ('<image href="file:///etc/passwd" width="9" height="9"/>', WHITE),
        ('<mask id="m"><rect width="9" height="9" fill="black"/></mask>'
         '<rect width="9" height="9" mask="url(#m)"/>', WHITE),
    ],
)  # fmt: skip
def test_colours_that_models_write(backend, body: str, colour: list[int]) -> None:
    assert image(f'<svg viewBox="0 0 9 9">{body}</svg>', backend)[20, 20].tolist() == colour


def test_a_file_is_not_read_even_past_the_guard(backend, tmp_path) -> None:
    inner = tmp_path / "inner.svg"
    inner.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect id="r" width="9" height="9"/></svg>')  # fmt: skip # noqa: E501
    document = vet('<svg viewBox="0 0 9 9"><rect id="r"/><g id="g"/></svg>')
    for tag in ("image", "use"):
        element = document.root.makeelement(f"{{http://www.w3.org/2000/svg}}{tag}")
        element.set("href", f"{inner.as_uri()}{'#r' if tag == 'use' else ''}")
        for side in ("width", "height"):
            element.set(side, "9")
        document.root.append(element)
    assert (backend.draw(document, 40) == 255).all()


def test_all_families_are_the_bundled_font_and_styles_differ(backend) -> None:
    plain = image(text(""), backend)
    for family in ("Arial", "serif", "monospace", "No Such Font", "Droid Sans Fallback"):
        np.testing.assert_array_equal(image(text(f'font-family="{family}"'), backend), plain)
    bold, italic = (
        image(text('font-weight="bold"'), backend),
        image(text('font-style="italic"'), backend),
    )
    assert bold.sum() < plain.sum(), "bold has more ink"
    assert (italic != plain).any()
    assert (italic != bold).any()


def test_the_default_size_of_text_is_that_of_browsers(backend) -> None:
    sized = '<svg viewBox="0 0 40 40"><text y="30" {}>Rag</text></svg>'
    np.testing.assert_array_equal(
        image(sized.format(""), backend), image(sized.format('font-size="16"'), backend)
    )


def test_system_fonts_change_nothing_and_nothing_is_cached(
    name, backend, monkeypatch, tmp_path
) -> None:
    code = text('font-family="serif"', "Pg\u4e2d")
    # A configuration without any font, seen by the worker only.
    config = tmp_path / "fonts.conf"
    config.write_text("<fontconfig></fontconfig>")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FONTCONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with Renderer(size=40, workers=1, backend=name) as renderer:
        [drawing] = renderer.render([RenderJob("a", code)])
    np.testing.assert_array_equal(drawing.image, image(code, backend))
    assert (image(code, backend) < 128).any()
    assert list(home.iterdir()) == []


def test_labels_sit_where_their_baseline_says(backend) -> None:
    def lowest(value: str, rule: str = "") -> int:
        drawn = image(
            f'<svg viewBox="0 0 100 100">{rule}<text class="t" y="50" font-size="40" {value}>H'
            "</text></svg>",
            backend,
            100,
        )
        return int(np.flatnonzero((drawn < 128).any(axis=(1, 2)))[-1])

    plain = lowest("")
    for value, shift in (("middle", 0.285), ("central", 0.345), ("hanging", 0.69)):
        assert lowest(f'dominant-baseline="{value}"') - plain == pytest.approx(40 * shift, abs=1)
    middle = lowest('dominant-baseline="middle"')
    assert lowest('style="fill:#000;dominant-baseline: middle"') == middle
    assert lowest("", "<style>.t{dominant-baseline:middle}</style>") == middle


@pytest.mark.parametrize(
    "steps",
    [
        '<feDropShadow dx="10" dy="10" stdDeviation="0" flood-color="#0000ff"/>',
        '<feDropShadow dx="10" dy="10" stdDeviation="0" style="flood-color:blue"/>',
        '<feOffset dx="0" dy="0"/>'
        '<feDropShadow dx="10" dy="10" stdDeviation="0" flood-color="blue" result="r"/>'
        '<feMerge><feMergeNode in="r"/></feMerge>',
    ],
)
def test_a_shape_with_a_shadow_is_drawn_with_it(backend, steps) -> None:
    drawn = image(SHADOW.format(steps), backend)
    assert drawn[15, 15].tolist() == RED
    assert drawn[25, 25].tolist() == [0, 0, 255]
    assert drawn[15, 25].tolist() == WHITE


def test_what_the_library_refuses_is_a_named_failure(backend) -> None:
    # The guard would refuse this; librsvg must raise, not end the process.
    document = vet('<svg viewBox="0 0 9 9"/>')
    nested = document.root
    for _ in range(300):
        inner = nested.makeelement("{http://www.w3.org/2000/svg}g")
        nested.append(inner)
        nested = inner
    with pytest.raises(ValueError, match=r"\S"):
        backend.draw(document, 40)


def test_text_too_large_for_the_fonts_leaves_them_whole(backend) -> None:
    code = text("", "a\u4e2d<tspan font-weight='bold'>b\u6587</tspan>")
    before = image(code, backend)
    for huge in HUGE:
        first = picture(huge, backend)
        np.testing.assert_array_equal(image(code, backend), before)
        again = picture(huge, backend)
        assert (first.failure is None) == (again.failure is None)
        if first.image is not None:
            np.testing.assert_array_equal(first.image, again.image)


def test_pictures_do_not_depend_on_workers_or_order(name) -> None:
    jobs = [
        RenderJob(str(n), code)
        for n, code in enumerate(
            (
                text(""),
                text('font-weight="bold"', "\u4e2d\u6587"),
                text('dominant-baseline="middle" text-rendering="optimizeSpeed"'),
                SHADOW.format('<feDropShadow dx="3"/>'),
                '<svg><circle cx="9" cy="9" r="9" opacity=".3"/></svg>',
                *HUGE,
            )
        )
    ]
    expected = None
    for workers in (0, 1, 2):
        shuffled = random.Random(workers).sample(jobs, len(jobs))
        with Renderer(size=64, workers=workers, backend=name) as renderer:
            drawn = dict(zip((job.id for job in shuffled), renderer.render(shuffled), strict=True))
        shown = [
            drawing.failure if drawing.image is None else drawing.image.tobytes()
            for drawing in (drawn[job.id] for job in jobs)
        ]
        expected = expected or shown
        assert shown == expected


@pytest.mark.parametrize(
    ("style", "letters"),
    [
        ("", "Ab\u4e2d"),
        ('font-weight="bold" font-style="italic"', "Ab\u4e2d"),
        ('dominant-baseline="central"', "Abc"),
    ],
)
def test_both_bindings_draw_alike(style, letters) -> None:
    skip_without_direct()
    one, other = (
        image(text(style, letters), load_backend(BACKENDS[name]), 128).astype(int) for name in NAMES
    )
    assert np.abs(one - other).mean() < 2
    assert (one < 128).any()


def test_the_environment_is_put_back(monkeypatch) -> None:
    monkeypatch.setenv("FONTCONFIG_FILE", "theirs")
    vips.LibrsvgVips()
    assert os.environ["FONTCONFIG_FILE"] == "theirs"
    monkeypatch.delenv("FONTCONFIG_FILE")
    vips.LibrsvgVips()
    assert "FONTCONFIG_FILE" not in os.environ


BAR = (
    '<svg viewBox="0 0 40 40">{}'
    '<rect id="b" x="0" y="18" width="40" height="4" fill="red" {}/></svg>'
)


@pytest.mark.parametrize(
    ("sheet", "how"),
    [
        ("", 'style="transform:rotate(90deg);transform-origin:20px 20px"'),
        ("", 'style="transform:rotate(.25turn) !important;transform-origin:center"'),
        ("", 'style="transform-origin:50% 50%" transform="rotate(90)"'),
        ("", 'style="transform:rotate(90deg);transform-origin:center;transform-box:fill-box"'),
        ("", 'transform="rotate(90)" transform-origin="20 20"'),
        ("", 'transform="rotate(90)" transform-origin="center"'),
        ("<style>#b{transform:rotate(90deg);transform-origin:20px 20px}</style>", ""),
    ],
)
def test_a_bar_turned_about_its_middle_stands(backend, sheet, how) -> None:
    red = (image(BAR.format(sheet, how), backend) == RED).all(-1)
    assert red[:, 19:21].all()
    assert not red[:, :15].any()


@pytest.mark.parametrize(
    ("origin", "box", "expected"),
    [
        ("top", "", "translate(20,0) rotate(1) translate(-20,-0)"),
        ("bottom right", "", "translate(40,40) rotate(1) translate(-40,-40)"),
        ("25% 5px", "", "translate(10,5) rotate(1) translate(-10,-5)"),
        ("0 100%", "fill-box", "translate(0,22) rotate(1) translate(-0,-22)"),
        ("2em 5px", "", "rotate(1)"),
    ],
)
def test_origins_become_part_of_the_transform(origin, box, expected) -> None:
    document = vet(
        BAR.format(
            "",
            f'transform="rotate(1)" transform-origin="{origin}" '
            + (f'style="transform-box:{box}"' if box else ""),
        )
    )
    assert not isinstance(document, Failure)
    bake_origins(document.root)
    assert document.root[0].get("transform") == expected


def test_what_has_no_plain_box_is_left_alone() -> None:
    style = "transform:rotate(9deg);transform-origin:center;transform-box:fill-box"
    document = vet(f'<svg viewBox="0 0 9 9"><path d="M0 0h9" style="{style}"/></svg>')
    assert not isinstance(document, Failure)
    before = document.to_bytes()
    bake_origins(document.root)
    assert document.to_bytes() == before
