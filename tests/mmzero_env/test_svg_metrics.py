from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.fft import dctn

from mmzero_env.protocol import Failure, RenderJob
from mmzero_env.rendering import Renderer
from mmzero_env.svg_metrics import (
    hamming,
    nearest,
    perceptual_hash,
    svg_metrics,
    type_entropy,
)

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'


def test_entropy_is_in_bits():
    assert type_entropy([]) == type_entropy(["rect"] * 5) == 0.0
    for n in (2, 4, 10):
        assert type_entropy([str(k) for k in range(n)] * 3) == pytest.approx(math.log2(n))
    assert type_entropy("aab") == pytest.approx(0.918295834)


def test_counts_of_a_picture_counted_by_hand():
    metrics = svg_metrics(
        f"{HEAD}<title>left out</title><g><rect width='9' height='9'/><circle r='3'/></g>"
        "<text y='9'>Hours <tspan>of</tspan> <tspan>sleep</tspan></text><text>7</text></svg>"
    )
    assert not isinstance(metrics, Failure)
    assert metrics.elements == 7  # g rect circle text tspan tspan text
    assert metrics.type_entropy == pytest.approx(type_entropy("grcttTT"))
    assert metrics.text_share == 0.5  # of rect circle text text
    assert metrics.text == "Hours of sleep 7"
    assert metrics.cost == 8 + 0.25 * len("Hoursofsleep7")


def test_cost_follows_references():
    plain = svg_metrics(f"{HEAD}<rect id='a' width='9' height='9'/></svg>")
    reused = svg_metrics(
        f"{HEAD}<rect id='a' width='9' height='9'/>" + "<use href='#a' x='9'/>" * 20 + "</svg>"
    )
    assert not isinstance(plain, Failure) and not isinstance(reused, Failure)
    assert reused.cost > plain.cost + 40


def test_what_the_guard_refuses_has_no_counts():
    refused = svg_metrics("<svg><rect </svg>")
    assert isinstance(refused, Failure) and refused.reason == "malformed_xml"
    empty = svg_metrics(f"{HEAD}</svg>")
    assert not isinstance(empty, Failure)
    assert (empty.elements, empty.type_entropy, empty.text_share, empty.text) == (0, 0, 0, "")


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("4<tspan>2</tspan>", "42"),
        ("4<tspan x='9'>2</tspan>", "4 2"),
        ("one<tspan dy='9'>two</tspan>three", "one two three"),
        ("a<tspan>b<tspan>c</tspan>d</tspan>e", "abcde"),
        ("  many \n blanks ", "many blanks"),
        ("a &lt; b", "a < b"),
    ],
)
def test_text_is_read_as_it_is_seen(inside, text):
    metrics = svg_metrics(f"{HEAD}<text>{inside}</text></svg>")
    assert not isinstance(metrics, Failure) and metrics.text == text


def drawn(*shapes: str, size: int = 96) -> np.ndarray:
    with Renderer(size=size, workers=0) as renderer:
        [drawing] = renderer.render([RenderJob("a", HEAD + "".join(shapes) + "</svg>")])
    assert drawing.image is not None
    return drawing.image


def bars(*heights: int) -> str:
    return "".join(
        f'<rect x="{4 + 12 * k}" y="{60 - h}" width="8" height="{h}"/>'
        for k, h in enumerate(heights)
    )


def test_the_hash_is_that_of_the_definition():
    """Against a separate cosine transform, on sizes that are a multiple of the grid."""
    rng = np.random.default_rng(5)
    for size in (32, 64, 448):
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        cells = image.reshape(32, size // 32, 32, size // 32, 3).mean((1, 3))
        low = dctn(cells @ [0.299, 0.587, 0.114], type=2)[:8, :8]
        bits = "".join(str(int(bit)) for bit in (low > np.median(low)).ravel())
        assert f"{perceptual_hash(image):064b}" == bits


def test_alike_pictures_have_alike_hashes():
    chart = perceptual_hash(drawn(bars(10, 30, 50, 20)))
    assert hamming(chart, perceptual_hash(drawn(bars(10, 30, 50, 20), size=448))) <= 6
    assert hamming(chart, perceptual_hash(drawn(bars(10, 31, 50, 20)))) <= 6
    others = [drawn(bars(50, 30, 10, 40)), drawn('<circle cx="32" cy="32" r="20"/>')]
    assert all(hamming(chart, perceptual_hash(other)) >= 16 for other in others)
    # Shapes of one colour on white that differ by an edge to one side only.
    short, long = (drawn(f'<rect y="20" width="{w}" height="9"/>') for w in (5, 60))
    assert perceptual_hash(short) != perceptual_hash(long)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (33, 45), (448, 448), (100, 7)])
def test_any_size_has_a_hash_and_flat_pictures_have_one(shape):
    flat = {perceptual_hash(np.full((*shape, 3), level, np.uint8)) for level in (1, 128, 255)}
    assert flat == {1 << 63}
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    assert 0 <= perceptual_hash(noise) < 2**64


def test_distances():
    assert hamming(0, 2**64 - 1) == 64 and hamming(5, 5) == 0 and hamming(0b1001, 0b0011) == 2
    assert nearest(0b1111, [0, 0b0111, 0b0011]) == 1
    assert nearest(3, []) is None
