"""Where a run stands: which iteration's weights each role has, and how it goes back to others.

All of it follows from ``state/progress.json`` and ``metrics.jsonl``, so that a run that was
killed and resumed has the same weights as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import agents
from mmzero_env.protocol import ROLES, Role
from trainers import checkpoints, rollback
from trainers.learner import Learner
from trainers.run_config import RunConfig
from trainers.run_log import RunLog

PROBE = "probe"
"""The last part of an iteration: the measurement of the truth."""


def current(config: RunConfig, log: RunLog) -> int:
    """The first iteration that is not over, or the last one there is."""
    over = 0
    while f"{over + 1}/{PROBE}" in log.done and over + 1 < config.iterations:
        over += 1
    return over + 1


def iteration_of(config: RunConfig, log: RunLog, role: Role) -> int:
    """The iteration whose weights a role plays with; 0 is the base model."""
    iteration = current(config, log)
    if iteration in log.trained(role):
        return iteration
    return rollback.origin(log.rows(), config.monitor, iteration)


def weights(config: RunConfig, log: RunLog) -> dict[Role, Path]:
    """The checkpoint that each role plays with; a role that is the base model has none."""
    found = {role: iteration_of(config, log, role) for role in ROLES}
    return {role: checkpoints.folder(log.folder, i, role) for role, i in found.items() if i}


def keep_base(config: RunConfig, learners: Mapping[Role, Learner], run: Path) -> None:
    """Keep what a run starts from if it may go back there and cannot get it otherwise.

    A fresh adapter exists nowhere else; a whole model can be loaded again.
    """
    if config.monitor.rollback == "retry" and config.lora_rank:
        for role in ROLES:
            checkpoints.save(learners[role], checkpoints.folder(run, 0, role))


def put_back(
    config: RunConfig, learners: Mapping[Role, Learner], run: Path, iteration: int
) -> None:
    """Put the weights of an earlier iteration into the learners, in place.

    Args:
        config: The run.
        learners: The roles as they are trained.
        run: The run directory.
        iteration: Whose weights; 0 is the base model.

    Raises:
        UserError: If a checkpoint is not there.
    """
    for role, learner in learners.items():
        path = checkpoints.folder(run, iteration, role)
        load_adapter = getattr(learner, "load_adapter", None)
        if load_adapter is not None:
            load_adapter(checkpoints.require(path))
            continue
        spec = f"transformers:{checkpoints.require(path)}" if iteration else config.model
        saved: Any = agents.make(spec)
        learner.model.load_state_dict(saved.model.state_dict())
