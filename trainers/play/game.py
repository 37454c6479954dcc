"""Plays one episode after another with the same players, and tells what happens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

import agents
from agents.policy import Policy, StreamingPolicy
from mmzero_env import world
from mmzero_env.episode import Episode
from mmzero_env.protocol import QUESTIONS, ROLES, Proposal, Role
from mmzero_env.record import EpisodeRecord, episode_to_record
from mmzero_env.rendering import Renderer
from trainers import rollout
from trainers.play.events import Scored, Tell, ToldEpisode
from trainers.play.settings import HUMAN, PlaySettings


class Game:
    """Players and renderer, loaded once. Use it as a context manager.

    Attributes:
        settings: What is played.
        renderer: Draws the codes of the Coder and the previews of a person.
    """

    def __init__(self, settings: PlaySettings, renderer: Renderer, person: Policy | None) -> None:
        """Load the agents.

        Args:
            settings: What is played.
            renderer: Draws pictures of ``settings.image_size`` pixels; the caller's own.
            person: Asks the person who plays some of the roles, if one does.

        Raises:
            UserError: If an agent cannot be made.
        """
        self.settings = settings
        self.renderer = renderer
        self._stack = ExitStack()
        made: dict[str, Policy] = {} if person is None else {HUMAN: person}
        self._policies: Mapping[Role, Policy]
        with ExitStack() as stack:
            for spec in dict.fromkeys(settings.specs.values()):
                if spec not in made:
                    policy = made[spec] = agents.make(spec)
                    if isinstance(policy, StreamingPolicy):
                        stack.callback(policy.close)
            self._policies = {role: made[settings.specs[role]] for role in ROLES}
            self._stack = stack.pop_all()

    def __enter__(self) -> Game:
        """See the class."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the agents go."""
        self._stack.close()

    def play(self, seed: int, topic: str, tell: Tell) -> EpisodeRecord:
        """Play one episode to its end.

        Args:
            seed: Seeds everything in it; equal seeds, topics and agents give equal episodes.
            topic: What is proposed about.
            tell: Is called with everything that happens, in this thread.

        Returns:
            The episode as it is recorded.

        Raises:
            EngineError: If an agent or the renderer failed.
        """
        episode = Episode(f"play-{seed}", topic, seed, self.settings.config)
        told = ToldEpisode(episode, tell)
        [played] = rollout.collect([told], self._policies, self.renderer)
        outcome, design = played.outcome, self.settings.design
        [rewards] = design.score([outcome])
        truth = {}
        if isinstance(outcome.proposal, Proposal):
            known = ((level, world.truth(outcome.proposal, level)) for level in QUESTIONS)
            truth = {level: answer for level, answer in known if answer is not None}
        tell(Scored(outcome, rewards, truth))
        return episode_to_record(
            outcome,
            rewards,
            seed=seed,
            config=episode.config,
            design=design,
            renderer=self.renderer,
        )
