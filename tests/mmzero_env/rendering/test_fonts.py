from __future__ import annotations

import cairocffi
import numpy as np
import pytest

from mmzero_env.protocol import Image
from mmzero_env.rendering import RenderLimits
from mmzero_env.rendering.backends import BACKENDS, load_backend
from mmzero_env.rendering.cairo_context import Context
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.font import font_face, runs
from mmzero_env.rendering.font_files import CJK_FILE, FONT_FILE, FONTS_CONFIG, PROBE

HUGE = '<svg viewBox="0 0 9 9"><text font-size="900000" {}>Hi \u4e2d</text></svg>'
STYLES = ("", 'font-weight="bold"', 'font-style="italic"', 'font-weight="bold" font-style="italic"')


@pytest.fixture(scope="module")
def backend():
    return load_backend(BACKENDS["cairosvg"])


def image(body: str, backend, size: int = 120) -> Image:
    drawing = draw_code(f'<svg viewBox="0 0 120 120">{body}</svg>', size, RenderLimits(), backend)
    assert drawing.image is not None, drawing.failure
    return drawing.image


def columns(drawn: Image) -> tuple[int, int]:
    dark = np.flatnonzero((drawn < 128).any(axis=(0, 2)))
    return int(dark[0]), int(dark[-1])


def extents(text: str) -> tuple[float, ...]:
    context = Context(cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, 9, 9))
    context.select_font_face("")
    context.set_font_size(20)
    return context.text_extents(text)


def test_the_fonts_lie_beside_their_licences() -> None:
    names = {file.name for file in FONTS_CONFIG.parent.iterdir()}
    assert {FONT_FILE.name, "LICENSE-DejaVu.txt"} <= names
    assert {CJK_FILE.name, "LICENSE-DroidSansFallback.txt"} <= names
    assert CJK_FILE.stat().st_size < 2_500_000


def test_texts_are_cut_where_the_font_changes() -> None:
    assert runs("ab") == [("ab", False)]
    assert runs("a\u4e2d\u6587 b\uff01") == [
        ("a", False), ("\u4e2d\u6587", True), (" b", False), ("\uff01", True),
    ]  # fmt: skip
    # In neither font: the box for missing characters is the usual font's.
    assert runs("\U00020000\U0001f680") == [("\U00020000\U0001f680", False)]
    assert runs("\u2211\u03c0\u2192\u2605") == [("\u2211\u03c0\u2192\u2605", False)]


@pytest.mark.parametrize(
    "letters",
    [
        "\u7684\u4e00\u662f\u4e0d\u4e86\u5728\u4eba\u6709\u6211\u4ed6",  # simplified Chinese
        "\u9f8d\u9ad4\u570b\u5b78\u9ede\u7063\u8b93\u958b",  # traditional Chinese
        "\u3042\u30a2\u3093\u30f3\u6f22\u5b57\u50cd\u685c",  # Japanese
        "\ud55c\uad6d\uc5b4\ubdc1\ud7a3",  # Korean
        "\u3002\u3001\u300c\u300d\uff08\uff09\uff1a\uff0c\uff21\uff11\uffe5",  # punctuation
    ],
)
def test_the_cjk_font_has_what_people_write(letters) -> None:
    assert runs(letters) == [(letters, True)]


def test_cjk_letters_are_drawn_and_differ(backend) -> None:
    drawn = [
        image(f'<text y="90" font-size="100">{c}</text>', backend) for c in "\u4e2d\u6587\ud55c"
    ]
    for one in drawn:
        assert 500 < (one < 128).all(axis=-1).sum() < 8000
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] != drawn[2]).any()
    # The vertical stroke of U+4E2D reaches through its middle.
    dark = (drawn[0] < 128).all(axis=-1)
    assert dark[:, 45:56].any(axis=1).sum() > 80


