"""What an episode is played with: agents, prompts that suit them, reward design, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import agents
from mmzero_env.episode import EpisodeConfig, default_sampling
from mmzero_env.errors import UserError, unknown
from mmzero_env.prompts import PromptSet, get_prompts
from mmzero_env.protocol import ROLES, TOPICS, Role, Sampling
from mmzero_env.rewards import RewardDesign, get_design
from mmzero_env.rewards.design_files import SUFFIX, read_settings
from trainers import agent_folders
from trainers import config as configs

HUMAN = "human"
"""Stands for a person where an agent is expected."""

NANO_PRESET = "nano-cpu"
"""The run settings that the bundled model is used with."""

IMAGE_SIZE = 448
"""Side of the pictures in pixels where no agent asks for another one."""


@dataclass(frozen=True)
class Habit:
    """How an agent is used to being asked.

    Attributes:
        prompts: Name of the prompt set that it understands.
        sampling: How each role is sampled.
        image_size: Side of the pictures that it reads, in pixels.
    """

    prompts: str
    sampling: Mapping[Role, Sampling]
    image_size: int


@dataclass(frozen=True)
class PlaySettings:
    """Everything that determines the episodes, checked.

    Attributes:
        agents: Who plays each role, as typed.
        specs: What :func:`agents.make` takes for it; :data:`HUMAN` stays as it is.
        seed: Seed of the first episode.
        topic: Topic of all episodes; the seed chooses one if it is None.
        design: What scores them.
        design_name: The name or file that it was asked for by.
        config: Shape of an episode.
        image_size: Side of the pictures, in pixels.
    """

    agents: Mapping[Role, str]
    specs: Mapping[Role, str]
    seed: int
    topic: str | None
    design: RewardDesign
    design_name: str
    config: EpisodeConfig
    image_size: int

    @property
    def people(self) -> tuple[Role, ...]:
        """Roles that a person plays."""
        return tuple(role for role in ROLES if self.specs[role] == HUMAN)

    @property
    def secret(self) -> bool:
        """Whether a person answers who has not seen the proposal, and must not before."""
        return self.people == ("solver",)

    def topic_of(self, seed: int) -> str:
        """The topic of an episode: the chosen one, or that of its seed."""
        return self.topic or TOPICS[seed % len(TOPICS)]


def settle(
    players: Mapping[Role, str],
    *,
    seed: int = 0,
    topic: str | None = None,
    design: str = "mm_zero",
    codes: int | None = None,
    answers: int | None = None,
    prompts: str | None = None,
    image_size: int | None = None,
) -> PlaySettings:
    """Check what was asked for and fill in the rest.

    A person writes one code and gives one answer, agents two codes and five answers, unless
    ``codes`` and ``answers`` say otherwise. Each agent is asked in the way it is used to: the
    bundled model and the models of a run as they were trained, all others by the prompt set
    ``mm_zero``.

    Args:
        players: Who plays each role: an agent, a folder, or :data:`HUMAN`.
        seed: Seed of the first episode.
        topic: One of :data:`~mmzero_env.protocol.TOPICS`, or None for that of the seed.
        design: Name of a reward design, or a TOML file.
        codes: Codes for a proposal.
        answers: Answers to each question about each picture.
        prompts: Prompt set for all roles.
        image_size: Side of the pictures, in pixels.

    Raises:
        UserError: For an unknown name, listing the valid ones, or a value out of range.
    """
    if topic is not None and topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    if not -(2**63) <= seed < 2**63:
        raise UserError(f"--seed must fit into 64 bits, got {seed}.")
    specs = {role: _spec(players[role], role) for role in ROLES}
    habits = {role: _habit(players[role], specs[role]) for role in ROLES}
    scorer = _design(design)
    wanted = 1 if specs["solver"] == HUMAN else 5
    answers = wanted if answers is None else answers
    wanted = 1 if specs["coder"] == HUMAN else 2
    usual = default_sampling()
    config = EpisodeConfig(
        codes=wanted if codes is None else codes,
        answers=answers,
        prompts=get_prompts(prompts) if prompts is not None else _prompts(habits),
        caption_answers=scorer.caption_answers(answers),
        blind_answers=scorer.blind_answers(answers),
        sampling={
            role: usual[role] if (habit := habits[role]) is None else habit.sampling[role]
            for role in ROLES
        },
    )
    solver = habits["solver"]
    usual_size = IMAGE_SIZE if solver is None else solver.image_size
    size = usual_size if image_size is None else image_size
    return PlaySettings(dict(players), specs, seed, topic, scorer, design, config, size)


def _spec(typed: str, role: Role) -> str:
    if typed == HUMAN:
        return typed
    spec = agent_folders.spec_of(typed, role)
    kind = spec.partition("?")[0].partition(":")[0]
    valid = (*agents.kinds(), HUMAN)
    if kind not in valid:
        raise UserError(f"--{role}: {unknown('agent', kind, valid)}")
    return spec


def _habit(typed: str, spec: str) -> Habit | None:
    """How an agent wants to be asked; None for people and scripts, who understand all."""
    kind = spec.partition("?")[0].partition(":")[0]
    if kind in (HUMAN, "scripted"):
        return None
    run = agent_folders.run_of(typed)
    if kind == "nano" or run is not None:
        config = configs.load(NANO_PRESET, {}) if run is None else configs.read(run)
        sampling = {role: config.sampling(role) for role in ROLES}
        return Habit(config.prompts, sampling, config.image_size)
    return Habit("mm_zero", default_sampling(), IMAGE_SIZE)


def _prompts(habits: Mapping[Role, Habit | None]) -> PromptSet:
    """One prompt set of what each role understands."""
    known = [habit.prompts for habit in habits.values() if habit is not None]
    usual = known[0] if known else "mm_zero"
    names = [usual if (h := habits[role]) is None else h.prompts for role in ROLES]
    if len(set(names)) == 1:
        return get_prompts(names[0])
    proposer, coder, solver = (get_prompts(name) for name in names)
    return PromptSet(
        name="/".join(names),
        proposer_template=proposer.proposer_template,
        coder_template=coder.coder_template,
        solver_template=solver.solver_template,
        caption_template=solver.caption_template,
    )


def _design(name: str) -> RewardDesign:
    """The design; one from a file as its base with changes, so that a record can be replayed."""
    if not name.endswith(SUFFIX):
        return get_design(name)
    get_design(name)
    found = read_settings(Path(name))
    return get_design(found.base, **found.settings)


def described(settings: PlaySettings) -> str:
    """The players and the design in one line."""
    players: Iterable[str] = (
        f"{role.capitalize()}: {'you' if settings.specs[role] == HUMAN else settings.agents[role]}"
        for role in ROLES
    )
    parts: Sequence[str] = (*players, f"reward design: {settings.design_name}")
    return " · ".join(parts)
