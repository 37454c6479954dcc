"""The three stages of an iteration: each trains one role while the other two are frozen."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.episode import Episode, request_seed
from mmzero_env.errors import EngineError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import EpisodeRewards, Proposal, Request, Role
from mmzero_env.rewards import RewardDesign
from trainers.audit import share_right
from trainers.dispatcher import answer
from trainers.filters import LabelledQuestion, coder_prompts, solver_prompts
from trainers.followers import Training, announce
from trainers.groups import Group, coder_groups, proposer_groups
from trainers.grpo import GroupTrainer, StepMetrics
from trainers.grpo_settings import GRPOSettings
from trainers.learner import Learner
from trainers.players import EnginePlayers, Players
from trainers.pools import epochs, propose, render_rates, topics
from trainers.prompt_files import (
    load_proposals,
    load_questions,
    save_proposals,
    save_questions,
)
from trainers.ranks import ALONE, Ranks
from trainers.render_queue import JobRenderer
from trainers.rollout import Rollout, collect
from trainers.rollout_stats import RolloutStats
from trainers.run_config import RunConfig
from trainers.run_log import RunLog
from trainers.stage_config import StageConfig
from trainers.stage_state import StageState, StageStore

T = TypeVar("T")

Metrics = dict[str, float | None]

IMPORTANCE_CAP = 2.0
"""Truncated importance sampling between engine and trainer; the constant of Yao et al. (2025),
"Your efficient RL framework secretly brings you off-policy RL training"."""


@dataclass(frozen=True)
class Stage:
    """One role's training in one iteration, with everything it needs.

    Attributes:
        iteration: Number of the iteration, from 1.
        role: The role that is trained.
        config: The run.
        learner: The role's weights; they change in place.
        players: Who plays each role.
        renderer: Draws codes.
        design: Scores episodes.
        memory: Captions that the Proposer's stages have seen.
        log: Takes metrics and episodes.
        store: Takes where the stage stands.
        resumed: Where the stage was when the run was killed; None begins it.
        note: Takes sentences for the person who watches.
        ranks: The processes that train.
    """

    iteration: int
    role: Role
    config: RunConfig
    learner: Learner
    players: Players
    renderer: JobRenderer
    design: RewardDesign
    memory: CaptionMemory
    log: RunLog
    store: StageStore
    resumed: StageState | None
    note: Callable[[str], None]
    ranks: Ranks = ALONE

    @property
    def part(self) -> str:
        """The stage as a part of the run, ``"1/coder"``."""
        return f"{self.iteration}/{self.role}"

    @property
    def steps_done(self) -> int:
        """Steps that were done before the run was killed."""
        return 0 if self.resumed is None else self.resumed.steps

    @property
    def name(self) -> str:
        """Prefix of all ids of the stage."""
        return f"i{self.iteration}/{self.role}"

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

    def save(self, steps: int, trainers: Mapping[Role, GroupTrainer]) -> None:
        """Write down where the stage stands after so many steps."""
        self.store.save(
            self.part,
            steps,
            files=self.log.sizes(self.iteration, self.role),
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
        replace(_grpo(stage), steps=steps),
        stage.seed("trainer") % 2**31,
        stage.resumed,
    )
    announce(training, stage.ranks)
    training.run(stage.learner, groups, on_step, stage.ranks)


def _grpo(stage: Stage) -> GRPOSettings:
    settings = grpo_settings(stage.settings)
    if isinstance(stage.players, EnginePlayers):
        # Engine and trainer round differently, so the ratios are to the trainer's own
        # log-probabilities, weighted by the truncated quotient of the two.
        return replace(settings, old_logprobs="recompute", importance_cap=IMPORTANCE_CAP)
    return settings


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


def grpo_settings(settings: StageConfig) -> GRPOSettings:
    """The trainer's part of a stage's settings."""
    return GRPOSettings(
        steps=settings.steps,
        prompts_per_step=settings.prompts_per_step,
        group_size=settings.group_size,
        micro_batch=settings.micro_batch,
        updates_per_step=settings.updates_per_step,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        schedule="constant_with_warmup" if settings.warmup_updates else "constant",
        warmup_updates=settings.warmup_updates,
        beta=settings.beta,
        temperature=settings.temperature,
        max_completion_length=settings.max_tokens,
    )


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
        chosen = topics(s.prompts_per_step, start=step * s.prompts_per_step)
        episodes = []
        for t, topic in enumerate(chosen):
            for k in range(s.group_size):
                name = f"{stage.name}/{step}/{t}/{k}"
                episodes.append(Episode(name, topic, request_seed(stage.config.seed, name), shape))
        rollouts, rewards, spent = _play(stage, episodes)
        stage.memory.add(
            r.outcome.proposal.caption for r in rollouts if isinstance(r.outcome.proposal, Proposal)
        )
        groups = proposer_groups(rollouts, rewards, size=s.group_size)
        return groups, {**_episode_metrics(rollouts, rewards), **spent}

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
        rollouts, rewards, spent = _play(stage, episodes)
        groups = coder_groups(rollouts, rewards)
        return groups, {**_episode_metrics(rollouts, rewards), **spent}

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
    prompts = get_prompts(stage.config.prompts)

    def collect_step(step: int) -> tuple[list[Group], Metrics]:
        chosen = [next(rows) for _ in range(s.prompts_per_step)]
        requests = [
            Request(
                id=f"{stage.name}/{step}/{k}",
                role="solver",
                prompt=prompts.solver(row.question),
                n=s.group_size,
                image=row.image,
                sampling=stage.config.sampling("solver"),
                seed=request_seed(stage.config.seed, f"{stage.name}/{step}/{k}"),
                proposal=row.proposal,
            )
            for k, row in enumerate(chosen)
        ]
        found: list[RolloutStats] = []
        answers = answer(stage.players.policies["solver"], requests, on_stats=found.append)
        groups = []
        for request, row in zip(requests, chosen, strict=True):
            response = answers[request.id]
            texts = [completion.text for completion in response.completions]
            turns = stage.design.solver_rewards(texts, row.label)
            groups.append(Group.of(request, response, turns))
        metrics = {"silver_accuracy": _silver(chosen), "pool": float(len(kept))}
        return groups, {**metrics, **found[0].metrics()}

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
    rollouts, rewards, _ = _play(stage, episodes)
    kept = solver_prompts([r.outcome for r in rollouts], rewards, stage.config.filters)
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


def _silver(rows: Sequence[LabelledQuestion]) -> float | None:
    return share_right((row.proposal, "hard", row.label) for row in rows)


def _play(
    stage: Stage, episodes: Sequence[Episode]
) -> tuple[list[Rollout], list[EpisodeRewards], Metrics]:
    """Play, score and record episodes; also what it cost.

    If the collection fails or is interrupted, the episodes that were finished are scored
    among themselves and recorded before the error goes on.
    """
    finished: list[Rollout] = []
    found: list[RolloutStats] = []
    try:
        rollouts = collect(
            episodes,
            stage.players.policies,
            stage.renderer,
            on_finished=finished.append,
            on_stats=found.append,
        )
    except (EngineError, KeyboardInterrupt):
        ids = {rollout.outcome.id for rollout in finished}
        if ids:
            _score(stage, [episode for episode in episodes if episode.id in ids])
        raise
    return rollouts, _score(stage, episodes), {**found[0].metrics()}


def _score(stage: Stage, episodes: Sequence[Episode]) -> list[EpisodeRewards]:
    """Score finished episodes together and record them."""
    memory = stage.memory.steps if stage.role == "proposer" else ()
    rewards = stage.design.score([episode.outcome() for episode in episodes], memory)
    stage.log.episodes(
        stage.iteration, stage.role, episodes, rewards, stage.design, stage.renderer, memory
    )
    return rewards


def _episode_metrics(rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]) -> Metrics:
    """What a batch of episodes was like, apart from rewards."""
    outcomes = [rollout.outcome for rollout in rollouts]
    parsed = [o.proposal for o in outcomes if isinstance(o.proposal, Proposal)]
    codes = [code for outcome in outcomes for code in outcome.codes]
    judged = [
        scored
        for outcome, reward in zip(outcomes, rewards, strict=True)
        for code, scored in zip(outcome.codes, reward.codes, strict=True)
        if code.drawing.ok
    ]
    hard = [scored.votes["hard"] for scored in judged if "hard" in scored.votes]

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return {
        "parsed": len(parsed) / len(outcomes) if outcomes else None,
        "render_rate": mean([float(code.drawing.ok) for code in codes]),
        "solvability": mean([scored.solvability for scored in judged]),
        "difficulty": mean([scored.difficulty for scored in judged]),
        "consistency": mean([vote.consistency for vote in hard]),
        "distinct_captions": len({p.caption for p in parsed}) / len(parsed) if parsed else None,
        "own_answer_true": share_right((p, "easy", p.easy_answer) for p in parsed),
    }
