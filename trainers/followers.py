"""What the ranks do that train but do not play.

The main rank runs the loop. Whenever it is about to train it says what, and everybody makes
the same trainer; between trainings the followers wait.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Role
from trainers.groups import Group
from trainers.grpo import GroupTrainer
from trainers.grpo_settings import GRPOSettings, StepMetrics
from trainers.learner import Learner
from trainers.players import LOCAL
from trainers.ranks import Ranks
from trainers.stage_state import StageState


@dataclass(frozen=True)
class Training:
    """A stage's training, as all ranks must know it.

    Attributes:
        role: Whose weights are trained.
        settings: Numbers of the stage.
        seed: Seeds TRL's generators.
        resumed: Where an interrupted stage goes on, or None.
    """

    role: Role
    settings: GRPOSettings
    seed: int
    resumed: StageState | None

    def run(
        self,
        learner: Learner,
        source: Callable[[int], list[Group]],
        on_step: Callable[[StepMetrics, GroupTrainer], None],
        ranks: Ranks,
    ) -> None:
        """Train, on this rank and at the same time on all others.

        Args:
            learner: The role's weights.
            source: Gives the groups of a step; called on the main rank.
            on_step: Called on the main rank after every step, with the trainer.
            ranks: Who trains.
        """
        with tempfile.TemporaryDirectory() as scratch:
            trainer = GroupTrainer(
                learner,
                self.settings,
                source,
                lambda metrics: on_step(metrics, trainer),
                output_dir=scratch,
                seed=self.seed,
                ranks=ranks,
            )
            if self.resumed is not None and self.resumed.steps:
                trainer.load_state_dict(self.resumed.trainer(self.role))
            trainer.train()


def check(policy: str, ranks: Ranks) -> None:
    """Refuse a sampler that these ranks cannot feed.

    Args:
        policy: A run's ``policy``.
        ranks: Who trains.

    Raises:
        UserError: If weights in pieces were to sample, or vLLM to share a process with ranks.
    """
    if policy == LOCAL and ranks.engine:
        raise UserError(
            f"policy=local samples from whole weights, and {ranks.engine} holds them in pieces. "
            "Sample from vLLM servers (--set policy=vllm --set lora_rank=16), or launch with "
            "trainers/accelerate/ddp.yaml"
        )
    if policy == "vllm-engine" and ranks.size > 1:
        raise UserError(
            "policy=vllm-engine sets up process groups of its own in this process, which trains "
            "with other ranks; expected policy=vllm, vllm:BASE@URL or local"
        )


def announce(training: Training, ranks: Ranks) -> None:
    """Tell the followers what is trained now."""
    ranks.share(lambda: training)


@contextmanager
def leading(ranks: Ranks) -> Generator[None]:
    """The main rank's block: at its end the followers are told that it is over, or failed."""
    try:
        yield
    except BaseException as error:
        with suppress(EngineError):  # they may know already, and be gone
            ranks.fail(error)
        raise
    ranks.share(lambda: None)


def follow(learners: Mapping[Role, Learner], ranks: Ranks) -> None:
    """Train whatever the main rank trains, until it is through.

    Raises:
        MainRankStopped: If the main rank failed.
    """
    while True:
        training: Training | None = ranks.share(_elsewhere)
        if training is None:
            return
        training.run(learners[training.role], _elsewhere, _elsewhere, ranks)


def _elsewhere(*args: object) -> NoReturn:
    raise EngineError("this is the main rank's to do")
