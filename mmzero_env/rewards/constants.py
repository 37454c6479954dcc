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
        proposer_floor: Lowest reward of a proposal, or None for no floor.
        coder_floor: Lowest reward of a code.
        entropy_target: Entropy of the hard answers, in nats, that pays most.
        entropy_width: Standard deviation of that preference, in nats.
        agreement_power: Exponent of the share of equal answers.
        brevity_weight: Largest share of an agreeing answer's pay lost to its length.
        brevity_words: Words before the final box that cost nothing; at twice as many
            the whole of ``brevity_weight`` is lost.
        grading: ``"sane"`` or ``"official"``, see :mod:`mmzero_env.grading`.
        tolerance: Relative tolerance between numbers (sane grading only), or None.
        exact_thresholds: Compare means as fractions rather than as floats.
        strict_format: A mark or wrapper around the final box costs the format point.
        fidelity_cap: Largest fidelity of one code that pays the Coder.
        grounding_silence: Share of false claims that reasoning without a checkable claim
            counts as.
        paraphrase_overlap: Overlap of two captions' figures from which one is taken for
            a paraphrase of the other.
        use_leaked: Whether a picture is used although its writing gives something away.
        blind_limit: Consistency of the blind vote above which a hard question whose
            label wins that vote counts as solved blind, and its pictures are not used.
            1 is never.
        label_consistency: Least share of all voters that must agree on a label.
        strict_questions: Refuse questions that ask nothing: an easy answer that says
            nothing is matched by nothing, and a hard question that repeats the easy one,
            comes without an answer, or gets a label that refuses to answer has no label.
        trust_own_answer: Whether the easy question's key is the Proposer's own answer, as
            published; false: it is what the label source answers.
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
    proposer_floor: float | None = None
    coder_floor: float = -0.5
    entropy_target: float = 0.90
    entropy_width: float = 0.35
    agreement_power: float = 0.7
    brevity_weight: float = 0.10
    brevity_words: int = 6
    grading: GradingMode = "sane"
    tolerance: float | None = None
    exact_thresholds: bool = True
    strict_format: bool = False
    fidelity_cap: float = 1.0
    grounding_silence: float = 0.0
    paraphrase_overlap: float = 0.6
    use_leaked: bool = True
    blind_limit: float = 1.0
    label_consistency: float = 0.0
    strict_questions: bool = False
    trust_own_answer: bool = True

    def __post_init__(self) -> None:
        """Refuses values that no term could work with."""
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "grading" or (value is None and item.default is None):
                continue
            if isinstance(item.default, bool) != isinstance(value, bool):
                kind = "true or false" if isinstance(item.default, bool) else "a number"
                raise UserError(f"{item.name}: expected {kind}, got {value!r}")
            require_finite(item.name, value)
        for name in (
            "solvability_cap",
            "coder_solvability_cap",
            "memory_enough",
            "fidelity_cap",
            "grounding_silence",
            "paraphrase_overlap",
            "blind_limit",
            "label_consistency",
        ):
            _within(name, getattr(self, name), 0.0, 1.0)
        _within("easy_hard_threshold", self.easy_hard_threshold, 0.0, 1.0)
        _within("allowed_type_share", self.allowed_type_share, 0.0, math.nextafter(1, 0))
        _within("cluster_threshold", self.cluster_threshold, math.nextafter(0, 1), 1.0)
        _within("brevity_weight", self.brevity_weight, 0.0, 1.0)
        for name in ("entropy_width", "agreement_power"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}: expected a number above 0, got {getattr(self, name)!r}")
        for name, least in (("memory_steps", 0), ("brevity_words", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UserError(
                    f"{name}: expected {least}, {least + 1}, {least + 2}, ..., got {value!r}"
                )
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
