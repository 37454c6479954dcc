import pytest

from mmzero_env.grounding import Scene, check_claims, read_scene
from tests.mmzero_env.grounding.pictures import CASES, Case

NAMES = [case.name for case in CASES]


def scene_of(case: Case) -> Scene:
    scene = read_scene(case.svg)
    assert isinstance(scene, Scene)
    return scene


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_true_sentence_is_called_false(case: Case):
    scene = scene_of(case)
    for sentence in case.true:
        claims = check_claims(sentence, scene)
        assert claims.false == 0, (sentence, claims.claims)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_false_sentences_are_called_false(case: Case):
    scene = scene_of(case)
    for sentence in case.false:
        claims = check_claims(sentence, scene)
        assert claims.false > 0, (sentence, claims.claims)
        assert claims.false <= claims.checked
    for sentence in case.missed:
        # When one of these is called false, it belongs to those above.
        assert check_claims(sentence, scene).false == 0, sentence


def test_many_true_sentences_are_checked():
    checked = [
        check_claims(sentence, scene_of(case)).checked > 0
        for case in CASES
        for sentence in case.true
    ]
    # The other ones are there to be passed over: sums, hypotheses, parts of the picture.
    assert sum(checked) > 0.45 * len(checked)
