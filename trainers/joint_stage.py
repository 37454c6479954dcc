"""The one stage of a simultaneous iteration: all roles learn from the same episodes.

    mmzero evolve --preset nano-cpu --set mode=simultaneous

A step plays whole episodes with the current weights of all roles, as many as a step of the
Proposer's stage: ``proposer.group_size`` on each of ``proposer.prompts_per_step`` topics.
Each has ``coder.group_size`` codes and ``solver.group_size`` answers to a question about a
picture, so that the very same episodes hold groups for every role:

* the Proposer learns from all proposals on a topic;
* the Coder from the codes of a proposal, if their render rate is within the filter's bounds;
* the Solver from the answers to a hard question. The label is the vote of the episode, so it
  is voted online, and the filter's bounds apply to this vote and the easy one.

If more groups pass than ``prompts_per_step`` of the role, some are drawn by a seed of the
step. Then every role is updated from its own groups. Roles that are one set of weights are
updated at once, by one trainer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmzero_env.protocol import ROLES, EpisodeRewards, Role
from trainers.filters import coder_prompts, solver_prompts
from trainers.groups import Group, coder_groups, proposer_groups, solver_groups
from trainers.grpo_settings import StepMetrics
from trainers.rollout import Rollout
from trainers.rollout_stats import Metrics
from trainers.stages import (
    Stage,
    blind,
    play,
    remember,
    topic_episodes,
)
from trainers.step_audit import labelled, of_answers, of_episodes
from trainers.step_metrics import answer_metrics, episode_metrics
from trainers.stepped_trainer import SteppedTrainer

T = TypeVar("T")


@dataclass(frozen=True)
class _Team:
    """Roles that are one set of weights: often a single one, all with shared weights."""

    roles: tuple[Role, ...]
    trainer: SteppedTrainer


@dataclass(frozen=True)
class _Harvest:
    """What a step's episodes hold for the roles."""

    groups: dict[Role, list[Group]]
    metrics: dict[Role, Metrics]
    seconds: float


def run(stage: Stage) -> None:
    """Train all roles whose ``steps`` is not 0.

    Raises:
        EngineError: If a policy, the renderer or a trainer failed.
    """
    steps = stage.config.steps(stage.kind)
    if stage.resumed is None:
        stage.save(0, {})
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # All references are copied before any weights are put back.
        teams = [_team(stage, roles, steps, scratch) for roles in _teams(stage)]
        for team in teams:
            if stage.resumed is not None and stage.resumed.steps:
                team.trainer.load_state_dict(stage.resumed.trainer(team.roles[0]))
        for team in teams:
            stack.enter_context(team.trainer)
        for step in range(stage.steps_done, steps):
            harvest = _play(stage, step)
            rows: list[tuple[Role, StepMetrics]] = []
            for team in teams:
                metrics = team.trainer.step([g for r in team.roles for g in harvest.groups[r]])
                rows.extend((role, _own(metrics, team, role, harvest)) for role in team.roles)
            for role, metrics in rows:
                first, last = role == rows[0][0], role == rows[-1][0]
                # Played once: whoever adds up the rows must find the time once.
                timed = replace(metrics, seconds_rollout=harvest.seconds if first else 0.0)
                stage.log.step(stage.iteration, role, timed, harvest.metrics[role], last=last)
            # After the last step come the checkpoints.
            if step + 1 < steps and (step + 1) % stage.config.save_every == 0:
                stage.save(step + 1, {team.roles[0]: team.trainer for team in teams})


def _teams(stage: Stage) -> list[tuple[Role, ...]]:
    """The trained roles by the weights that they are."""
    trained = tuple(role for role in ROLES if stage.config.stage(role).steps)
    return [trained] if stage.config.shared_weights else [(role,) for role in trained]


def _team(stage: Stage, roles: tuple[Role, ...], steps: int, scratch: Path) -> _Team:
    settings = stage.config.grpo(stage.config.joint(roles))
    trainer = SteppedTrainer(
        stage.learners[roles[0]],
        replace(settings, steps=steps),
        output_dir=scratch,
        seed=stage.seed(f"trainer/{roles[0]}") % 2**31,
    )
    return _Team(roles, trainer)


