"""What the truth audit of a step logs."""

from __future__ import annotations

from collections.abc import Mapping

METRICS: Mapping[str, str] = {
    "silver_accuracy": "Silver labels of hard questions that are true.",
    "silver_accuracy_easy": "Silver labels of easy questions that are true.",
    "own_answer_true": "Proposals whose own easy answer is true.",
    "answers_true": "Sampled answers that are true.",
    "drawn_faithful": "Codes whose picture is the true one.",
    "false_solvable": "Pictures on which the easy question counts as solved (at least half of "
    "the answers are its key) although the key is false.",
    "reward_truth": "Rank correlation (Spearman) of the reward with the truth of what it is "
    "paid for, over all completions of the step.",
    "reward_truth_in_group": "Correlation (Pearson) of reward and truth, both less their "
    "mean in the group: what GRPO learns from.",
}
"""By name, what it is a share of or means; the formulas are in :mod:`trainers.audit`. A metric is
missing in stages that it does not apply to, and None where the truth is not known."""
