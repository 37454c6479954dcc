"""The processes that train together: one plays, all compute gradients.

    accelerate launch --config_file ddp.yaml -m trainers.cli evolve --preset ...

starts N processes, the *ranks*. Rank 0, the main rank, plays episodes and writes the run
directory. The others wait until it hands them groups, and compute their share of every
update. A process that was started without a launcher is the main rank of one: nothing
here costs it anything.

The main rank's work may take hours, and it may fail. So messages go through a gloo group of
their own, without a limit of time, and carry failures as well as results: no rank waits for
one that has given up.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

from mmzero_env.errors import EngineError

Engine = Literal["", "fsdp", "deepspeed"]
"""What holds the weights: nothing but the process itself, FSDP, or DeepSpeed."""

_T = TypeVar("_T")

# Longer than any stage: a rank that dies closes its connections, which ends the waiting at once.
_PATIENCE = timedelta(days=30)


class MainRankStopped(EngineError):
    """The main rank gave up; it says why itself."""


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this one is.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        engine: What holds the weights that are trained. With FSDP or DeepSpeed a model is
            trained as a copy in pieces, and the policy's own model gets the weights back on
            the main rank after every step.
        on_cpu: Whether they were launched to compute without a GPU.
    """

    rank: int = 0
    size: int = 1
    engine: Engine = ""
    on_cpu: bool = False
    _group: Any = None

    @property
    def host(self) -> bool:
        """Whether the policies' models must lie in host memory."""
        return self.on_cpu or bool(self.engine)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that plays and writes."""
        return self.rank == 0

    def share(self, work: Callable[[], _T]) -> _T:
        """Run something on the main rank and give its result to all.

        Args:
            work: Called on the main rank alone. Its result must be picklable if there are
                several ranks; the main rank gets the object itself.

        Raises:
            MainRankStopped: On the other ranks, if ``work`` raised or the main rank is gone.
                The main rank raises what ``work`` raised.
        """
        if self.size == 1:
            return work()
        if not self.is_main:
            return self._receive()
        try:
            result = work()
            message = pickle.dumps((result, None), protocol=pickle.HIGHEST_PROTOCOL)
        except BaseException as error:
            with suppress(EngineError):  # the first reason counts
                self.fail(error)
            raise
        self._send(message)
        return result

    def on_main(self, work: Callable[[], Any]) -> None:
        """Run something on the main rank; the others wait until it is through, or has failed."""

        def done() -> None:
            work()

        self.share(done)

    def spread(self, weights: Iterable[Any]) -> None:
        """Give all ranks the main rank's weights, in place.

        Args:
            weights: Parameters, the same in shape and order on every rank.
        """
        if self.size == 1:
            return
        import torch

        for weight in weights:
            torch.distributed.broadcast(weight.detach(), src=0)

    def leave(self) -> None:
        """Part from the others at the end of the program."""
        import torch

        if self.size > 1:
            torch.distributed.destroy_process_group()

    def fail(self, error: BaseException) -> None:
        """Tell the others, who wait in :meth:`share`, why the main rank gives up.

        Raises:
            EngineError: If one of them is gone.
        """
        if self.size > 1:
            self._send(pickle.dumps((None, f"{type(error).__name__}: {error}")))

    def _send(self, message: bytes) -> None:
        import torch

        try:
            torch.distributed.broadcast_object_list([message], src=0, group=self._group)
        except RuntimeError as error:
            raise EngineError(
                f"another rank is gone ({_first_line(error)}); its own message says why"
            ) from error

    def _receive(self) -> Any:
        import torch

        box: list[Any] = [None]
        try:
            torch.distributed.broadcast_object_list(box, src=0, group=self._group)
        except RuntimeError as error:
            raise MainRankStopped(f"the main rank is gone: {_first_line(error)}") from error
        result, reason = pickle.loads(box[0])
        if reason is not None:
            raise MainRankStopped(f"the main rank stopped: {reason}")
        return result


ALONE = Ranks()
"""One process that does everything."""


def join() -> Ranks:
    """Meet the other ranks, if a launcher started any.

    Must come before a model is loaded: it gives every rank its own GPU.
    """
    # The names are the protocol of torchrun and accelerate between launcher and process.
    size = int(os.environ.get("WORLD_SIZE", "1"))
    engine: Engine = ""
    if _flag("ACCELERATE_USE_FSDP"):
        engine = "fsdp"
    elif _flag("ACCELERATE_USE_DEEPSPEED"):
        engine = "deepspeed"
    if size == 1 and not engine:
        return ALONE
    import torch
    from accelerate import PartialState

    on_cpu = _flag("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu and not engine)
    if state.num_processes == 1:
        return Ranks(engine=engine, on_cpu=on_cpu)
    group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return Ranks(state.process_index, state.num_processes, engine, on_cpu, group)


def _flag(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1", "yes")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
