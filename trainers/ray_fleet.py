"""Workers on the machines of a Ray cluster, and work that survives the loss of any of them."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from agents.registry import missing_extra
from mmzero_env.errors import EngineError, UserError
from trainers.ray_worker import DrawingSettings, Failed, Worker

try:
    import ray
    from ray.exceptions import (
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayActorError,
        RayError,
        RayTaskError,
        WorkerCrashedError,
    )
except ModuleNotFoundError as error:
    raise missing_extra(error, "ray") from error

TRIES = 4
"""Times that one piece of work may lose its worker before it is taken for the cause."""

CALLS = 8
"""Calls that a worker is at work on at a time; while they wait for an engine they cost nothing."""

POLL_SECONDS = 1.0
PATIENCE = 120.0

LOST = (RayActorError, NodeDiedError, WorkerCrashedError, ObjectLostError, OutOfMemoryError)
"""What Ray raises when a worker, its machine or a result that lay there is gone."""


@dataclass(eq=False)
class _Hand:
    """A worker: hired, then at work, then perhaps lost."""

    actor: Any
    hired: Any
    where: str = ""
    open: set[Any] = field(default_factory=set)


class Fleet:
    """So many workers, kept up: a lost one is replaced, and what it was at is done again.

    Workers must run the code and draw with the libraries of this process: each reports its
    versions before it gets anything to do. A worker that is lost (killed, out of memory, its
    machine gone) is nobody's result; its work goes to another one. Use it as a context
    manager within :func:`trainers.ray_cluster.connected`: the workers end with the block.

    Attributes:
        settings: How the workers draw.
        workers: Number of workers that are kept up.
        lost: Workers that were lost so far.
    """

    def __init__(
        self,
        settings: DrawingSettings | None = None,
        *,
        workers: int | None = None,
        patience: float = PATIENCE,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Hire workers; they start while something else goes on.

        Args:
            settings: How the workers draw; each takes a CPU a render process.
            workers: Number of workers; as many as the cluster has CPUs for when None.
            patience: Seconds to wait while no worker runs, before it is an error.
            note: Takes sentences for the person who watches.

        Raises:
            UserError: If no machine of the cluster has room for a worker.
        """
        self.settings = settings or DrawingSettings()
        self._cpus = max(1, self.settings.workers)
        self.workers = _room(self._cpus) if workers is None else workers
        if self.workers < 1:
            raise UserError(
                f"no machine of the Ray cluster has {self._cpus} CPUs for a worker with "
                f"render_workers={self.settings.workers}; set render_workers lower, or add machines"
            )
        self.lost = 0
        self._patience = patience
        self._note = note or (lambda text: None)
        self._versions = self.settings.versions()
        self._hiring: list[_Hand] = []
        self._working: list[_Hand] = []
        self._fruitless = 0
        self._reason = ""
        self._lock = threading.Lock()
        self._hire()

    def __enter__(self) -> Fleet:
        """See the class."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    def run(
        self,
        method: str,
        items: Sequence[tuple[Any, ...]],
        take: Callable[[int, Any], None],
        *,
        depth: int = CALLS,
    ) -> None:
        """Have a method of :class:`trainers.ray_worker.Worker` called once for every item.

        Safe to call from several threads; one waits for the other.

        Args:
            method: Name of the method.
            items: Arguments of every call.
            take: Called in this thread with the place of an item and what came of it, once
                for each, in the order in which they are done. What it raises ends the run.
            depth: Most items that lie with a worker at a time.

        Raises:
            UserError: If a call raised one.
            EngineError: If a call raised one, workers differ in their versions, none can be
                had, or an item lost its worker :data:`TRIES` times.
        """
        with self._lock:
            todo = deque(range(len(items)))
            calls: dict[Any, tuple[_Hand, int]] = {}
            losses = [0] * len(items)
            idle = time.monotonic()
            try:
                while todo or calls:
                    self._hire()
                    self._deal(method, items, todo, calls, depth)
                    if self._working:
                        idle = time.monotonic()
                    elif time.monotonic() - idle > self._patience:
                        raise self._nobody()
                    for ref in _ready([*calls, *(hand.hired for hand in self._hiring)]):
                        if ref in calls:
                            self._settle(ref, calls, todo, losses, take)
                        else:
                            self._welcome(ref)
            finally:
                for ref in calls:
                    # What has not begun never will; the rest is done in vain.
                    ray.cancel(ref)
                for hand in self._working:
                    hand.open.clear()

    def close(self) -> None:
        """End the workers. Safe to repeat."""
        for hand in (*self._working, *self._hiring):
            ray.kill(hand.actor)
        self._working, self._hiring = [], []

    def _hire(self) -> None:
        """Have as many workers as are wanted, at work or on their way."""
        while len(self._working) + len(self._hiring) < self.workers:
            actor: Any = (
                ray.remote(Worker)
                .options(
                    num_cpus=self._cpus,
                    max_restarts=0,
                    max_concurrency=CALLS,
                    scheduling_strategy="SPREAD",
                )
                .remote(self.settings)
            )
            self._hiring.append(_Hand(actor, actor.call.remote("report")))

    def _welcome(self, ref: Any) -> None:
        """Take a worker that has started, or note that it did not."""
        hand = next(each for each in self._hiring if each.hired == ref)
        try:
            hand.where, versions = _result(ref, "a Ray worker that has just started")
        except LOST as error:
            self._lose(hand, error)
            return
        if versions != self._versions:
            raise EngineError(
                f"{hand.where} would draw or play otherwise than this machine: it has "
                f"{_difference(versions, self._versions)}. Install the same versions on every "
                "machine (pip install -c constraints.txt) and start Ray there again."
            )
        self._hiring.remove(hand)
        self._working.append(hand)

    def _deal(
        self,
        method: str,
        items: Sequence[tuple[Any, ...]],
        todo: deque[int],
        calls: dict[Any, tuple[_Hand, int]],
        depth: int,
    ) -> None:
        """Give the next items to whoever has the least to do."""
        while todo and self._working:
            hand = min(self._working, key=lambda each: len(each.open))
            if len(hand.open) >= depth:
                return
            ref = hand.actor.call.remote(method, *items[todo[0]])
            hand.open.add(ref)
            calls[ref] = hand, todo.popleft()

    def _settle(
        self,
        ref: Any,
        calls: dict[Any, tuple[_Hand, int]],
        todo: deque[int],
        losses: list[int],
        take: Callable[[int, Any], None],
    ) -> None:
        """Take a result, or put what a lost worker had back in front of all else."""
        hand, index = calls.pop(ref)
        hand.open.discard(ref)
        try:
            result = _result(ref, hand.where)
        except LOST as error:
            losses[index] += 1
            todo.appendleft(index)
            self._lose(hand, error)
            if losses[index] >= TRIES:
                raise EngineError(
                    f"a Ray worker was lost {TRIES} times at the same piece of work; the last "
                    f"time: {self._reason}"
                ) from error
            return
        self._fruitless = 0
        take(index, result)

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """Strike a worker off; each of its calls may come here."""
        for hands in (self._working, self._hiring):
            if hand in hands:
                hands.remove(hand)
                break
        else:
            return
        # It may still run where the network to it is what broke.
        ray.kill(hand.actor)
        self.lost += 1
        self._fruitless += 1
        # Ray names the actor first, with ids that tell nobody anything.
        _, found, cause = str(error).rpartition("The actor is dead because ")
        self._reason = " ".join((cause if found else str(error)).split())[:500]
        if self._fruitless > TRIES * self.workers:
            raise EngineError(
                f"{self._fruitless} Ray workers were lost one after the other and nothing was "
                f"done in between; the last time: {self._reason}"
            ) from error
        self._note(
            f"a Ray worker was lost ({hand.where or 'while it started'}); another one does its work"
        )

    def _nobody(self) -> EngineError:
        alive = sum(node["Alive"] for node in ray.nodes())
        return EngineError(
            f"no Ray worker has run for {self._patience:g} s: {alive} machines of the cluster are "
            f"alive, their free resources are {ray.available_resources()}, a worker needs "
            f"{self._cpus} CPUs. "
            + (f"The last worker was lost so: {self._reason}" if self._reason else "None was lost.")
        )


def _room(cpus: int) -> int:
    """Workers of so many CPUs that fit onto the machines of the cluster."""
    return sum(
        int(node["Resources"].get("CPU", 0) // cpus) for node in ray.nodes() if node["Alive"]
    )


def _ready(refs: Sequence[Any]) -> list[Any]:
    """What has arrived, waiting a moment for the first."""
    return ray.wait(list(refs), timeout=POLL_SECONDS)[0]


def _result(ref: Any, where: str) -> Any:
    """What a call gave; an error of ours or of a person is raised as such."""
    try:
        result = pickle.loads(ray.get(ref))
    except (RayTaskError, *LOST):
        raise
    except RayError as error:
        raise EngineError(f"Ray failed at {where}: {error}") from error
    if isinstance(result, Failed):
        raise result.error(where)
    return result


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {theirs.get(name, 'none')} (here {ours.get(name, 'none')})"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    )
