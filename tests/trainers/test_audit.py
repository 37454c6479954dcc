"""The audit against the truth: what it says, and that nothing listens to it."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mmzero_env import world
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import (
    CodeOutcome,
    Completion,
    Drawing,
    EpisodeOutcome,
    EpisodeRewards,
    Failure,
    Proposal,
    RenderJob,
    Request,
    Response,
    TurnReward,
    Vote,
)
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design
from tests.trainers.test_stages import Batched, stage_of
from trainers import audit, report, signals, stages, step_audit
from trainers.audit_metrics import METRICS
from trainers.groups import Group

FOREIGN = Proposal("map", "A map of nowhere.", "Where?", "here", "How far?", "7")


def proposal_of(seed: int, **own: str) -> Proposal:
    rng = random.Random(seed)
    found = parse_proposal(world.proposal_text(world.sample_spec(rng, "bars"), rng))
    assert isinstance(found, Proposal)
    return replace(found, **own)


def group_of(texts, rewards, prompt="?", name="g") -> Group:
    done = tuple(Completion(text) for text in texts)
    return Group(Request(name, "solver", prompt, n=len(done)), Response(name, done), tuple(rewards))


def tagged(proposal: Proposal) -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for tag, text in vars(proposal).items())


def test_false_solvable_counts_solved_pictures_whose_answer_is_false():
    good, bad = proposal_of(0), proposal_of(1, easy_answer="none of these")
    solved = [(each, each.easy_answer) for each in (good, bad, bad, FOREIGN)]
    assert audit.false_solvable(solved) == pytest.approx(2 / 3)
    assert audit.false_solvable(solved[-1:]) is None
    # The key may be somebody else's answer.
    right = world.truth(bad, "easy")
    assert audit.false_solvable([(bad, right), (good, "none of these")]) == 0.5


def test_a_proposal_is_true_if_it_is_of_the_world_and_answers_its_own_question():
    good = proposal_of(0)
    texts = [
        tagged(good),
        tagged(replace(good, easy_answer="none of these")),
        tagged(replace(good, hard_question="Why?")),
        tagged(FOREIGN),
        "no tags",
    ]
    assert audit.proposals_true(group_of(texts, [0] * 5)) == [1.0, 0.0, 0.0, None, 0.0]


def test_answers_are_compared_with_the_truth_and_not_with_the_proposers_answer():
    proposal = proposal_of(0, hard_answer="a lie")
    right = world.truth(proposal, "hard")
    group = group_of([f"\\boxed{{{right}}}", "\\boxed{a lie}", "nothing"], [0, 0, 0])
    assert audit.answers_true(group, proposal) == [1.0, 0.0, 0.0]
    assert audit.answers_true(group, FOREIGN) == [None] * 3


def test_codes_are_true_if_they_draw_the_caption_whatever_their_markup():
    spec = world.sample_spec(random.Random(3), "grid")
    rng = random.Random(3)
    proposal = parse_proposal(world.proposal_text(spec, rng))
    other = world.sample_spec(random.Random(9), "grid")
    with Renderer(size=96, workers=0) as renderer:
        commented = spec.svg().replace("</svg>", "<!-- the same picture --></svg>")
        drawn = renderer.render(
            [RenderJob(str(i), svg) for i, svg in enumerate((commented, other.svg()))]
        )
        codes = [CodeOutcome("", "", drawing) for drawing in drawn]
        codes.append(CodeOutcome("", None, Drawing(None, Failure("render", "no"))))
        outcomes = [
            EpisodeOutcome("a", "t", "", proposal, tuple(codes)),
            EpisodeOutcome("b", "t", "", FOREIGN, tuple(codes)),
            EpisodeOutcome("c", "t", "", Failure("proposal", "missing_tag")),
        ]
        found = audit.codes_true(outcomes, renderer)
    assert found == {"a": [1.0, 0.0, 0.0], "b": [None] * 3, "c": []}


def test_reward_and_truth_are_correlated_over_the_step_and_within_groups():
    # Within each group the false answer earns more; between groups true ones do.
    groups = [group_of("ab", [2.0, 3.0]), group_of("cd", [0.0, 1.0])]
    truths = [[1.0, 1.0], [1.0, 0.0]]
    found = audit.agreement(groups, truths)
    assert found["reward_truth_in_group"] == pytest.approx(
        np.corrcoef([-0.5, 0.5, -0.5, 0.5], [0, 0, 0.5, -0.5])[0, 1]
    )
    expected = stats.spearmanr([2, 3, 0, 1], [1, 1, 1, 0]).statistic
    assert found["reward_truth"] == pytest.approx(expected)


def test_what_nobody_knows_is_left_out_of_the_correlations():
    groups = [group_of("abc", [0.0, 1.0, 99.0]), group_of("d", [5.0])]
    found = audit.agreement(groups, [[0.0, 1.0, None], [None]])
    assert found == {"reward_truth": pytest.approx(1), "reward_truth_in_group": pytest.approx(1)}


@pytest.mark.parametrize("truths", [[[None, None]], [[1.0, 1.0]]])
def test_without_variation_there_is_no_correlation(truths):
    found = audit.agreement([group_of("ab", [0.0, 1.0])], truths)
    assert found == {"reward_truth": None, "reward_truth_in_group": None}
    assert audit.agreement([], []) == found


@pytest.mark.parametrize("role", ["proposer", "coder", "solver"])
def test_a_stage_learns_the_same_when_nobody_knows_the_truth(role, tmp_path, monkeypatch):
    def first_step(name):
        with Renderer(size=32, workers=0) as renderer:
            prompts = stages._PROMPTS[role](stage_of(tmp_path / name, role, Batched(), renderer))
            groups, metrics = prompts.collect(0)
        learned = repr([(g.request.id, g.response, g.rewards) for g in groups])
        told = {k: metrics.pop(k) for k in METRICS if k in metrics}
        return told, (learned, {k: v for k, v in metrics.items() if not k.startswith("seconds_")})

    told, learned = first_step("known")
    # The scripted player has its own way to the world.
    for name in ("parse_caption", "truth"):
        monkeypatch.setattr(audit.world, name, unknown_to_the_audit(getattr(audit.world, name)))
    told_nothing, same = first_step("unknown")
    assert same == learned
    assert {"silver_accuracy", "false_solvable", "reward_truth"} < told.keys()
    assert all(value is not None for value in told.values())
    assert told_nothing["silver_accuracy"] is None


def unknown_to_the_audit(known):
    def told(*asked):
        caller = sys._getframe(1).f_code.co_filename
        return None if caller.endswith("audit.py") else known(*asked)

    return told


def test_monitors_know_no_metric_of_the_audit():
    watched = {name for s in signals.SIGNALS for name in (s.quantity, *s.beside)}
    assert watched and not watched & METRICS.keys()


def test_the_report_shows_the_audit_apart_from_the_curves(make_run):
    run = make_run()
    rows = [
        {"iteration": 1, "stage": "solver", "step": k, "reward": 0.5, "silver_accuracy": 0.1 * k}
        for k in range(4)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report.write(run).path.read_text(encoding="utf-8")
    section = page[page.index('<section id="audit">') : page.index('<section id="curves">')]
    assert "silver accuracy" in section and "reward truth in group" in section
    assert "mean by iteration: iteration 1 0.15" in section
    assert "silver accuracy" not in page[page.index('<section id="curves">') :]
    for row in rows:
        del row["silver_accuracy"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert 'id="audit"' not in report.write(run).path.read_text(encoding="utf-8")


def test_the_key_of_a_solved_question_is_what_its_readers_were_compared_with():
    proposal = proposal_of(1, easy_answer="none of these")
    read = EpisodeRewards(TurnReward(0.0, {}), (), {"easy": Vote("7", 0.6, 5, 5)})
    key = step_audit._easy_key
    assert key(proposal, read, get_design("caption_grounded")) == "none of these"
    # Also where too few readings agree for a label.
    assert key(proposal, read, get_design("cycle_consistent")) == "7"
    unread = EpisodeRewards(TurnReward(0.0, {}), ())
    assert key(proposal, unread, get_design("cycle_consistent")) is None
    told = get_design("cycle_consistent", label_source="truth")
    assert key(proposal, unread, told) == world.truth(proposal, "easy")
