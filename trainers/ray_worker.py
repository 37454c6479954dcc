"""What runs in a Ray actor: a renderer and clients of engines, for codes and for episodes."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import agents
import mmzero_env
from agents.policy import Policy, StreamingPolicy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import CodeForm, Drawing, RenderJob, Response, Role
from mmzero_env.record import drawing_versions
from mmzero_env.rendering import Renderer, RenderLimits
from mmzero_env.rendering.backends import resolve_backend
from trainers.rollout import OpenEpisode, Rollout, RolloutError, collect
from trainers.rollout_stats import RolloutStats

Adapters = Mapping[Role, tuple[str, str]]
"""Served name and path of the adapter that each role plays with."""


@runtime_checkable
class Follower(Protocol):
    """A policy that can play with adapters which another client has loaded."""

    def follow(self, adapters: Adapters) -> None:
        """See :meth:`agents.vllm.VllmPolicy.follow`."""
        ...


@dataclass(frozen=True)
class DrawingSettings:
    """How a worker draws; as for :class:`mmzero_env.rendering.Renderer`, but for the size.

    Attributes:
        workers: Render processes of a worker.
        backend: Name of the drawing backend.
        forms: Forms of code that are drawn.
        limits: Limits of one rendering.
    """

    workers: int = 1
    backend: str = "cairosvg"
    forms: tuple[CodeForm, ...] = ("svg",)
    limits: RenderLimits = field(default_factory=RenderLimits)

    def renderer(self, size: int) -> Renderer:
        """A renderer of pictures with this side in pixels."""
        return Renderer(size, self.workers, self.limits, self.backend, forms=self.forms)

    def versions(self) -> dict[str, str]:
        """Everything on this machine that decides on pixels and on the rules of episodes."""
        found = {
            "backend": resolve_backend(self.backend),
            **drawing_versions(self.backend),
            "code of mmzero_env": _digest(Path(mmzero_env.__file__).parent),
        }
        if "python" in self.forms:
            for name in ("matplotlib", "numpy"):
                found[name] = metadata.version(name)
        return found


@dataclass(frozen=True)
class Failed:
    """Why a call of a worker gave nothing.

    Attributes:
        text: The message.
        users: Whether a person has to mend something, as by a :class:`UserError`.
    """

    text: str
    users: bool

    def error(self, where: str) -> UserError | EngineError:
        """The error to raise for it."""
        return (UserError if self.users else EngineError)(f"{self.text} (on {where})")


@dataclass(frozen=True, eq=False)
class Played:
    """What became of some episodes, and all that they were handed: enough to play them again.

    Attributes:
        finished: Ids of the episodes that were finished, in the order in which they were.
        responses: Their responses, by request id.
        drawings: Drawings, by job id.
        stats: The figures of the collection, its times as ``time.time()``; None if it failed.
        error: Why it failed; empty if it did not.
    """

    finished: tuple[str, ...]
    responses: Mapping[str, Response]
    drawings: Mapping[str, Drawing]
    stats: RolloutStats | None
    error: str


class Worker:
    """Draws codes and plays episodes in a process of its own, many calls at a time.

    Results leave it pickled: what Ray would unpickle shares memory with its object store
    and cannot be written to.
    """

    def __init__(self, settings: DrawingSettings) -> None:
        """Note what is wanted; renderers and clients are made when they are needed."""
        self._settings = settings
        self._renderers: dict[int, Renderer] = {}
        self._policies: dict[str, Policy] = {}
        self._making = threading.Lock()
        self._alone = threading.Lock()

    def call(self, method: str, *arguments: Any) -> bytes:
        """Do something; gives what it returned or a :class:`Failed`, pickled."""
        try:
            result = getattr(self, method)(*arguments)
        except (UserError, EngineError) as error:
            result = Failed(str(error), isinstance(error, UserError))
        return pickle.dumps(result, protocol=5)

    def report(self) -> tuple[str, dict[str, str]]:
        """Where this is, and :meth:`DrawingSettings.versions` there."""
        return f"process {os.getpid()} on {socket.gethostname()}", self._settings.versions()

    def render(self, size: int, jobs: Sequence[RenderJob]) -> list[tuple[str, Drawing]]:
        """Draw codes; every drawing with the id of its job."""
        drawings = self._renderer(size).render(jobs)
        return [(job.id, drawing) for job, drawing in zip(jobs, drawings, strict=True)]

    def play(
        self,
        size: int,
        episodes: Sequence[OpenEpisode],
        specs: Mapping[Role, str],
        adapters: Adapters,
    ) -> Played:
        """Play episodes to their end.

        Args:
            size: Side of the pictures in pixels.
            episodes: None of them started.
            specs: What plays each role; equal specs are one policy.
            adapters: Of the roles that an engine plays with an adapter that somebody loaded.
        """
        policies = self._playing(specs, adapters)
        drawn = _Recorder(self._renderer(size))
        finished: list[Rollout] = []
        stats: list[RolloutStats] = []
        error = ""
        # A policy that answers in batches is written for one caller.
        one_by_one = not all(isinstance(p, StreamingPolicy) for p in policies.values())
        with self._alone if one_by_one else nullcontext():
            try:
                collect(
                    episodes, policies, drawn, on_finished=finished.append, on_stats=stats.append
                )
            except RolloutError as raised:
                error = str(raised.__cause__)
        return Played(
            tuple(rollout.outcome.id for rollout in finished),
            {name: each for rollout in finished for name, each in rollout.responses.items()},
            drawn.drawings,
            stats[0].shifted(time.time() - time.perf_counter()) if stats else None,
            error,
        )

    def _renderer(self, size: int) -> Renderer:
        with self._making:
            if size not in self._renderers:
                self._renderers[size] = self._settings.renderer(size)
            return self._renderers[size]

    def _playing(self, specs: Mapping[Role, str], adapters: Adapters) -> dict[Role, Policy]:
        with self._making:
            for spec in specs.values():
                if spec not in self._policies:
                    self._policies[spec] = agents.make(spec)
            for spec in dict.fromkeys(specs.values()):
                served = {role: adapters[role] for role in adapters if specs.get(role) == spec}
                if served:
                    policy = self._policies[spec]
                    assert isinstance(policy, Follower), "it is of the kind that had adapters"
                    policy.follow(served)
            return {role: self._policies[spec] for role, spec in specs.items()}


class _Recorder:
    """A renderer that remembers its drawings by job id."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.workers = renderer.workers
        self.drawings: dict[str, Drawing] = {}

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        drawings = self._renderer.render(jobs)
        self.drawings.update(zip((job.id for job in jobs), drawings, strict=True))
        return drawings


def _digest(folder: Path) -> str:
    """A digest of all Python files in a folder: two checkouts may share a version number."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
