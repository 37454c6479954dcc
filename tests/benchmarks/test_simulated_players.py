import random
import zlib

import numpy as np
import pytest

from benchmarks.simulated_players import (
    ANSWERS,
    CODE_NAMES,
    CODES,
    CONFUSING,
    RIGHT,
    Coder,
    Solver,
    situation,
)
from benchmarks.strategies import Play, Softmax, learn
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.parsing import extract_boxed, parse_proposal
from mmzero_env.protocol import Completion
from mmzero_env.rewards import get_design
from mmzero_env.scenes import EXPLOITS, KINDS, Choices, compose, read_question
from mmzero_env.structured_proposer import play_out
from mmzero_env.undrawn import Undrawn


def only(names, name, contexts):
    """A policy that always plays one strategy."""
    row = np.where(np.array(names) == name, 0.0, -50.0)
    return Softmax(tuple(names), {context: row.copy() for context in contexts})


def coder(strategy):
    return Coder(only(CODE_NAMES, strategy, [(kind,) for kind in KINDS]))


def solver(strategy, drawn_by):
    contexts = [(kind, level) for kind in KINDS for level in ("easy", "hard")]
    return Solver(drawn_by, only(ANSWERS, strategy, contexts))


def played(coder, solver, *, kind=0, own=0, exploit="none", seed=0, **shape):
    """An episode with the scene it is about."""
    choices = Choices(kind, 0, 0, 0, own, EXPLOITS.index(exploit))
    scene = compose(choices, random.Random(seed))
    episode = Episode(f"e{seed}", "", seed, EpisodeConfig(prompts="nano", **shape))
    episode.submit(f"e{seed}/proposer", [Completion(scene.text)])
    play_out(episode, {"coder": coder, "solver": solver}, Undrawn(8))
    return scene, episode.outcome()


def answers(outcome, level, code=0):
    return {extract_boxed(text) for text in outcome.codes[code].answers[level]}


def test_the_solver_begins_with_the_measured_shares_of_true_answers():
    by_level = Solver(Coder()).skill()
    for level, kinds in RIGHT.items():
        assert by_level[level] == pytest.approx(np.mean(list(kinds.values())), abs=0.01)


def test_the_coder_begins_with_the_measured_shares():
    policy = Coder().policy
    assert sum(CODES.values()) == pytest.approx(1)
    for name, share in CODES.items():
        assert policy.mass((name,)) == pytest.approx(share)


def test_answers_are_as_often_true_as_the_policy_says():
    pair = Coder(), Solver(coder("faithful"))
    truths, expected = [], []
    for seed in range(120):
        scene, outcome = played(pair[1].coder, pair[1], kind=seed % 5, seed=seed)
        reading = read_question(outcome.proposal.hard_question)
        expected.append(pair[1].right(scene.spec, "hard", reading))
        given = [extract_boxed(text) for code in outcome.codes for text in code.answers["hard"]]
        truths.append(np.mean([answer == scene.truth["hard"] for answer in given]))
    # Guesses hit the truth now and then, reading it is what the policy counts.
    assert np.mean(expected) - 0.02 < np.mean(truths) < np.mean(expected) + 0.08


def test_confusing_pictures_come_as_often_as_measured_and_make_the_mistake_the_mode():
    rows, picked = Solver(Coder()), {}
    for seed in range(400):
        scene = compose(Choices(1, seed % 2, 0, 0, 0, 0), random.Random(seed))
        reading = read_question(parse_proposal(scene.text).hard_question)
        offsets = situation(scene.spec, "hard", reading, captioned=False)
        picked[bool(offsets)] = picked.get(bool(offsets), 0) + 1
        shares = rows.policy.probabilities(("grid", "hard"), offsets)
        assert ANSWERS[int(shares.argmax())] == ("systematic" if offsets else "right")
    assert picked[True] / 400 == pytest.approx(CONFUSING["hard"]["grid"][0][0], abs=0.07)


def test_who_draws_the_true_picture_is_read_and_who_draws_another_is_read_too():
    draws = coder("faithful")
    scene, outcome = played(draws, solver("right", draws))
    assert answers(outcome, "hard") == {scene.truth["hard"]}
    draws = coder("wrong_values")
    seen = [played(draws, solver("right", draws), seed=seed) for seed in range(8)]
    assert any(answers(outcome, "hard") != {scene.truth["hard"]} for scene, outcome in seen)


@pytest.mark.parametrize(
    ("strategy", "reason"), [("broken", "not_well_formed"), ("prose", "no_code")]
)
def test_codes_that_cannot_be_drawn_are_not_asked_about(strategy, reason):
    _, outcome = played(coder(strategy), solver("right", coder(strategy)))
    assert all(code.drawing.failure is not None and not code.answers for code in outcome.codes)


