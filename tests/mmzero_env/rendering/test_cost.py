from __future__ import annotations

import pytest

from mmzero_env.protocol import Failure
from mmzero_env.rendering import RenderLimits, vet
from mmzero_env.rendering.cost import drawing_cost

FULL = '<rect width="100" height="100" {}/>'
SMALL = '<circle cx="50" cy="50" r="2" {}/>'


def cost(body: str) -> float:
    document = vet(f'<svg viewBox="0 0 100 100">{body}</svg>')
    assert not isinstance(document, Failure), document
    return drawing_cost(document.root, RenderLimits())


def extra(body: str, attributes: str) -> float:
    return cost(body.format(attributes)) - cost(body.format(""))


@pytest.mark.parametrize(
    ("mode", "least"), [("multiply", 40), ("SCREEN", 40), ("soft-light", 90), ("hue", 135)]
)
def test_blending_costs_by_its_mode(mode, least) -> None:
    assert extra(FULL, f'style="mix-blend-mode:{mode}"') == least
    assert extra(FULL, f'style="mix-blend-mode:{mode} !important"') == least
    assert extra(FULL, f'mix-blend-mode="{mode}"') == least


def test_plain_blending_is_free() -> None:
    assert extra(FULL, 'style="mix-blend-mode:normal;isolation:auto"') == 0


def test_isolation_is_a_layer() -> None:
    assert extra("<g {}><rect/></g>", 'style="isolation:isolate"') == 12


def test_a_see_through_shape_is_a_layer_of_its_size_only_with_a_stroke() -> None:
    assert extra(FULL, 'opacity=".5"') == 0
    assert extra(FULL, 'stroke="red" opacity=".5"') == 12
    assert extra(FULL, 'style="stroke:red;opacity:.5"') == 12
    assert extra(f'<g stroke="red">{FULL}</g>', 'opacity=".5"') == 12
    assert extra("<style>rect{{stroke:red}}</style>" + FULL, 'opacity=".5"') == 12
    assert 0 < extra(SMALL, 'stroke="red" opacity=".5"') < 1
    assert extra(SMALL, 'stroke="red" stroke-width="60" opacity=".5"') == 12
    assert extra(SMALL, 'style="stroke:red;stroke-width:60;opacity:.5"') == 12


def test_thousands_of_see_through_dots_are_let_through() -> None:
    dots = SMALL.format('stroke="white" opacity=".7"') * 3_000
    assert cost(dots) < RenderLimits().max_cost


def test_opacity_of_use_is_a_layer() -> None:
    assert extra('<rect id="a"/><use href="#a" {}/>', 'opacity=".5"') == 12


def test_every_use_of_a_pattern_is_a_tile() -> None:
    pattern = '<pattern id="p" width="9" height="9" patternUnits="userSpaceOnUse"><rect/></pattern>'
    assert extra(pattern + FULL, 'fill="url(#p)"') == 5


@pytest.mark.parametrize(
    "shape",
    [
        FULL.format('style="mix-blend-mode:luminosity"'),
        FULL.format('stroke="red" opacity=".5"'),
        FULL.format('style="isolation:isolate"'),
    ],
)
def test_a_thousand_layers_are_refused(shape) -> None:
    verdict = vet(f'<svg viewBox="0 0 100 100">{shape * 1_000}</svg>')
    assert isinstance(verdict, Failure)
    assert verdict.reason == "too_costly"
