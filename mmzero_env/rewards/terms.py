"""The formulas of the rewards: pure functions of counts, votes and texts.

Sources are MM-Zero's published code (repository ``zli12321/MM-Zero``, variant
``MM-zero_final``, files under ``reward_function/``) and paper (arXiv 2603.09206);
formulas of other work name theirs. Every function returns the bare term; its weight
belongs to the design. Terms that punish are non-negative here and carry a negative
weight there. Terms over a population are in :mod:`mmzero_env.rewards.population`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from mmzero_env.protocol import Vote


def solvability(matches: int, answers: int) -> Fraction:
    """Share of the easy answers that match the proposed easy answer.

    ``s = matches / answers``; an answer without a box counts as wrong. 0 without
    answers. Source: ``proposer_reward.py``, section "solvability"; paper, Solver
    feedback of the Proposer and of the Coder.

    Args:
        matches: Answers equivalent to the proposal's easy answer.
        answers: All answers, unusable ones included.

    Returns:
        A share in [0, 1].
    """
    return Fraction(matches, answers) if answers else Fraction(0)


def consistency(vote: Vote) -> Fraction:
    """The vote's consistency as the exact fraction winner / valid."""
    return Fraction(round(vote.consistency * vote.valid), vote.valid) if vote.valid else Fraction(0)


def difficulty(vote: Vote) -> Fraction:
    """How split the vote on the hard question is.

    ``d = min(c, 1 - c)`` with consistency ``c``; 0 without a valid answer. The
    proposed hard answer plays no part. Source: ``proposer_reward.py`` and
    ``codegen_reward.py``; the paper's "hard but not impossible" term.

    Args:
        vote: The vote on the hard question.

    Returns:
        A value in [0, 1/2].
    """
    share = consistency(vote)
    return min(share, 1 - share)


def learnability(vote: Vote) -> Fraction:
    """A smooth difficulty, ``4 c (1 - c)`` with consistency ``c``.

    The variance of a success with probability ``c``, scaled to a peak of 1 at one
    half. Source: the learnability score of unsupervised environment design (SFL,
    arXiv 2408.15099), applied to the vote.

    Args:
        vote: The vote on the hard question.

    Returns:
        A value in [0, 1].
    """
    share = consistency(vote)
    return 4 * share * (1 - share)


def uncertainty(vote: Vote) -> Fraction:
    """How far the vote is from certainty, ``1 - |2 c - 1|`` with consistency ``c``.

    Twice :func:`difficulty`; 0 without a valid answer. Source: R-Zero (arXiv
    2508.05004, uncertainty reward) and VisPlay (arXiv 2511.15661, equation 5).

    Args:
        vote: The vote on the hard question.

    Returns:
        A value in [0, 1].
    """
    return 2 * difficulty(vote)


def share_of_all(vote: Vote) -> Fraction:
    """The winner's share of all answers, those that could not vote included.

    Args:
        vote: A vote, or how answers voted on a label.

    Returns:
        A share in [0, 1]; 0 without answers.
    """
    winners = round(vote.consistency * vote.valid)
    return Fraction(winners, vote.total) if vote.total else Fraction(0)


def fidelity(vote: Vote) -> Fraction:
    """How often a picture says what it should.

    The share of all hard answers about it that equal the silver label. With labels from
    the caption this is how far it agrees with its own description, and neither an
    unreadable nor an ambiguous picture gains by it, as both do by :func:`difficulty`.
    Ours.

    Args:
        vote: How the answers about the picture voted on the label.

    Returns:
        A share in [0, 1].
    """
    return share_of_all(vote)


def blind(matches: int, answers: int) -> Fraction:
    """Share of the answers without picture and caption that equal the silver label.

    ``b = matches / answers``; an answer without a box counts as wrong. 0 without
    answers. Ours, after the reports of models that reason blindly (Vision-SR1, arXiv
    2508.19652).

    Args:
        matches: Blind answers equivalent to the label of the hard question.
        answers: All blind answers.

    Returns:
        A share in [0, 1].
    """
    return Fraction(matches, answers) if answers else Fraction(0)


def grounding(checked: int, false: int, silence: float = 0.0) -> float:
    """Share of the checkable claims of an answer's reasoning that are false.

    ``false / checked``, and ``silence`` without a checkable claim. Ours.

    Args:
        checked: Claims that the geometry of the picture decides.
        false: Those of them that it contradicts.
        silence: What saying nothing that can be checked counts as.

    Returns:
        A share in [0, 1].
    """
    return false / checked if checked else silence


def entropy(agreement: Sequence[float]) -> float:
    """Entropy of the answers, ``H = -sum_a p_a ln p_a`` over the distinct answers.

    Computed as the mean of ``-ln p`` over the valid answers, where ``p`` is the share
    of valid answers that equal the answer. Source: EvoLMM (arXiv 2511.16672).

    Args:
        agreement: For each answer its share ``p``; 0 for one without a vote.

    Returns:
        Nats, from 0 (all agree) to ln K; 0 without a valid answer.
    """
    valid = [share for share in agreement if share > 0]
    return -sum(map(math.log, valid)) / len(valid) + 0.0 if valid else 0.0


