"""The three stages of a phased iteration: each trains one role, the other two frozen.

What all stages are made of is here as well; :mod:`trainers.joint_stage` trains all roles in one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.episode import Episode, EpisodeConfig, request_seed
from mmzero_env.errors import EngineError
from mmzero_env.protocol import ROLES, EpisodeRewards, Proposal, Role
from mmzero_env.rendering import JobRenderer
from mmzero_env.rewards import RewardDesign
from trainers.audit import share_right
from trainers.executor import Executor, LocalExecutor
from trainers.filters import LabelledQuestion, coder_prompts, solver_prompts
from trainers.followers import Training, announce
from trainers.groups import Group, coder_groups, proposer_groups
from trainers.grpo import GroupTrainer, StepMetrics
from trainers.labels import ask
from trainers.learner import Learner
from trainers.players import Players
from trainers.pools import epochs, propose, render_rates, topics
from trainers.prompt_files import (
    load_proposals,
    load_questions,
    save_proposals,
    save_questions,
)
from trainers.quantities import blind_solvable
from trainers.ranks import ALONE, Ranks
from trainers.rollout import Rollout
from trainers.rollout_stats import Metrics, RolloutStats
from trainers.run_config import RunConfig
from trainers.run_log import RunLog
from trainers.stage_config import StageConfig
from trainers.stage_state import Resumable, StageState, StageStore
from trainers.step_audit import labelled, of_answers, of_episodes
from trainers.step_metrics import answer_metrics, episode_metrics

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A part of an iteration in which weights change, with everything it needs.

    Attributes:
        iteration: Number of the iteration, from 1.
        kind: One of :attr:`RunConfig.stages`: the role that is trained, or
            ``"simultaneous"`` for all of them.
        config: The run.
        learners: The weights of every role; they change in place.
        players: Who plays each role.
        renderer: Draws codes.
        design: Scores episodes.
        memory: Captions that the Proposer's stages have seen.
        log: Takes metrics and episodes.
        store: Takes where the stage stands.
        resumed: Where the stage was when the run was killed; None begins it.
        note: Takes sentences for the person who watches.
        ranks: The processes that train.
        executor: Plays episodes; this process does, with ``renderer``, when None.
    """

    iteration: int
    kind: str
    config: RunConfig
    learners: Mapping[Role, Learner]
    players: Players
    renderer: JobRenderer
    design: RewardDesign
    memory: CaptionMemory
    log: RunLog
    store: StageStore
    resumed: StageState | None
    note: Callable[[str], None]
    ranks: Ranks = ALONE
    executor: Executor | None = None

    @property
    def part(self) -> str:
        """The stage as a part of the run, ``"1/coder"``."""
        return f"{self.iteration}/{self.kind}"

    @property
    def role(self) -> Role:
        """The role that is trained, where it is one alone."""
        for role in ROLES:
            if role == self.kind:
                return role
        raise EngineError(f"the {self.kind} stage trains several roles")

    @property
    def steps_done(self) -> int:
        """Steps that were done before the run was killed."""
        return 0 if self.resumed is None else self.resumed.steps

    @property
    def name(self) -> str:
        """Prefix of all ids of the stage."""
        return f"i{self.iteration}/{self.kind}"

    @property
    def settings(self) -> StageConfig:
        """The trained role's settings."""
        return self.config.stage(self.role)

    def seed(self, name: str) -> int:
        """A seed for something of the stage."""
        return request_seed(self.config.seed, f"{self.name}/{name}")

    def rng(self, name: str) -> random.Random:
        """A generator for something of the stage."""
        return random.Random(self.seed(name))

    def save(self, steps: int, trainers: Mapping[Role, Resumable]) -> None:
        """Write down where the stage stands after so many steps."""
        self.store.save(
            self.part,
            steps,
            files=self.log.sizes(self.iteration, self.kind),
            memory=self.memory.state_dict(),
            trainers=trainers,
        )


def run(stage: Stage) -> None:
    """Train the stage's role.

    Raises:
        EngineError: If a policy, the renderer or the trainer failed.
    """
    prompts = _PROMPTS[stage.role](stage)
    if prompts is None:
        stage.note(
            f"the {stage.role} of iteration {stage.iteration} was not trained: "
            "no prompt of its pool passed the filters"
        )
        return
    extra: Metrics = {}

    def groups(step: int) -> list[Group]:
        reading = stage.players.publish(stage.role) if step else None
        found, metrics = prompts.collect(step)
        extra.clear()
        extra.update(metrics)
        if reading is not None:
            extra["canary_drift"], extra["canary_moved"] = reading.drift, reading.moved
        return found

    steps = _steps(stage, prompts)

    def on_step(metrics: StepMetrics, trainer: GroupTrainer) -> None:
        stage.log.step(stage.iteration, stage.role, metrics, extra)
        done = metrics.step + 1
        # After the last step comes the checkpoint. An engine's optimizer state is in pieces
        # on all ranks: there a stage that was interrupted begins again.
        if done < steps and done % stage.config.save_every == 0 and not stage.ranks.engine:
            stage.save(done, {stage.role: trainer})

    if stage.resumed is None:
        stage.save(0, {})
    training = Training(
        stage.role,
        replace(stage.config.grpo(stage.settings), steps=steps),
        stage.seed("trainer") % 2**31,
        0 if stage.resumed is None else stage.resumed.steps,
    )
    announce(training, stage.ranks)
    training.run(stage.learners[stage.role], groups, on_step, stage.ranks, stage.resumed)