def test_an_answer_in_the_picture_is_read_off_even_if_it_is_false():
    draws = coder("only_easy")
    _, outcome = played(draws, solver("right", draws), own=1)
    assert answers(outcome, "easy") == {outcome.proposal.easy_answer}
    # And it pays: this is how a Coder learns to write answers instead of drawing.
    (rewards,) = get_design("mm_zero").score([outcome])
    draws = coder("faithful")
    _, honest = played(draws, solver("right", draws), own=1)
    (fair,) = get_design("mm_zero").score([honest])
    assert rewards.codes[0].coder.value > fair.codes[0].coder.value


def test_hints_are_followed_and_statements_make_the_picture_needless():
    blank = coder("blank")
    _, outcome = played(blank, solver("right", blank), own=1, exploit="hint")
    assert answers(outcome, "easy") == {outcome.proposal.easy_answer}
    scene, outcome = played(blank, solver("right", blank), exploit="stated")
    assert answers(outcome, "hard") == {scene.truth["hard"]}
    scene, outcome = played(blank, solver("right", blank), seed=3)
    assert scene.truth["hard"] not in answers(outcome, "hard") or len(answers(outcome, "hard")) > 1


def test_ambiguous_questions_split_the_votes():
    draws = coder("faithful")
    _, outcome = played(draws, solver("right", draws), exploit="ambiguous", answers=20)
    assert len(answers(outcome, "hard")) >= 3


@pytest.mark.parametrize("strategy", ["blind", "constant"])
def test_answers_without_looking_agree_whatever_is_drawn(strategy):
    given = set()
    for seed in range(4):
        draws = coder("faithful")
        _, outcome = played(draws, solver(strategy, draws), seed=seed, kind=3)
        given |= answers(outcome, "easy")
    assert len(given) == 1


def test_captions_are_read_without_a_picture_and_blind_requests_show_nothing():
    draws = coder("broken")
    reader = solver("right", draws)
    scene, outcome = played(draws, reader, caption_answers=4, blind_answers=40)
    assert {extract_boxed(t) for t in outcome.caption_answers["hard"]} == {scene.truth["hard"]}
    blind = [extract_boxed(text) for text in outcome.blind_answers["hard"]]
    assert blind.count(scene.truth["hard"]) < 30 and len(set(blind)) > 1
    scene, outcome = played(draws, reader, exploit="stated", blind_answers=4)
    assert {extract_boxed(t) for t in outcome.blind_answers["hard"]} == {scene.truth["hard"]}


def test_a_step_follows_the_advantages_and_groups_that_are_alike_teach_nothing():
    policy = Softmax(("a", "b", "c"), {("x",): np.zeros(3), ("y",): np.zeros(3)})
    thirds = np.full(3, 1 / 3)
    same = Play(("y",), thirds, (0, 1))
    group = Play(("x",), thirds, (0, 0, 1, 2))
    assert learn(policy, [(group, [1, 1, 0, 0]), (same, [0.5, 0.5])], rate=2.0) == 1
    advantage = 0.5 / (np.std([1, 1, 0, 0], ddof=1) + 1e-6)
    wanted = 2.0 * advantage * np.array([2, -1, -1]) / 4
    assert policy.logits[("x",)] == pytest.approx(wanted)
    assert not policy.logits[("y",)].any()


@pytest.mark.parametrize(("confusing", "grows"), [(True, "systematic"), (False, "right")])
def test_votes_teach_the_mistake_where_it_is_the_mode_and_the_truth_elsewhere(confusing, grows):
    design, learner = get_design("mm_zero"), Solver(coder("faithful"))
    before = learner.policy.mass((grows,))
    for seed in range(400):
        scene = compose(Choices(1, 0, 0, 0, 0, 0), random.Random(seed))
        mark = zlib.crc32(
            f"{scene.spec.caption()}|{parse_proposal(scene.text).hard_question}".encode()
        )
        if (mark / 2**32 < CONFUSING["hard"]["grid"][0][0]) != confusing:
            continue
        _, outcome = played(learner.coder, learner, kind=1, seed=seed, answers=8, codes=1)
        (rewards,) = design.score([outcome])
        turns = rewards.codes[0].solver["hard"]
        play = learner.plays[f"e{seed}/solver/0/hard"]
        learn(learner.policy, [(play, [turn.value for turn in turns])], rate=0.3)
    found = learner.policy.probabilities(("grid", "hard"))[ANSWERS.index(grows)]
    first = Solver(Coder()).policy.probabilities(("grid", "hard"))[ANSWERS.index(grows)]
    assert found > first + 0.1
    assert learner.policy.mass((grows,)) > before
