import random

import pytest

from mmzero_env import world
from mmzero_env.grounding import Scene, check_claims, read_scene
from mmzero_env.protocol import QUESTIONS
from mmzero_env.world.proposals import solution_text

SPECS = 60


def scene_of(spec: world.Spec) -> Scene:
    scene = read_scene(spec.svg())
    assert isinstance(scene, Scene)
    return scene


@pytest.mark.parametrize("kind", world.KINDS)
def test_true_reasoning_is_checked_and_never_called_false(kind: str):
    rng = random.Random(f"true/{kind}")
    for _ in range(SPECS):
        spec = world.sample_spec(rng, kind)
        scene = scene_of(spec)
        for level in QUESTIONS:
            item = spec.solve(spec.ask(level, rng))
            assert item is not None
            claims = check_claims(solution_text(item), scene)
            assert claims.false == 0, (spec, item, claims.claims)
            assert claims.checked > 0, (spec, item, claims.claims)


@pytest.mark.parametrize(
    ("kind", "least"),
    [("bars", 0.95), ("grid", 0.99), ("table", 0.95), ("timeline", 0.85), ("diagram", 0.99)],
)
def test_reasoning_about_a_misread_picture_is_caught(kind: str, least: float):
    rng = random.Random(f"misread/{kind}")
    caught = []
    while len(caught) < SPECS:
        spec = world.sample_spec(rng, kind)
        misread = spec.misread(rng, 0.5)
        item = misread.solve(spec.ask("hard", rng))
        wrong = set(misread.entries()) - set(spec.entries())
        if item is None or not item.listing or not wrong:
            continue
        claims = check_claims(solution_text(item), scene_of(spec))
        stated = wrong | {claim.text for claim in claims.claims if claim.kind != "value"}
        # Never more false claims than there can be wrong ones.
        assert claims.false <= len(stated), (spec, item, claims.claims)
        caught.append(claims.false > 0)
    assert sum(caught) >= least * len(caught)


def test_an_answer_about_another_picture_is_caught():
    bars = world.parse_caption("Bar chart: red 5, blue 7, green 2.")
    assert bars is not None
    scene = scene_of(bars)
    assert check_claims("I see red 5, blue 7, green 2, so 7-2=5", scene).checked == 3
    assert check_claims("I see red 5, blue 6, green 2, so 6-2=4", scene).false == 1
    assert check_claims("I see red 5, blue 7, green 3", scene).false == 1


def test_what_is_boxed_does_not_count_and_repetitions_count_once():
    table = world.parse_caption("Table: cat 3, dog 8.")
    assert table is not None
    scene = scene_of(table)
    text = "<think>I see cat 3, dog 8, so dog 8. The dog is 8.</think> dog = 8 \\boxed{cat 9}"
    claims = check_claims(text, scene)
    assert (claims.checked, claims.false) == (2, 0)
    assert check_claims("\\boxed{cat 9} cat 9", scene).false == 1
    assert check_claims("\\boxed{cat \\text{is} 9", scene).checked == 0
    assert check_claims("7-4=3, so the answer is 9", scene).checked == 0
