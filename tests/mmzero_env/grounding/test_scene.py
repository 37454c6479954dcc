import pytest

from mmzero_env.grounding import Element, Scene, read_scene
from mmzero_env.protocol import Failure

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100" viewBox="0 0 200 100">'


def elements(body: str) -> tuple[Element, ...]:
    scene = read_scene(f"{HEAD}{body}</svg>")
    assert isinstance(scene, Scene)
    return scene.elements


def one(body: str) -> Element:
    (element,) = elements(body)
    return element


def test_a_refused_code_is_a_failure():
    failure = read_scene("<svg><rect")
    assert isinstance(failure, Failure)
    assert failure.stage == "render"


@pytest.mark.parametrize(
    ("body", "box"),
    [
        ('<rect x="10" y="20" width="30" height="40"/>', (10, 20, 40, 60)),
        (
            '<g transform="translate(10 5)"><g transform="scale(2)">'
            '<rect x="1" y="2" width="10" height="5"/></g></g>',
            (12, 9, 32, 19),
        ),
        ('<rect x="-5" y="-5" width="10" height="10" transform="translate(50,50) rotate(90)"/>',
         (45, 45, 55, 55)),
        ('<circle cx="50%" cy="50%" r="10"/>', (90, 40, 110, 60)),
        ('<svg x="100" y="0" width="100" height="100" viewBox="0 0 10 10">'
         '<rect x="5" y="5" width="5" height="5"/></svg>', (150, 50, 200, 100)),
        ('<defs><circle id="c" r="5"/></defs><use href="#c" x="20" y="30"/>', (15, 25, 25, 35)),
        ('<path d="M10 10 h20 v30 h-20 z"/>', (10, 10, 30, 40)),
        ('<path d="M40 50 a10 10 0 1 0 20 0 a10 10 0 1 0 -20 0"/>', (40, 40, 60, 60)),
        ('<style>.b{transform:translate(5px,5px)}</style>'
         '<rect class="b" width="10" height="20"/>', (5, 5, 15, 25)),
    ],
)  # fmt: skip
def test_boxes_are_in_canvas_units(body: str, box: tuple[float, ...]):
    assert one(body).box == pytest.approx(box, abs=0.5)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('<rect x="9" y="9" width="20" height="20"/>', "square"),
        ('<rect x="9" y="9" width="40" height="20"/>', "rectangle"),
        ('<rect x="9" y="9" width="40" height="20" transform="scale(.5 1)"/>', "square"),
        ('<circle cx="50" cy="50" r="9"/>', "circle"),
        ('<ellipse cx="50" cy="50" rx="30" ry="9"/>', "ellipse"),
        ('<ellipse cx="50" cy="50" rx="9" ry="9"/>', "circle"),
        ('<path d="M40 50 a10 10 0 1 0 20 0 a10 10 0 1 0 -20 0z"/>', "circle"),
        ('<polygon points="10,10 40,10 25,40"/>', "triangle"),
        ('<path d="M10,10 L40,10 L25,40 Z"/>', "triangle"),
        ('<polygon points="50,10 70,30 50,50 30,30"/>', "diamond"),
        ('<polygon points="10,10 25,10 40,10 40,40 10,40"/>', "square"),
        ('<polygon points="30,10 49,24 42,46 18,46 11,24"/>', "pentagon"),
    ],
)
def test_shapes_by_the_words_of_a_viewer(body: str, shape: str):
    element = one(body)
    fitting = [
        word
        for word in ("circle", "ellipse", "square", "rectangle", "triangle", "diamond", "pentagon")
        if element.is_shape(word)
    ]
    assert fitting == [shape]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('<circle cx="50" cy="50" r="9" fill="red"/>', "red"),
        ('<circle cx="50" cy="50" r="9" fill="#1f77b4"/>', "blue"),
        ('<circle cx="50" cy="50" r="9" fill="#2ca02c"/>', "green"),
        ('<circle cx="50" cy="50" r="9" fill="rgb(255, 165, 0)"/>', "orange"),
        ('<circle cx="50" cy="50" r="9" fill="hsl(280, 80%, 50%)"/>', "purple"),
        ('<circle cx="50" cy="50" r="9" style="fill:navy"/>', "blue"),
        ('<g fill="gold"><circle cx="50" cy="50" r="9"/></g>', "yellow"),
        ('<g color="red"><circle cx="50" cy="50" r="9" fill="currentColor"/></g>', "red"),
        ('<circle cx="50" cy="50" r="9"/>', "black"),
        ('<circle cx="50" cy="50" r="9" fill="none" stroke="green"/>', "green"),
        (
            '<style>.a{fill:blue} #b{fill:red}</style>'
            '<circle id="b" class="a" cx="50" cy="50" r="9" fill="lime"/>',
            "red",
        ),
        ('<circle cx="50" cy="50" r="9" fill="saddlebrown"/>', "brown"),
        ('<circle cx="50" cy="50" r="9" fill="#ff69b4"/>', "pink"),
        ('<circle cx="50" cy="50" r="9" fill="#888"/>', "gray"),
    ],
)  # fmt: skip
def test_colours_by_the_words_of_a_viewer(body: str, word: str):
    element = one(body)
    words = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown",
             "black", "white", "gray")  # fmt: skip
    assert [each for each in words if element.is_called(each)] == [word]


