"""The constants of the reward terms, with the published values as defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mmzero_env.errors import UserError
from mmzero_env.grading import GradingMode, check_grading


@dataclass(frozen=True)
class Constants:
    """Everything a term needs beside the episode; defaults are the published values.

    Attributes:
        solvability_cap: Largest solvability of one code that pays the Proposer.
        coder_solvability_cap: The same for the Coder; 1 is no cap, as published.
        easy_hard_threshold: Mean difficulty below which a hard question is too easy.
        allowed_type_share: Share of one content type up to which nothing happens.
        cluster_threshold: Merge height of near-duplicates, in 1 - BLEU.
        caption_weight: Weight of captions in the diversity term.
        easy_question_weight: Weight of easy questions in it.
        hard_question_weight: Weight of hard questions in it.
        memory_steps: Earlier steps whose captions the repetition term looks at.
        memory_enough: Similarity at which that search stops; 1 takes the maximum.
        coder_floor: Lowest reward of a code.
        grading: ``"sane"`` or ``"official"``, see :mod:`mmzero_env.grading`.
        tolerance: Relative tolerance between numbers (sane grading only), or None.
        exact_thresholds: Compare means as fractions rather than as floats.
        strict_format: A mark or wrapper around the final box costs the format point.
    """

    solvability_cap: float = 0.5
    coder_solvability_cap: float = 1.0
    easy_hard_threshold: float = 0.15
    allowed_type_share: float = 0.5
    cluster_threshold: float = 0.25
    caption_weight: float = 0.45
    easy_question_weight: float = 0.20
    hard_question_weight: float = 0.35
    memory_steps: int = 5
    memory_enough: float = 1.0
    coder_floor: float = -0.5
    grading: GradingMode = "sane"
    tolerance: float | None = None
    exact_thresholds: bool = True
    strict_format: bool = False

    def __post_init__(self) -> None:
        """Refuses values that no term could work with."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("grading", "tolerance"):
                continue
            if isinstance(item.default, bool) != isinstance(value, bool):
                kind = "true or false" if isinstance(item.default, bool) else "a number"
                raise UserError(f"{item.name}: expected {kind}, got {value!r}")
            require_finite(item.name, value)
        for name in ("solvability_cap", "coder_solvability_cap", "memory_enough"):
            _within(name, getattr(self, name), 0.0, 1.0)
        _within("easy_hard_threshold", self.easy_hard_threshold, 0.0, 1.0)
        _within("allowed_type_share", self.allowed_type_share, 0.0, math.nextafter(1, 0))
        _within("cluster_threshold", self.cluster_threshold, math.nextafter(0, 1), 1.0)
        if not isinstance(self.memory_steps, int) or self.memory_steps < 0:
            raise UserError(f"memory_steps: expected 0, 1, 2, ..., got {self.memory_steps!r}")
        check_grading(self.grading, self.tolerance)


def require_finite(name: str, value: object) -> None:
    """Refuses anything but a finite number.

    Raises:
        UserError: Naming the setting and what came.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: expected a finite number, got {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")