def test_a_mixed_text_is_as_long_as_its_parts() -> None:
    mixed = extents("Ab\u4e2d\u6587c")
    parts = [extents(part) for part in ("Ab", "\u4e2d\u6587", "c")]
    assert mixed[4] == pytest.approx(sum(part[4] for part in parts))
    assert mixed[0] == pytest.approx(parts[0][0])
    assert mixed[1] == pytest.approx(min(part[1] for part in parts))
    right = parts[0][4] + parts[1][4] + parts[2][0] + parts[2][2]
    assert mixed[0] + mixed[2] == pytest.approx(right)
    bottom = max(part[1] + part[3] for part in parts)
    assert mixed[1] + mixed[3] == pytest.approx(bottom)


def test_anchors_and_spacing_count_cjk_letters(backend) -> None:
    text = '<text x="60" y="60" font-size="20" {}>\u4e2da\u6587</text>'
    start = columns(image(text.format(""), backend))
    width = start[1] - start[0]
    middle = columns(image(text.format('text-anchor="middle"'), backend))
    assert sum(middle) / 2 == pytest.approx(60, abs=1.5)
    assert columns(image(text.format('text-anchor="end"'), backend))[1] == pytest.approx(60, abs=2)
    spaced = columns(image(text.format('letter-spacing="5"'), backend))
    assert spaced[1] - spaced[0] == pytest.approx(width + 10, abs=1)


@pytest.mark.parametrize(
    "body",
    [
        '<pattern id="p" width="60" height="60" patternUnits="userSpaceOnUse"><text y="50" '
        'font-size="50">{}</text></pattern><rect width="120" height="120" fill="url(#p)"/>',
        '<clipPath id="c"><text y="90" font-size="100">{}</text></clipPath>'
        '<rect width="120" height="120" clip-path="url(#c)"/>',
        '<text y="90" font-size="100" fill="none" stroke="black">{}</text>',
        '<path id="w" d="M10 100L110 100" fill="none"/>'
        '<text font-size="60"><textPath href="#w">{}</textPath></text>',
    ],
)
def test_cjk_letters_are_drawn_wherever_text_is(backend, body) -> None:
    one, other = (image(body.format(letter), backend) for letter in "\u4e2d\u65e5")
    assert (one < 128).any()
    assert (one != other).any()


def test_styles_of_cjk_letters_differ(backend) -> None:
    drawn = [image(f'<text y="90" font-size="90" {s}>\u4e2d</text>', backend) for s in STYLES]
    for n, one in enumerate(drawn):
        for other in drawn[:n]:
            assert (one != other).any()
    assert drawn[1].sum() < drawn[0].sum(), "bold has more ink"


def test_text_too_large_for_the_fonts_leaves_them_whole(backend) -> None:
    body = "".join(
        f'<text y="{20 + 25 * n}" font-size="20" {style}>ab\u4e2d</text>'
        for n, style in enumerate(STYLES)
    )
    before = image(body, backend)
    for style in STYLES:
        failures = {
            draw_code(HUGE.format(style), 40, RenderLimits(), backend).failure for _ in range(2)
        }
        assert len(failures) == 1
        np.testing.assert_array_equal(image(body, backend), before)


def test_a_broken_face_is_made_anew() -> None:
    context = Context(cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, 9, 9))
    face = font_face(False, False)
    context.set_font_face(face)
    context.set_font_size(1e6)
    context.text_extents("a")
    with pytest.raises(cairocffi.CairoError, match="FREETYPE"):
        context.check()
    assert font_face(False, False) is not face
    assert extents("a")[4] > 0


@pytest.mark.parametrize(
    "body",
    [
        '<rect width="5" height="5" stroke="red" stroke-dasharray="-5 3"/>',
        '<pattern id="p" width="3" height="3" patternUnits="userSpaceOnUse"><rect width="5" '
        'height="5" stroke="red" stroke-dasharray="-5 3"/></pattern>'
        '<rect width="9" height="9" fill="url(#p)"/>',
    ],
)
def test_an_error_of_cairo_is_told_at_the_end(backend, body) -> None:
    drawing = draw_code(f'<svg viewBox="0 0 9 9">{body}</svg>', 9, RenderLimits(), backend)
    assert drawing.failure is not None
    assert drawing.failure.reason == "not_drawable"
    assert "INVALID_DASH" in drawing.failure.detail


def test_the_probe_is_in_the_cjk_font_only() -> None:
    assert runs(f"a{PROBE}") == [("a", False), (PROBE, True)]