@pytest.mark.parametrize("colour", ["steelblue", "tomato", "teal", "#c8e6c9", "url(#g)"])
def test_a_colour_between_two_words_is_neither_of_them_for_sure(colour: str):
    gradient = '<defs><linearGradient id="g"><stop stop-color="red"/></linearGradient></defs>'
    element = one(f'{gradient}<circle cx="50" cy="50" r="9" fill="{colour}"/>')
    words = {"steelblue": "gray", "tomato": "orange", "teal": "green", "#c8e6c9": "white",
             "url(#g)": "blue"}  # fmt: skip
    assert element.is_called(words[colour]) in (None, False)
    assert element.is_called("purple") is (None if colour == "url(#g)" else False)


@pytest.mark.parametrize(
    "body",
    [
        '<circle cx="50" cy="50" r="9" display="none"/>',
        '<g style="display:none"><circle cx="50" cy="50" r="9"/></g>',
        '<circle cx="50" cy="50" r="9" visibility="hidden"/>',
        '<g opacity="0"><circle cx="50" cy="50" r="9"/></g>',
        '<circle cx="50" cy="50" r="9" fill="none"/>',
        '<circle cx="50" cy="50" r="9" fill="white"/>',
        '<circle cx="500" cy="50" r="9"/>',
        '<defs><circle cx="50" cy="50" r="9"/></defs>',
        '<text x="50" y="50" fill="white">hidden</text>',
    ],
)
def test_what_nobody_sees_is_no_element(body: str):
    assert elements(body) == ()


def test_what_stands_on_its_own_colour_or_under_a_rectangle_is_no_element():
    panel = '<rect x="10" y="10" width="80" height="80" fill="red"/>'
    assert len(elements(panel + '<circle cx="50" cy="50" r="9" fill="red"/>')) == 1
    assert len(elements(panel + '<circle cx="50" cy="50" r="9" fill="white"/>')) == 2
    assert len(elements('<circle cx="50" cy="50" r="9"/>' + panel)) == 1


def test_texts_with_their_places():
    first, second = elements(
        '<text x="100" y="50" font-size="20" text-anchor="middle">Hours <tspan>of</tspan> sleep'
        '</text><text x="10" y="20"><tspan x="10" dy="1.2em">low</tspan></text>'
    )
    assert (first.kind, first.text) == ("text", "Hours of sleep")
    assert first.box.x == pytest.approx(100)
    assert first.box.has(100, 44)
    assert second.text == "low"
    assert second.box.top > 20


def test_a_picture_without_a_size_is_as_large_as_its_ink():
    scene = read_scene(
        '<svg xmlns="http://www.w3.org/2000/svg"><circle cx="50" cy="50" r="9"/></svg>'
    )
    assert isinstance(scene, Scene)
    assert len(scene.elements) == 1


def test_what_cannot_be_read_makes_a_scene_incomplete():
    for body in (
        '<path d="M0 0 A9 5 30 0 1 50 50 z"/>',
        '<rect width="9" height="9" transform="perspective(3)"/>',
        '<image href="data:image/png;base64,AA" width="50" height="50"/>',
    ):
        scene = read_scene(f"{HEAD}{body}</svg>")
        assert isinstance(scene, Scene)
        assert not scene.complete, body