def entropy_band(agreement: Sequence[float], target: float, width: float) -> float:
    """How close the entropy of the answers is to a target.

    ``exp(-(H - target)^2 / (2 width^2))``; 0 without a valid answer. Source: EvoLMM
    (arXiv 2511.16672), Proposer reward, where ``target`` is 0.90 and ``width`` 0.35.

    Args:
        agreement: As for :func:`entropy`.
        target: Entropy that pays 1, in nats.
        width: Standard deviation of the band, in nats.

    Returns:
        A value in [0, 1].
    """
    if not any(agreement):
        return 0.0
    return math.exp(-(((entropy(agreement) - target) / width) ** 2) / 2)


def soft_agreement(
    share: float, words: int, *, power: float, brevity_weight: float, brevity_words: int
) -> float:
    """What an answer earns for agreeing with the others, less what it wastes in words.

    ``p^power (1 - brevity_weight min(1, max(0, (w - t) / t)))`` with ``p`` the share
    of valid answers that equal this one, ``w`` its words before the answer and ``t``
    the words that are free. Source: EvoLMM (arXiv 2511.16672), Solver reward, where
    ``power`` is 0.7, ``brevity_weight`` 0.1 and ``t`` 6.

    Args:
        share: ``p``; 0 for an answer without a vote.
        words: ``w``.
        power: Exponent above 0; below 1 it softens the preference for the majority.
        brevity_weight: Largest share of the term that length costs.
        brevity_words: ``t``, at least 1.

    Returns:
        A value in [0, 1].
    """
    excess = min(1.0, max(0.0, (words - brevity_words) / brevity_words))
    return share**power * (1 - brevity_weight * excess)


def words_before_box(text: str) -> int:
    r"""White-space separated words in front of the last ``\boxed``; all if there is none."""
    return len(text.rpartition("\\boxed")[0].split() if "\\boxed" in text else text.split())


def too_easy(hard_votes: Sequence[Vote], threshold: float, *, exact: bool = True) -> float:
    """1 if the hard question is no harder than the easy one, else 0.

    ``[mean_i d_i < threshold]`` over the rendered codes; 0 if nothing rendered.
    Source: ``proposer_reward.py``, EASY_HARD_THRESHOLD.

    Args:
        hard_votes: The vote on the hard question for every rendered code.
        threshold: Read as the decimal number it is written as.
        exact: Compare fractions. The published code compares floating-point means,
            which decides by rounding when the mean equals the threshold: votes of
            .8 .8 .8 1 are below 0.15 there, .2 .2 .2 1 are not.

    Returns:
        0.0 or 1.0.
    """
    if not hard_votes:
        return 0.0
    if exact:
        mean = sum(map(difficulty, hard_votes), Fraction(0)) / len(hard_votes)
        return float(mean < Fraction(str(threshold)))
    total = 0.0
    # Not sum(): from Python 3.12 on it compensates the rounding reproduced here.
    for vote in hard_votes:
        total += min(vote.consistency, 1 - vote.consistency)
    return float(total / len(hard_votes) < threshold)


def looks_like_svg(code: str | None) -> bool:
    """Whether a code is markup at all.

    It starts with ``<`` or declares XML in its first 100 characters. Source:
    ``code_render/render_code.py``; the type check of ``codegen_reward.py``.
    """
    return code is not None and (code.lstrip().startswith("<") or "<?xml" in code[:100])


_OPENED = re.compile(r"\s*+<\s*+think\s*+>")
_BOX_AFTER_THINK = re.compile(r"<\s*+/\s*+think\s*+>\s*+\\boxed\{")
_WRAPPED_BOX_AFTER_THINK = re.compile(r"<\s*+/\s*+think\s*+>[\s*`$]*+(?:\\[\[(])?\s*+\\boxed\{")
_TRAILING = frozenset(" \t\r\n.,;:!*`$")


def well_formatted(text: str, *, strict: bool = False) -> bool:
    r"""Whether a Solver's completion has the form that its prompt asks for.

    ``<think>...</think>`` and then ``\boxed{...}`` up to the end of the text.
    Source: ``cot_val_solver.py``.

    Args:
        text: A raw completion.
        strict: As published, a sentence mark or math wrapper around the final box
            costs the point. Otherwise both are forgiven.

    Returns:
        Whether the form holds.
    """
    if not _OPENED.match(text):
        return False
    text = text.rstrip()
    if not strict:
        end = len(text)
        while end and (text[end - 1] in _TRAILING or text[end - 2 : end] in ("\\]", "\\)")):
            end -= 1 if text[end - 1] in _TRAILING else 2
        text = text[:end]
    boxed = (_BOX_AFTER_THINK if strict else _WRAPPED_BOX_AFTER_THINK).search(text)
    return boxed is not None and text.endswith("}") and boxed.end() < len(text)
