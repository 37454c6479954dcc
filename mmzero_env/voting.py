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
    check_grading(mode, tolerance)
    sizes: dict[str, int] = {}
    for answer in answers:
        if answer is not None and is_valid(answer):
            text = answer.strip()
            sizes[text] = sizes.get(text, 0) + 1
    if mode == "sane" and tolerance is None:
        groups = _by_key(sizes)
    else:
        groups = _by_founder(sizes, mode, tolerance)
    valid = sum(sizes.values())
    if not valid:
        return Vote("", 0.0, 0, len(answers))
    winner = max(groups, key=groups.__getitem__)
    return Vote(winner, groups[winner] / valid, valid, len(answers))


def _by_key(sizes: dict[str, int]) -> dict[str, int]:
    """Group sizes by founder when equal normal forms are the whole rule."""
    if len(sizes) == 1:
        return sizes
    founders: dict[object, str] = {}
    groups: dict[str, int] = {}
    for text, count in sizes.items():
        founder = founders.setdefault(answer_key(text), text)
        groups[founder] = groups.get(founder, 0) + count
    return groups


def _by_founder(
    sizes: dict[str, int], mode: GradingMode, tolerance: float | None
) -> dict[str, int]:
    """Group sizes by founder, comparing each new spelling with every founder."""
    groups: dict[str, int] = {}
    prefixes: dict[str, str] = {}
    for text, count in sizes.items():
        prefix = " ".join(text.lower().split())[:OFFICIAL_PREFIX]
        for founder in groups:
            if (mode == "official" and prefixes[founder] == prefix) or equivalent(
                text, founder, mode=mode, tolerance=tolerance
            ):
                groups[founder] += count
                break
        else:
            groups[text] = count
            prefixes[text] = prefix
    return groups