def _play(stage: Stage, step: int) -> _Harvest:
    """Play a step's episodes with everybody's newest weights."""
    started = time.perf_counter()
    config = stage.config
    trained = [role for role in ROLES if config.stage(role).steps]
    metrics: dict[Role, Metrics] = {role: {} for role in trained}
    for role in trained if step else ():
        reading = stage.players.publish(role)
        if reading is not None:
            metrics[role] |= {"canary_drift": reading.drift, "canary_moved": reading.moved}
    shape = config.episode(codes=config.coder.group_size, answers=config.solver.group_size)
    rollouts, rewards, spent = play(stage, topic_episodes(stage, step, shape))
    remember(stage, rollouts)
    groups: dict[Role, list[Group]] = {}
    for role in trained:
        groups[role], own = _PICK[role](stage, step, rollouts, rewards)
        if role != "solver":
            metrics[role] |= episode_metrics(rollouts, rewards, groups[role], stage.design)
            metrics[role] |= of_episodes(
                role, rollouts, rewards, groups[role], stage.renderer, stage.design
            )
        metrics[role] |= own
    metrics[trained[-1]]["blind_solvable"] = blind(stage, step, labelled(rollouts, rewards))
    metrics[trained[0]] |= spent
    return _Harvest(groups, metrics, time.perf_counter() - started)


def _proposer(
    stage: Stage, step: int, rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> tuple[list[Group], Metrics]:
    return proposer_groups(rollouts, rewards, size=stage.config.proposer.group_size), {}


def _coder(
    stage: Stage, step: int, rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> tuple[list[Group], Metrics]:
    codes = [rollout.outcome.codes for rollout in rollouts if rollout.outcome.codes]
    rates = [sum(code.drawing.ok for code in each) / len(each) for each in codes]
    passed = coder_prompts(coder_groups(rollouts, rewards), rates, stage.config.filters)
    return _some(stage, step, "coder", passed), {"pool": float(len(passed))}


def _solver(
    stage: Stage, step: int, rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> tuple[list[Group], Metrics]:
    outcomes = [rollout.outcome for rollout in rollouts]
    passed = solver_prompts(outcomes, rewards, stage.config.filters, stage.design)
    found = solver_groups(rollouts, rewards, questions=("hard",))
    groups = {group.request.id: group for group in found}
    rows = _some(stage, step, "solver", passed)
    chosen = []
    for row in rows:
        episode, _, code = row.id.rpartition("/")
        chosen.append(groups[f"{episode}/solver/{code}/hard"])
    labels = [row.label for row in rows]
    own = answer_metrics(rows, labels, chosen, stage.design) | of_answers(rows, labels, chosen)
    return chosen, {**own, "pool": float(len(passed))}


_PICK = {"proposer": _proposer, "coder": _coder, "solver": _solver}


def _some(stage: Stage, step: int, role: Role, passed: Sequence[T]) -> list[T]:
    """As many as a step of the role takes, drawn by a seed of the step."""
    most = min(len(passed), stage.config.stage(role).prompts_per_step)
    return stage.rng(f"{step}/{role}").sample(passed, most)


def _own(metrics: StepMetrics, team: _Team, role: Role, harvest: _Harvest) -> StepMetrics:
    """A role's part in the metrics of its team; what is of the update as a whole stays."""
    if len(team.roles) == 1:
        return metrics
    groups = harvest.groups[role]
    rewards = [reward for group in groups for reward in group.rewards]
    lengths = [len(done.token_ids) for group in groups for done in group.response.completions]
    terms: dict[str, list[float]] = {}
    for group in groups:
        for each in group.terms:
            for name, value in each.items():
                terms.setdefault(name, []).append(value)
    return replace(
        metrics,
        reward_mean=float(np.mean(rewards)) if rewards else 0.0,
        reward_std=float(np.std(rewards)) if rewards else 0.0,
        terms={name: float(np.mean(values)) for name, values in terms.items()},
        completion_length=float(np.mean(lengths)) if lengths else 0.0,
        seconds_train=metrics.seconds_train if role == team.roles[0] else 0.0,
    )
