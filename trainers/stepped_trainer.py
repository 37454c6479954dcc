"""A :class:`GroupTrainer` that rests between its steps, so that several can learn in turn.

TRL's trainer is a loop that asks for its next groups. When three roles learn from the same
episodes, all three loops must rest while the episodes are played. Each loop therefore
runs in a greenlet, a call stack of its own in the thread of the caller: errors and
interrupts arrive where they should, and the number of threads, the grad mode and the
device are those of the caller, which none of them would be in a thread.

What a loop changes outside its own objects is taken off while it rests and put back
before it goes on: global generators, ``forward`` methods that TRL and accelerate patched
into the model, and accelerate's gradient state, which all trainers of a process share.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.state import GradientState
from greenlet import getcurrent, greenlet

from mmzero_env.errors import EngineError
from trainers import generators
from trainers.episode_trainer import Trainable
from trainers.groups import Group
from trainers.grpo import GroupTrainer
from trainers.grpo_settings import GRPOSettings, StepMetrics


class SteppedTrainer:
    """Trains one policy for one stage, one step a call.

        with SteppedTrainer(policy, settings, output_dir=folder) as trainer:
            for step in range(settings.steps):
                metrics = trainer.step(groups_of(step))

    Between two calls the policy can be sampled from as if nobody trained it, and other
    trainers can take their steps, also on other adapters of the same model.

    Args:
        policy: As for :class:`GroupTrainer`. Its ``model`` is asked for before every
            step, so a view of a shared model can switch to its own weights.
        settings: Numbers of the stage.
        output_dir: As for :class:`GroupTrainer`.
        seed: As for :class:`GroupTrainer`.
        reference: As for :class:`GroupTrainer`.
    """

    def __init__(
        self,
        policy: Trainable,
        settings: GRPOSettings,
        *,
        output_dir: str | Path,
        seed: int = 0,
        reference: Any = None,
    ) -> None:
        """See the class."""
        self._policy = policy
        self._trainer = GroupTrainer(
            policy,
            settings,
            self._wait,
            self._note,
            output_dir=output_dir,
            seed=seed,
            reference=reference,
        )
        self._loop = greenlet(self._trainer.train)
        self._inside: _Surroundings | None = None
        self._metrics: StepMetrics | None = None

    @property
    def steps_done(self) -> int:
        """Steps of the stage that are behind it."""
        return self._trainer.steps_done

    def __enter__(self) -> SteppedTrainer:
        """Start the loop; it rests before its first step."""
        self._run(self._loop.switch)
        return self

    def __exit__(self, *_: object) -> None:
        """End the loop wherever it is."""
        if not self._loop.dead:
            # Raises GreenletExit where the loop rests, so that it clears up behind itself.
            self._run(self._loop.throw)

    def step(self, groups: Sequence[Group]) -> StepMetrics:
        """Train on the groups of one step.

        Returns:
            Its metrics; ``seconds_rollout`` is the time since the step before.

        Raises:
            UserError: If groups do not fit the settings.
            EngineError: If groups contradict themselves, or all steps are done.
        """
        if self._loop.dead or self._inside is None:
            raise EngineError("a trainer takes steps between its start and its last step only")
        self._metrics = None
        self._run(self._loop.switch, list(groups))
        if self._metrics is None:
            raise EngineError("the trainer came to rest without the metrics of its step")
        return self._metrics

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`GroupTrainer.state_dict`."""
        with self._at_work():
            return self._trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`GroupTrainer.load_state_dict`; before the loop starts."""
        self._trainer.load_state_dict(state)

    def _run(self, enter: Any, *args: Any) -> None:
        """Let the loop run until it rests, ends or fails; its errors come out here."""
        self._loop.parent = getcurrent()
        with self._at_work():
            enter(*args)

    @contextmanager
    def _at_work(self) -> Generator[None]:
        """Everything as the loop left it; after the block as it was before."""
        model = self._policy.model
        outside = _Surroundings.now(model)
        if self._inside is not None:
            self._inside.restore()
        try:
            yield
        finally:
            self._inside = _Surroundings.now(model)
            outside.restore()

    def _wait(self, step: int) -> list[Group]:
        """The loop asks for groups: rest until they come."""
        parent = self._loop.parent
        assert parent is not None  # whoever started it
        return parent.switch()

    def _note(self, metrics: StepMetrics) -> None:
        self._metrics = metrics


@dataclass(frozen=True)
class _Surroundings:
    """What trainers of one process get in each other's way with."""

    generators: Mapping[str, Any]
    gradient_state: dict[str, Any]
    model: Any
    forwards: dict[Any, dict[str, Any]]

    @classmethod
    def now(cls, model: Any) -> _Surroundings:
        return cls(
            generators.state(),
            dict(GradientState().__dict__),
            model,
            {module: found for module in model.modules() if (found := _patches(module))},
        )

    def restore(self) -> None:
        generators.go_on_from(self.generators)
        shared = GradientState().__dict__
        shared.clear()
        shared.update(self.gradient_state)
        for module in self.model.modules():
            for name in _patches(module):
                del module.__dict__[name]
            module.__dict__.update(self.forwards.get(module, {}))


def _patches(module: Any) -> dict[str, Any]:
    """Methods that were put into one object over those of its class."""
    names = ("forward", "_original_forward")
    return {name: module.__dict__[name] for name in names if name in module.__dict__}
