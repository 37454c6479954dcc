"""What is seen in a picture is what is there to be seen."""

from __future__ import annotations

import pytest

from benchmarks.hacks.honest import written
from benchmarks.hacks.scenes import Sight, scene_in
from mmzero_env import world
from mmzero_env.world.spec import HEAD
from tests.benchmarks.hacks.plays import bars, picture, scenes

SCENE = scene_in(bars().caption)
assert SCENE is not None
SVG = SCENE.svg()


def test_every_kind_of_scene_is_seen_as_what_it_is(gallery) -> None:
    for spec in scenes(40):
        assert gallery.look(picture(gallery, spec.svg())) == Sight(spec, ())


def test_writing_is_seen_beside_the_scene(gallery) -> None:
    for spec in scenes(10):
        seen = gallery.look(picture(gallery, written(spec.svg(), "The sum of both is 12")))
        assert seen == Sight(spec, ("The sum of both is 12",))


@pytest.mark.parametrize(
    "attributes",
    ['fill="white"', 'opacity="0"', 'fill="#f4f4f4"', 'visibility="hidden"', 'fill="none"'],
)
def test_writing_that_cannot_be_told_from_the_ground_is_not_read(gallery, attributes) -> None:
    assert gallery.look(picture(gallery, written(SVG, "Answer: 12", attributes))).texts == ()


def test_writing_too_small_or_covered_is_not_read(gallery) -> None:
    small = SVG.replace("</svg>", '<text x="5" y="5" font-size="1">Answer: 12</text></svg>')
    assert gallery.look(picture(gallery, small)).texts == ()
    cover = '<rect width="96" height="9" fill="white"/></svg>'
    assert (
        gallery.look(picture(gallery, written(SVG, "12 12").replace("</svg>", cover))).texts == ()
    )


@pytest.mark.parametrize(
    "change",
    [
        ("<rect", '<rect opacity="0.03"'),
        ('fill="red"', 'fill="white"'),
        (HEAD, f'{HEAD}<g transform="scale(0.1)">'),
        ("</svg>", '<rect width="50" height="96" fill="white"/></svg>'),
    ],
)
def test_a_scene_that_is_not_visible_is_not_seen(gallery, change) -> None:
    svg = SVG.replace(*change)
    svg = svg.replace("</svg>", "</g></svg>") if "<g" in svg else svg
    assert gallery.look(picture(gallery, svg)).scene is None


def test_another_scene_is_seen_as_the_other_one(gallery) -> None:
    other = world.parse_caption("Bar chart: red 4, blue 7, green 2.")
    assert other is not None
    assert gallery.look(picture(gallery, other.svg())).scene == other
    assert not gallery.shows(picture(gallery, other.svg()), SCENE)
    assert gallery.shows(picture(gallery, SVG), SCENE)


def test_odd_attributes_are_no_scene(gallery) -> None:
    svg = f'{HEAD}<rect x="a" y="" width="16" height="9%"/><polygon points="x"/></svg>'
    assert gallery.look(picture(gallery, svg)) == Sight()


def test_equal_pixels_are_one_picture_whoever_was_drawn_first(gallery) -> None:
    hidden = written(SVG, "Answer: 12", 'opacity="0"')
    assert (picture(gallery, hidden) == picture(gallery, SVG)).all()
    assert gallery.look(picture(gallery, hidden)) == gallery.look(picture(gallery, SVG))


def test_a_scene_is_found_in_whatever_stands_around_it() -> None:
    assert scene_in(f"For a book: look. {bars().caption} Write it: now.") == SCENE
    assert scene_in(f"For a book: {bars().caption} Thank you.") == SCENE
    assert scene_in("Bar chart: red 5.") is None
