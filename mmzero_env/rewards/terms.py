"""The formulas of the rewards: pure functions of counts, votes and texts.

Sources are MM-Zero's published code (repository ``zli12321/MM-Zero``, variant
``MM-zero_final``, files under ``reward_function/``) and paper (arXiv 2603.09206).
Every function returns the bare term; its weight belongs to the design. Terms that
punish are non-negative here and carry a negative weight there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from mmzero_env.diversity import distances, shares
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


def over_representation(types: Sequence[str], allowed: float) -> list[float]:
    """By how much each proposal's content type is over-represented in the batch.

    ``(f - a) / (1 - a)`` where ``f`` is the share of the type and ``a`` the allowed
    share, if ``f > a``; else 0. All 0 if the batch has one type only. Source:
    ``proposer_reward.py``, CONTENT_TYPE_OVER_REP_THRESHOLD.

    Args:
        types: Content type of every well-formed proposal of the batch.
        allowed: Share up to which nothing happens, below 1.

    Returns:
        One value in [0, 1] a proposal.
    """
    counts = Counter(types)
    if len(counts) < 2:
        return [0.0] * len(types)
    excess = {name: (n / len(types) - allowed) / (1 - allowed) for name, n in counts.items()}
    return [max(0.0, excess[name]) for name in types]


def crowding(
    fields: Sequence[tuple[float, Sequence[str]]], cluster_threshold: float
) -> list[float]:
    """How crowded each proposal's clusters of near-duplicates are.

    ``clip(sum_f w_f (share_f - 1/M) M, -1, 1)`` over the text fields, with
    ``share_f`` the share of the proposal's own cluster among ``M`` proposals. 0 for
    one proposal. It saturates early: a cluster of two in every field is a full 1.
    Source: ``proposer_reward.py``, DIV_W_CAPTION, DIV_W_EASY_Q, DIV_W_HARD_Q.

    Args:
        fields: For each field its weight and the texts of all ``M`` proposals.
        cluster_threshold: Merge height of the clustering.

    Returns:
        One value in [0, 1] a proposal.
    """
    size = len(fields[0][1]) if fields else 0
    if size < 2:
        return [0.0] * size
    total = np.zeros(size)
    for weight, texts in fields:
        if weight:
            total += weight * (shares(texts, cluster_threshold) * size - 1)
    return [float(value) for value in np.clip(total, -1, 1)]


def repetition(captions: Sequence[str], remembered: Sequence[str], enough: float) -> list[float]:
    """How similar each caption is to one of earlier steps.

    The largest BLEU of the caption (hypothesis) against a remembered caption
    (reference); the search ends at the first one above ``enough``. Source:
    ``proposer_reward.py``, CROSS_STEP_PENALTY_WEIGHT, where ``enough`` is 0.9.

    Args:
        captions: Captions of the batch.
        remembered: Captions of earlier steps, oldest first.
        enough: 1 never ends the search early and gives the true maximum.

    Returns:
        One value in [0, 1] a caption.
    """
    if not captions or not remembered:
        return [0.0] * len(captions)
    size = len(captions)
    similar = 1 - distances([*captions, *remembered])[:size, size:]
    found: list[float] = []
    for row in similar:
        above = np.flatnonzero(row > enough)
        found.append(float(row[above[0]] if len(above) else row.max()))
    return found


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
