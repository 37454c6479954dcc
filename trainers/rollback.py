"""Going back to the best iteration when one has collapsed: a function of the metrics alone.

**Health.** A few shares that each go to 0 in one kind of collapse and that need no label and no
truth (:data:`HEALTH`), averaged over the last quarter of a stage's rows; a stage that was
not trained has none. Iteration 0, the base model, has those of the first quarter of iteration
1's rows: the stage has hardly moved there. The score of an iteration is the geometric
mean, which a single share near 0 pulls down, over what all iterations have in common.

**Collapse.** An iteration has collapsed if one share fell below ``1 - monitor.collapse_drop``
times its value in the best iteration before it. Neither the probe nor the audit is looked at.

**Going back.** The next iteration starts from the weights (and the Proposer's memory) of the
best iteration. Its requests are named after its own number and seeded from their names, so
it plays differently from the one that failed; nothing is deleted, and a run of n iterations
stays one of n. Where every iteration starts is recomputed from ``metrics.jsonl``, so a
resumed run decides alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmzero_env.protocol import Role
from trainers.monitor_config import MonitorConfig
from trainers.monitors import Row

HEALTH: Mapping[Role, tuple[str, ...]] = {
    "proposer": ("parsed", "content_type_diversity", "caption_diversity", "answer_diversity"),
    "coder": ("render_rate",),
    "solver": ("label_agreement", "answer_diversity"),
}
"""The shares of each stage that make up health, all in [0, 1], all better when larger."""

QUARTER = 4
LEAST = 1e-3
"""Shares below count as this, so that a logarithm exists."""

Shares = Mapping[str, float]
"""Health of an iteration by ``"stage quantity"``."""


@dataclass(frozen=True)
class Verdict:
    """What follows from an iteration.

    Attributes:
        action: ``"go_on"``; ``"stop"``: end the run; ``"back"``: start the next iteration
            from ``best``.
        best: The iteration whose weights are the best so far; 0 is the base model.
        reason: Why, in a sentence; empty for ``"go_on"``.
    """

    action: Literal["go_on", "stop", "back"]
    best: int
    reason: str = ""


def health(rows: Sequence[Row], iteration: int) -> Shares:
    """The health of an iteration, from its last rows, or of the base from the first.

    Args:
        rows: Rows of a run.
        iteration: Its number; 0 is the base model.
    """
    found: dict[str, float] = {}
    for stage, names in HEALTH.items():
        own = [r for r in rows if r["stage"] == stage and r["iteration"] == max(iteration, 1)]
        count = -(-len(own) // QUARTER)
        part = own[:count] if iteration == 0 else own[len(own) - count :]
        for name in names:
            values = [row[name] for row in part if row.get(name) is not None]
            if values:
                found[f"{stage} {name}"] = float(np.mean(values))
    return found


def decide(rows: Sequence[Row], config: MonitorConfig, iteration: int) -> Verdict:
    """What to do after an iteration.

    Args:
        rows: Rows of a run; those of later iterations are not looked at.
        config: ``rollback`` and ``collapse_drop``.
        iteration: The iteration that is over, from 1.

    Returns:
        The verdict; always ``"go_on"`` with ``rollback="off"``.
    """
    past = [health(rows, i) for i in range(iteration + 1)]
    best = _best(past[:-1])
    fallen = [
        (past[-1][name] / max(before, LEAST), name, before)
        for name, before in past[best].items()
        if name in past[-1]
    ]
    ratio, name, before = min(fallen, default=(1.0, "", 0.0))
    if config.rollback == "off" or ratio >= 1 - config.collapse_drop:
        return Verdict("go_on", _best(past))
    where = f"iteration {best}" if best else "the base model"
    reason = (
        f"iteration {iteration} has collapsed: {name} fell to {past[-1][name]:.3g} from "
        f"{before:.3g} in {where}"
    )
    return Verdict("stop" if config.rollback == "stop" else "back", best, reason)


def origin(rows: Sequence[Row], config: MonitorConfig, iteration: int) -> int:
    """The iteration whose weights an iteration starts from; 0 is the base model."""
    if iteration == 1:
        return 0
    verdict = decide(rows, config, iteration - 1)
    return verdict.best if verdict.action == "back" else iteration - 1


def _best(past: Sequence[Shares]) -> int:
    """The iteration with the largest score, the earliest of equals."""
    common = set.intersection(*(set(shares) for shares in past))
    if not common:
        return len(past) - 1
    return max(range(len(past)), key=lambda i: (_score(past[i], common), -i))


def _score(shares: Shares, names: set[str]) -> float:
    """Logarithm of the geometric mean of some shares."""
    return float(np.mean([math.log(max(shares[name], LEAST)) for name in sorted(names)]))
