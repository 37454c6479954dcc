"""Stage filters: which proposals and pictures the Coder and the Solver learn from.

Source: filter_proposals_by_render.py and upload_imagefree.py of the official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmzero_env.protocol import EpisodeOutcome, EpisodeRewards, Image, Proposal
from mmzero_env.rewards import RewardDesign
from trainers import quantities
from trainers.run_config import FilterConfig

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LabelledQuestion:
    """One training prompt of the Solver.

    Attributes:
        id: Unique in the stage.
        proposal: The proposal behind the picture.
        image: The picture, (H, W, 3) uint8.
        question: The hard question.
        label: The silver label, voted when the picture was drawn.
        easy_agrees: Whether the easy question's silver label is the Proposer's answer.
        svg: The code of the picture, None if it is not SVG.
    """

    id: str
    proposal: Proposal
    image: Image
    question: str
    label: str
    easy_agrees: bool | None = None
    svg: str | None = None


def coder_prompts(proposals: Sequence[T], rates: Sequence[float], filters: FilterConfig) -> list[T]:
    """Proposals that the current Coder renders sometimes, but not always.

    Args:
        proposals: Candidates: proposals, or what was made of them.
        rates: For each, the share of the Coder's codes that rendered.
        filters: The bounds.

    Returns:
        Those within the bounds: only they give groups whose codes differ in rendering.
    """
    pairs = zip(proposals, rates, strict=True)
    return [p for p, rate in pairs if filters.render_low <= rate <= filters.render_high]


def solver_prompts(
    outcomes: Sequence[EpisodeOutcome],
    rewards: Sequence[EpisodeRewards],
    filters: FilterConfig,
    design: RewardDesign,
) -> list[LabelledQuestion]:
    """Pictures whose easy vote agrees and whose hard vote is neither noise nor settled.

    Args:
        outcomes: Finished episodes.
        rewards: Their rewards, which hold the silver labels that the design chose. A
            picture without a label for its hard question is not used: the design found
            that it leaks, say, or that the question is solved without it.
        filters: The bounds; those of the hard vote apply to the share of the answers
            that equal the label.
        design: How answers are compared.

    Returns:
        One prompt a picture that passed.
    """
    kept = []
    for outcome, scored in zip(outcomes, rewards, strict=True):
        if not isinstance(outcome.proposal, Proposal):
            continue
        for index, (code, judged) in enumerate(zip(outcome.codes, scored.codes, strict=True)):
            image = code.drawing.image
            if image is None or "hard" not in judged.labels:
                continue
            easy, hard = judged.votes["easy"], judged.labels["hard"]
            if (
                easy.consistency >= filters.easy_low
                and filters.hard_low <= hard.consistency <= filters.hard_high
            ):
                kept.append(
                    LabelledQuestion(
                        f"{outcome.id}/{index}",
                        outcome.proposal,
                        image,
                        outcome.proposal.hard_question,
                        hard.winner,
                        quantities.easy_agrees(outcome.proposal, judged, design),
                        code.code if code.form == "svg" else None,
                    )
                )
    return kept
