"""The Proposer as a small Gymnasium environment: numbers in, numbers out.

    import gymnasium, mmzero_env

    env = gymnasium.make("mmzero/StructuredProposer-v0", reward_design="r_zero")
    observation, info = env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

For algorithms that cannot write text, such as Stable-Baselines3's PPO. An action is a
`MultiDiscrete([5, 2, 2, 4, 3, 7])`: the choices of :class:`mmzero_env.scenes.Choices`. A step
turns them into a proposal by a template, plays a whole :class:`mmzero_env.episode.Episode` with it,
Coder and Solver inside, and pays what the reward design gives the Proposer, scored beside the last
`window` proposals. Nothing ends by itself; `gymnasium.make` truncates after 64
proposals.

| Observation (`Box(-10, 10, (36,))`)                                     | Numbers |
|-------------------------------------------------------------------------|---------|
| the topic that is asked for, one-hot                                    | 8       |
| reward of the proposals in the window, mean by kind of picture, 0 for none | 5    |
| solvability, likewise                                                   | 5       |
| difficulty, likewise                                                    | 5       |
| share of each kind in the window                                        | 5       |
| share of each exploit in the window (:data:`mmzero_env.scenes.EXPLOITS`) | 7      |
| how the players stand, in the window: share of codes that render        | 1       |

| Info            | Meaning                                                                     |
|-----------------|-----------------------------------------------------------------------------|
| `topic`         | what the proposal was asked to be about                                     |
| `choices`       | the action in words                                                         |
| `good`          | whether the proposal is honest and its easy answer true                     |
| `fits`          | whether the kind of picture suits the topic                                 |
| `terms`         | the reward by term                                                          |
| `solvability`, `difficulty` | means over the pictures                                         |

Arguments: ``reward_design`` (a name, a TOML file or a design), ``coder`` and ``solver`` (anything
with the batched ``generate`` of a policy; by default the scripted oracle and a Solver that is
right four times out of five, which both read the caption and never look at a picture), ``codes``,
``answers``, ``window``, ``topics``, ``prompts``, ``render_backend`` (None, the default, draws
nothing: a code that the guard lets through gets a blank picture), ``image_size`` and ``renderer``
(instead of these two: what draws). The attributes ``scene``, ``outcome``, ``rewards`` and
``responses`` show the last episode.

Version history: v0, the first.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from mmzero_env.arguments import checked_count, checked_design, checked_topics, named
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import UserError, unknown
from mmzero_env.infos import summary_text
from mmzero_env.prompts import PromptSet
from mmzero_env.protocol import (
    TOPICS,
    Completion,
    EpisodeOutcome,
    EpisodeRewards,
    Response,
    Role,
)
from mmzero_env.rendering import JobRenderer, Renderer
from mmzero_env.rewards import RewardDesign
from mmzero_env.scenes import COUNTS, EXPLOITS, KINDS, Choices, Scene, compose
from mmzero_env.single_role import Batched
from mmzero_env.undrawn import Undrawn
from mmzero_env.world import TOPIC_KINDS, players

BOUND = 10.0
"""Observations are clipped to this; designs of this package pay less."""


@dataclass(frozen=True)
class _Past:
    """What the window keeps of a proposal."""

    outcome: EpisodeOutcome
    scene: Scene
    reward: float
    solvability: float
    difficulty: float
    rendered: float


class StructuredProposer(gymnasium.Env[NDArray[np.float32], NDArray[np.int64]], EzPickle):
    """See the module; make ``mmzero/StructuredProposer-v0`` instead."""

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    @named
    def __init__(
        self,
        reward_design: str | RewardDesign = "mm_zero",
        coder: Batched | None = None,
        solver: Batched | None = None,
        codes: int = 4,
        answers: int = 5,
        window: int = 32,
        topics: Sequence[str] = TOPICS,
        prompts: str | PromptSet = "nano",
        render_backend: str | None = None,
        image_size: int = 96,
        renderer: JobRenderer | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the environment; see the module for the arguments.

        Raises:
            UserError: If an argument is out of range or names nothing known.
        """
        EzPickle.__init__(
            self,
            reward_design,
            coder,
            solver,
            codes,
            answers,
            window,
            topics,
            prompts,
            render_backend,
            image_size,
            renderer,
            render_mode,
        )
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render mode", str(render_mode), self.metadata["render_modes"])
        checked_count("window", window, 1)
        self.topics = checked_topics(topics)
        self.design = checked_design(reward_design)
        self.config = episode_config(self.design, codes, answers, prompts)
        self.players: Mapping[Role, Batched] = {
            "coder": players.oracle() if coder is None else coder,
            "solver": players.noisy(0.8) if solver is None else solver,
        }
        for role, player in self.players.items():
            if isinstance(player, type) or not isinstance(player, Batched):
                raise UserError(
                    f"{role} must be an object with generate(requests), got {player!r:.200}."
                )
        self._own_renderer = renderer is None
        self._renderer: JobRenderer = (
            renderer
            if renderer is not None
            else Undrawn(image_size)
            if render_backend is None
            else Renderer(image_size, 1, backend=render_backend)
        )
        self.render_mode = render_mode
        size = len(TOPICS) + 4 * len(KINDS) + len(EXPLOITS) + 1
        self.observation_space = Box(-BOUND, BOUND, (size,), np.float32)
        self.action_space = MultiDiscrete(np.array(COUNTS))
        self._past: deque[_Past] = deque(maxlen=window)
        self._topic = self.topics[0]
        self._rng: random.Random | None = None
        self._episode: Episode | None = None
        self.scene: Scene | None = None
        self.outcome: EpisodeOutcome | None = None
        self.rewards: EpisodeRewards | None = None
        self.responses: dict[str, Response] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Ask for the first proposal.

        Args:
            seed: Seeds everything from here on and empties the window; without one the
                window stays, as the proposals of a run go on.
            options: None are known; those of wrappers are left alone.

        Returns:
            The first observation and its info.
        """
        super().reset(seed=seed)
        if seed is not None or self._rng is None:
            self._past.clear()
            self._rng = random.Random(int(self.np_random.integers(2**63)))
        self._next_topic()
        return self._observation(), {"topic": self._topic}

    def step(
        self, action: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Make a proposal and play its episode to the end.

        Args:
            action: Six whole numbers, see :class:`mmzero_env.scenes.Choices`.

        Returns:
            Observation, the Proposer's reward, False twice, and the info.

        Raises:
            UserError: Before a reset, or for another action.
        """
        if self._rng is None:
            raise UserError("the environment has no episode yet; call reset() before step().")
        rng, choices = self._rng, Choices.of(np.asarray(action).tolist())
        scene = compose(choices, rng, [past.scene for past in self._past])
        seed, topic = rng.getrandbits(63), self._topic
        episode = Episode(f"{seed:016x}", topic, seed, self.config)
        episode.submit(f"{episode.id}/proposer", [Completion(scene.text)])
        self.responses = play_out(episode, self.players, self._renderer)
        outcome = episode.outcome()
        rewards = self.design.score_last([*(past.outcome for past in self._past), outcome])
        self._episode, self.scene, self.outcome, self.rewards = episode, scene, outcome, rewards
        self._past.append(_past(scene, outcome, rewards))
        self._next_topic()
        info = {
            "topic": topic,
            "choices": choices.named(),
            "good": scene.good,
            "fits": KINDS[choices.kind] in TOPIC_KINDS.get(topic, ()),
            "terms": dict(rewards.proposer.terms),
            "solvability": self._past[-1].solvability,
            "difficulty": self._past[-1].difficulty,
        }
        return self._observation(), float(rewards.proposer.value), False, False, info

    def render(self) -> str | None:  # type: ignore[override]
        """The last episode as text, in the render mode ``"ansi"``.

        Raises:
            UserError: If no render mode was given.
        """
        if self.render_mode is None:
            raise UserError('render() needs render_mode="ansi" at construction.')
        if self._episode is None:
            return f"no proposal yet; the first topic is: {self._topic}"
        return summary_text(self._episode, None, self.rewards)

    def close(self) -> None:
        """Stop the process that draws, if one was started."""
        if self._own_renderer and isinstance(self._renderer, Renderer):
            self._renderer.close()

    def _next_topic(self) -> None:
        self._topic = self.topics[int(self.np_random.integers(len(self.topics)))]

    def _observation(self) -> NDArray[np.float32]:
        past = self._past
        count = max(len(past), 1)
        kinds = np.zeros(len(KINDS))
        sums = np.zeros((3, len(KINDS)))
        exploits = np.zeros(len(EXPLOITS))
        for each in past:
            kind = each.scene.choices.kind
            kinds[kind] += 1
            sums[:, kind] += each.reward, each.solvability, each.difficulty
            exploits[each.scene.choices.exploit] += 1
        seen = np.concatenate(
            [
                [float(self._topic == topic) for topic in TOPICS],
                (sums / np.maximum(kinds, 1)).ravel(),
                kinds / count,
                exploits / count,
                [sum(each.rendered for each in past) / count],
            ]
        )
        return np.clip(seen, -BOUND, BOUND).astype(np.float32)