def _steps(stage: Stage, prompts: Prompts) -> int:
    s = stage.settings
    if not s.max_epochs or prompts.pool is None:
        return s.steps
    limit = max(1, s.max_epochs * prompts.pool // s.prompts_per_step)
    if limit < s.steps:
        stage.note(
            f"the stage ends after {limit} steps: its pool of {prompts.pool} has then been seen "
            f"{s.max_epochs} times"
        )
    return min(s.steps, limit)


@dataclass(frozen=True)
class Prompts:
    """Where a stage's groups come from.

    Attributes:
        collect: Gives the groups of a step and what else is worth a metric.
        pool: Number of distinct prompts, or None if they never repeat.
    """

    collect: Callable[[int], tuple[list[Group], Metrics]]
    pool: int | None = None


def _proposer_prompts(stage: Stage) -> Prompts:
    """Whole episodes on the topics in turn; a topic's episodes are a group."""
    s = stage.settings
    shape = stage.config.episode(codes=s.codes, answers=s.answers)

    def collect_step(step: int) -> tuple[list[Group], Metrics]:
        episodes = topic_episodes(stage, step, shape)
        rollouts, rewards, spent = play(stage, episodes)
        remember(stage, rollouts)
        groups = proposer_groups(rollouts, rewards, size=s.group_size)
        metrics = {
            **episode_metrics(rollouts, rewards, groups, stage.design),
            **of_episodes(stage.role, rollouts, rewards, groups, stage.renderer, stage.design),
        }
        metrics["blind_solvable"] = blind(stage, step, labelled(rollouts, rewards))
        return groups, {**metrics, **spent}

    return Prompts(collect_step)


def _coder_prompts(stage: Stage) -> Prompts | None:
    """Proposals of the new Proposer that the current Coder renders sometimes."""
    s = stage.settings
    if stage.resumed is None:
        kept = _coder_pool(stage)
        save_proposals(stage.store.prompts(stage.part), kept)
    else:
        kept = load_proposals(stage.store.prompts(stage.part))
    if not kept:
        return None
    rows = _in_order(stage, kept)
    shape = stage.config.episode(codes=s.group_size, answers=s.answers)

    def collect_step(step: int) -> tuple[list[Group], Metrics]:
        episodes = []
        for k in range(s.prompts_per_step):
            name, proposal = f"{stage.name}/{step}/{k}", next(rows)
            seed = request_seed(stage.config.seed, name)
            episodes.append(Episode(name, proposal.content_type, seed, shape, proposal))
        rollouts, rewards, spent = play(stage, episodes)
        groups = coder_groups(rollouts, rewards)
        metrics = {
            **episode_metrics(rollouts, rewards, groups, stage.design),
            **of_episodes(stage.role, rollouts, rewards, groups, stage.renderer, stage.design),
        }
        metrics["blind_solvable"] = blind(stage, step, labelled(rollouts, rewards))
        return groups, {**metrics, **spent}

    return Prompts(collect_step, len(kept))


def _solver_prompts(stage: Stage) -> Prompts | None:
    """Hard questions about drawn pictures, labelled by the Solver's votes."""
    s = stage.settings
    if stage.resumed is None:
        kept = _solver_pool(stage)
        save_questions(stage.store.prompts(stage.part), kept)
    else:
        kept = load_questions(stage.store.prompts(stage.part))
    if not kept:
        return None
    rows = _in_order(stage, kept)

    def collect_step(step: int) -> tuple[list[Group], Metrics]:
        chosen = [next(rows) for _ in range(s.prompts_per_step)]
        groups, labels, spent = ask(
            chosen,
            stage.players.playing["solver"],
            stage.config,
            f"{stage.name}/{step}",
        )
        metrics = {
            **answer_metrics(chosen, labels, groups, stage.design),
            **of_answers(chosen, labels, groups),
        }
        known = [(row.proposal, label) for row, label in zip(chosen, labels, strict=True) if label]
        metrics["blind_solvable"] = blind(stage, step, known)
        return groups, {**metrics, "pool": float(len(kept)), **spent}

    return Prompts(collect_step, len(kept))


def _coder_pool(stage: Stage) -> list[Proposal]:
    s, players = stage.settings, stage.players.policies
    proposals = propose(players["proposer"], stage.config, stage.name, s.pool).parsed
    rates = render_rates(
        players["coder"], stage.renderer, stage.config, stage.name, proposals, s.codes
    )
    kept = coder_prompts(proposals, rates, stage.config.filters)
    stage.note(
        f"coder pool: {s.pool} proposals, {len(proposals)} parsed, {len(kept)} passed the "
        f"render filter (mean render rate {np.mean(rates) if rates else 0:.2f})"
    )
    return kept


def _solver_pool(stage: Stage) -> list[LabelledQuestion]:
    s = stage.settings
    proposals = propose(stage.players.policies["proposer"], stage.config, stage.name, s.pool).parsed
    shape = stage.config.episode(codes=1, answers=s.answers)
    episodes = []
    for i, proposal in enumerate(proposals):
        name = f"{stage.name}/label/{i}"
        seed = request_seed(stage.config.seed, name)
        episodes.append(Episode(name, proposal.content_type, seed, shape, proposal))
    rollouts, rewards, _ = play(stage, episodes)
    kept = solver_prompts(
        [r.outcome for r in rollouts], rewards, stage.config.filters, stage.design
    )
    silver = share_right((row.proposal, "hard", row.label) for row in kept)
    stage.note(
        f"solver pool: {s.pool} proposals, {len(proposals)} parsed, {len(kept)} labelled "
        "questions passed the filters"
        + ("" if silver is None else f"; {silver:.0%} of their silver labels are true")
    )
    return kept


def _in_order(stage: Stage, rows: Sequence[T]) -> Iterator[T]:
    """The rows in the stage's order, from where a resumed stage stood."""
    endless = epochs(rows, stage.rng("order").shuffle)
    seen = stage.steps_done * stage.settings.prompts_per_step
    return islice(endless, seen, None)


_PROMPTS: Mapping[Role, Callable[[Stage], Prompts | None]] = {
    "proposer": _proposer_prompts,
    "coder": _coder_prompts,
    "solver": _solver_prompts,
}


def play(
    stage: Stage, episodes: Sequence[Episode]
) -> tuple[list[Rollout], list[EpisodeRewards], Metrics]:
    """Play, score and record episodes; also what it cost.

    If the collection fails or is interrupted, the episodes that were finished are scored
    among themselves and recorded before the error goes on.
    """
    finished: list[Rollout] = []
    found: list[RolloutStats] = []
    executor = stage.executor or LocalExecutor(stage.renderer)
    try:
        rollouts = executor.play(
            episodes,
            stage.players.playing,
            on_finished=finished.append,
            on_stats=found.append,
        )
    except (EngineError, KeyboardInterrupt):
        ids = {rollout.outcome.id for rollout in finished}
        if ids:
            _score(stage, [episode for episode in episodes if episode.id in ids])
        raise
    return rollouts, _score(stage, episodes), {**found[0].metrics()}


def topic_episodes(stage: Stage, step: int, shape: EpisodeConfig) -> list[Episode]:
    """A step's whole episodes: on the topics in turn, a group of the Proposer's on each."""
    s = stage.config.proposer
    chosen = topics(s.prompts_per_step, start=step * s.prompts_per_step)
    episodes = []
    for t, topic in enumerate(chosen):
        for k in range(s.group_size):
            name = f"{stage.name}/{step}/{t}/{k}"
            episodes.append(Episode(name, topic, request_seed(stage.config.seed, name), shape))
    return episodes


def remember(stage: Stage, rollouts: Sequence[Rollout]) -> None:
    """Add the captions of a step to the memory that later ones are compared with."""
    proposals = (rollout.outcome.proposal for rollout in rollouts)
    stage.memory.add(p.caption for p in proposals if isinstance(p, Proposal))


def _score(stage: Stage, episodes: Sequence[Episode]) -> list[EpisodeRewards]:
    """Score finished episodes together and record them."""
    memory = () if stage.kind in ("coder", "solver") else stage.memory.steps
    rewards = stage.design.score([episode.outcome() for episode in episodes], memory)
    stage.log.episodes(
        stage.iteration, stage.kind, episodes, rewards, stage.design, stage.renderer, memory
    )
    return rewards


def blind(stage: Stage, step: int, asked: Sequence[tuple[Proposal, str]]) -> float | None:
    """Share of hard questions that the Solver answers without the picture, now and then."""
    if step % stage.config.monitor.blind_every:
        return None
    return blind_solvable(
        stage.players.policies["solver"],
        stage.config,
        f"{stage.name}/{step}",
        asked,
        stage.config.solver.group_size,
    )
