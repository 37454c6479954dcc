"""What the ranks do that train but do not play.

The main rank runs the loop. Whenever it is about to train it says what, and everybody makes
the same trainer; between trainings the followers wait.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Role
from trainers.groups import Group
from trainers.grpo import GroupTrainer
from trainers.grpo_settings import GRPOSettings, StepMetrics
from trainers.learner import Learner
from trainers.players import LOCAL
from trainers.ranks import Ranks
from trainers.run_config import SIMULTANEOUS, RunConfig
from trainers.stage_state import StageState


@dataclass(frozen=True)
class Training:
    """A stage's training, as all ranks must know it.

    Attributes:
        role: Whose weights are trained.
        settings: Numbers of the stage.
        seed: Seeds TRL's generators.
        steps_done: Where an interrupted stage goes on; 0 begins it.
    """

    role: Role
    settings: GRPOSettings
    seed: int
    steps_done: int

    def run(
        self,
        learner: Learner,
        source: Callable[[int], list[Group]],
        on_step: Callable[[StepMetrics, GroupTrainer], None],
        ranks: Ranks,
        resumed: StageState | None = None,
    ) -> None:
        """Train, on this rank and at the same time on all others.

        Args:
            learner: The role's weights.
            source: Gives the groups of a step; called on the main rank.
            on_step: Called on the main rank after every step, with the trainer.
            ranks: Who trains.
            resumed: The stage as it was saved, on the main rank.
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
            if self.steps_done:

                def saved() -> dict[str, Any]:
                    assert resumed is not None  # the main rank has it
                    return resumed.trainer(self.role)

                trainer.load_state_dict(ranks.share(saved))
            trainer.train()


def check(config: RunConfig, ranks: Ranks) -> None:
    """Refuse a run that these ranks cannot train.

    Raises:
        UserError: If weights in pieces were to sample, vLLM to share a process with ranks, or
            trainers to take turns on them.
    """
    policy = config.policy
    if config.mode == SIMULTANEOUS and (ranks.size > 1 or ranks.engine):
        raise UserError(
            f"mode={SIMULTANEOUS} trains in one process, and a launcher started {ranks.size}; "
            "expected mode=phased, or a start without the launcher"
        )
    if policy == LOCAL and ranks.engine:
        raise UserError(
            f"policy=local samples from whole weights, and {ranks.engine} holds them in pieces. "
            "Sample from vLLM servers (--set policy=vllm), or launch with ddp.yaml"
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
