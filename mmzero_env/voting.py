"""The majority vote over a Solver's answers: silver label and consistency.

Answers are grouped greedily in arrival order: an answer joins the first group whose
founder it is equivalent to. The largest group wins, the earliest one on a tie. With
sane grading equivalence is transitive, so only ties depend on the order.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmzero_env.grading import GradingMode, answer_key, check_grading, equivalent
from mmzero_env.protocol import Vote

# Spellings of "no answer" that get no vote (list of the published Solver service).
NON_ANSWERS = frozenset({"", "none", "n/a", "na", "null", "unknown", "-"})
# The published service also merges answers that agree this far, case and blanks aside.
OFFICIAL_PREFIX = 120


def is_valid(answer: str | None) -> bool:
    """Whether an answer may vote: it came in a box and says something."""
    return answer is not None and answer.strip().lower() not in NON_ANSWERS


def majority(
    answers: Sequence[str | None],
    *,
    mode: GradingMode = "sane",
    tolerance: float | None = None,
) -> Vote:
    """The majority vote.

    Args:
        answers: Extracted answers in arrival order; None for a completion without
            a box.
        mode: How answers are compared, see :func:`~mmzero_env.grading.equivalent`.
        tolerance: Relative tolerance between numbers, sane mode only.

    Returns:
        The vote. ``consistency`` is the winner's share of the valid answers, as in
        the published service (``start_vllm_server.py``), which divides by the
        valid answers and not by all.

    Raises:
        UserError: For an unknown mode or an impossible tolerance.
    """
    spellings = _spellings(answers)
    founders = _founders(spellings, mode, tolerance)
    groups = _sizes(spellings, founders)
    valid = sum(spellings.values())
    if not valid:
        return Vote("", 0.0, 0, len(answers))
    winner = max(groups, key=groups.__getitem__)
    return Vote(winner, groups[winner] / valid, valid, len(answers))


def agreement(
    answers: Sequence[str | None],
    *,
    mode: GradingMode = "sane",
    tolerance: float | None = None,
) -> tuple[float, ...]:
    """How many of the valid answers each answer agrees with, itself included.

    Args:
        answers: As for :func:`majority`.
        mode: As for :func:`majority`.
        tolerance: As for :func:`majority`.

    Returns:
        For each answer the share of its group among the valid answers, in [0, 1];
        0 for an answer that has no vote.

    Raises:
        UserError: As :func:`majority`.
    """
    spellings = _spellings(answers)
    founders = _founders(spellings, mode, tolerance)
    groups = _sizes(spellings, founders)
    valid = sum(spellings.values())
    return tuple(
        groups[founders[answer.strip()]] / valid if answer is not None and is_valid(answer) else 0.0
        for answer in answers
    )


def _spellings(answers: Sequence[str | None]) -> dict[str, int]:
    """How often each spelling of a valid answer occurs, in arrival order."""
    spellings: dict[str, int] = {}
    for answer in answers:
        if answer is not None and is_valid(answer):
            text = answer.strip()
            spellings[text] = spellings.get(text, 0) + 1
    return spellings


def _sizes(spellings: dict[str, int], founders: dict[str, str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text, count in spellings.items():
        founder = founders[text]
        sizes[founder] = sizes.get(founder, 0) + count
    return sizes


def _founders(
    spellings: dict[str, int], mode: GradingMode, tolerance: float | None
) -> dict[str, str]:
    """The founder of each spelling's group."""
    check_grading(mode, tolerance)
    if mode == "sane" and tolerance is None:
        # Equal normal forms are the whole rule.
        if len(spellings) == 1:
            return {text: text for text in spellings}
        first: dict[object, str] = {}
        return {text: first.setdefault(answer_key(text), text) for text in spellings}
    founders: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for text in spellings:
        prefix = " ".join(text.lower().split())[:OFFICIAL_PREFIX]
        for founder in prefixes:
            if (mode == "official" and prefixes[founder] == prefix) or equivalent(
                text, founder, mode=mode, tolerance=tolerance
            ):
                founders[text] = founder
                break
        else:
            founders[text] = text
            prefixes[text] = prefix
    return founders
