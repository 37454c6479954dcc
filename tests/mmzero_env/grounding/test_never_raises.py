import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.svg_corpus import FOLDER
from mmzero_env.grounding import Scene, check_claims, read_scene
from mmzero_env.protocol import Failure
from tests.mmzero_env.grounding.pictures import CASES

SCENES = [scene for case in CASES if isinstance(scene := read_scene(case.svg), Scene)]
WORDS = (
    "there are is no 3 red circles circle a the triangle square bar blue of left right same row "
    "column as above inside 2 A1 B2 : , . = -> to from arrow points connected tallest than most "
    "least 8 Start End Mon Oslo labelled 'Total' none and ( ) % ° + - steps see I one"
).split()
ATTRIBUTES = (
    'd="M1 1 L" d="M 0 0 a1 1 0 01 5 5" d="m" points="1" points="1,2 3" r="-1" r="1e5" x="5%" '
    'width="0" width="1e-9" transform="scale(0)" transform="matrix(1 0 0 0 0 0)" '
    'transform="rotate(" transform="scale(1e6) scale(1e6) scale(1e6)" font-size="0" '
    'font-size="1e6em" fill="#12" fill="rgb(1,2)" fill="url(#x)" opacity="nan%" opacity="-3" '
    'stroke-width="1e6" style="fill:;stroke" viewBox="0 0 0 0" dy="1em 2em" x="1,2,3" text=""'
).split('" ')
TAGS = "rect circle ellipse line polyline polygon path text g svg use symbol tspan".split()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.sampled_from(SCENES))
def test_any_text(text: str, scene: Scene):
    claims = check_claims(text, scene)
    assert 0 <= claims.false <= claims.checked <= len(claims.claims)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from(SCENES))
def test_any_words_of_the_grammar(words: list[str], scene: Scene):
    claims = check_claims(" ".join(words), scene)
    assert claims == check_claims(" ".join(words), scene)
    assert 0 <= claims.false <= claims.checked


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(TAGS), st.lists(st.sampled_from(ATTRIBUTES), max_size=4)),
        max_size=8,
    )
)
def test_any_elements(parts: list[tuple[str, list[str]]]):
    body = ""
    for tag, attributes in parts:
        named = {a.partition("=")[0]: a.strip().removesuffix('"') + '"' for a in attributes}
        body += f"<{tag} {' '.join(named.values())}>7</{tag}>"
    scene = read_scene(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 90">{body}</svg>')
    assert isinstance(scene, Scene | Failure)
    if isinstance(scene, Scene):
        check_claims("There are 3 red circles. A is left of B. red 5, blue 7.", scene)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_code(code: str):
    assert isinstance(read_scene(code), Scene | Failure)


@pytest.mark.parametrize("folder", ["valid", "hostile", "malformed"])
def test_the_corpora(folder: str):
    rng = random.Random(folder)
    for path in sorted((FOLDER / folder).glob("*.svg")):
        code = path.read_bytes().decode("utf-8", "replace")
        scene = read_scene(code)
        assert isinstance(scene, Scene | Failure), path.name
        if isinstance(scene, Scene):
            text = " ".join(rng.choices(WORDS, k=60))
            assert check_claims(text, scene).checked >= 0