def episode_config(
    design: RewardDesign, codes: int, answers: int, prompts: str | PromptSet
) -> EpisodeConfig:
    """The shape of episodes that a design can score."""
    config = EpisodeConfig(codes=codes, answers=answers, prompts=prompts)
    # After the counts are known to be some.
    told, blind = design.caption_answers(answers), design.blind_answers(answers)
    return replace(config, caption_answers=told, blind_answers=blind)


def play_out(
    episode: Episode, by: Mapping[Role, Batched], renderer: JobRenderer
) -> dict[str, Response]:
    """Play an episode to its end with players at hand, a batch of requests at a time.

    Args:
        episode: What is left of it is played.
        by: Who plays each role that is still asked.
        renderer: Draws codes.

    Returns:
        What the players answered, by request id.

    Raises:
        UserError: If a player does not answer what it was asked.
    """
    given: dict[str, Response] = {}
    while not episode.finished:
        asked = episode.open_requests()
        for role in dict.fromkeys(request.role for request in asked):
            requests = [request for request in asked if request.role == role]
            for response in by[role].generate(requests):
                episode.submit(response.request_id, response.completions)
                given[response.request_id] = response
        for request in asked:
            if episode.remaining(request.id):
                raise UserError(
                    f"the {request.role} must answer request {request.id} with {request.n} "
                    f"completions, {episode.remaining(request.id)} are missing."
                )
        jobs = episode.pending_renders()
        if jobs:
            for job, drawing in zip(jobs, renderer.render(jobs), strict=True):
                episode.draw(job.id, drawing)
    return given


def _past(scene: Scene, outcome: EpisodeOutcome, rewards: EpisodeRewards) -> _Past:
    # The pictures and answers are not needed to score later proposals.
    light = replace(outcome, codes=())
    drawn = [c for code, c in zip(outcome.codes, rewards.codes, strict=True) if code.drawing.ok]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    return _Past(
        light,
        scene,
        rewards.proposer.value,
        mean([code.solvability for code in drawn]),
        mean([code.difficulty for code in drawn]),
        len(drawn) / max(len(outcome.codes), 1),
    )
