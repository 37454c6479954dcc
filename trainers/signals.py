"""The leading indicators of a collapse: what moves, which way, by how much, what helps.

Each is a quantity that training itself sees; docs/monitors.md says which of them moved in runs
that collapsed, and when. Falling entropy and rising agreement alone are none of them: they are
what learning from votes looks like when it works. They count beside a loss of diversity or of
agreement with fixed labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.protocol import ROLES, Role
from trainers.forecast import Direction


@dataclass(frozen=True)
class Signal:
    """One leading indicator.

    Attributes:
        quantity: Name of the metric.
        direction: 1 if a rise is bad, -1 if a fall is.
        least: Least change over the window that matters, whatever its significance.
        helps: What usually helps, in one sentence.
        relative: ``least`` is a share of the value at the window's start.
        increments: Look at the differences of neighbours: an acceleration. ``least`` still
            applies to the quantity itself.
        beside: Counts only if one of these falls in the same window.
        stages: Stages in which it is looked at.
    """

    quantity: str
    direction: Direction
    least: float
    helps: str
    relative: bool = False
    increments: bool = False
    beside: tuple[str, ...] = ()
    stages: tuple[Role, ...] = ROLES


SIGNALS: tuple[Signal, ...] = (
    Signal(
        "label_agreement",
        -1,
        0.15,
        "the votes leave the labels of the stage's start: lower the learning rate, raise beta, "
        "or end the stage earlier (max_epochs)",
    ),
    Signal(
        "answer_diversity",
        -1,
        0.10,
        "ever more questions get one answer: do not pay agreement alone (a label that is fixed "
        "or read from the caption), and filter by consistency",
    ),
    Signal(
        "consistency",
        1,
        0.10,
        "the answers agree more while they say less: stop the stage, or filter out questions "
        "that are settled (filters.hard_high)",
        beside=("answer_diversity", "label_agreement"),
    ),
    Signal(
        "sampled_entropy",
        -1,
        0.30,
        "the policy becomes certain: raise beta or the temperature, or keep the sampling "
        "diverse (epsilon_high)",
        relative=True,
        beside=("answer_diversity", "label_agreement", "caption_diversity"),
    ),
    Signal(
        "sampled_entropy",
        1,
        0.30,
        "the policy dissolves into noise: lower the learning rate or raise beta",
        relative=True,
    ),
    Signal(
        "completion_length",
        -1,
        0.15,
        "completions shrink: look whether the reward pays for an answer without its reasoning",
        relative=True,
    ),
    Signal(
        "completion_length",
        1,
        0.15,
        "completions grow: look for padding and repetition, and lower max_tokens",
        relative=True,
    ),
    Signal(
        "kl",
        1,
        0.05,
        "the policy leaves its start ever faster: lower the learning rate or raise beta",
        increments=True,
    ),
    Signal(
        "content_type_diversity",
        -1,
        0.10,
        "the proposals turn to few content types: pay for balance (proposer.content_balance)",
        stages=("proposer",),
    ),
    Signal(
        "caption_diversity",
        -1,
        0.05,
        "the captions become alike: pay for diversity (proposer.diversity, proposer.repetition)",
        stages=("proposer",),
    ),
    Signal(
        "easy_agreement",
        -1,
        0.15,
        "the Solver's labels leave the Proposer's own easy answers: judge with an older Solver, "
        "or take the labels from the caption (reward_design=caption_grounded)",
        stages=("proposer", "coder"),
    ),
    Signal(
        "parsed",
        -1,
        0.10,
        "ever fewer proposals parse: lower the Proposer's learning rate or raise its beta",
        stages=("proposer",),
    ),
    Signal(
        "render_rate",
        -1,
        0.15,
        "ever fewer codes render: lower the learning rate or raise beta",
        stages=("proposer", "coder"),
    ),
    Signal(
        "blind_solvable",
        1,
        0.25,
        "the hard questions are answered without the picture: pay for the difference that the "
        "picture makes (proposer.blind), or leave out questions that are solved blind "
        "(blind_limit; reward_design=audited does both)",
    ),
)
