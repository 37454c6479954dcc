"""Rollouts: many episodes at once over a few policies.

The collector owns no rules of the game. It asks every episode what it waits for, sends
the requests to the policies and the codes to the renderer, and hands completions and
drawings back by id until all episodes are finished. Nobody waits for the others: a
proposal's codes are requested when it is there, a picture's answers when it is drawn.
What comes out depends on the answers alone, never on the order in which they arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Literal, Protocol, get_args

from agents.policy import Policy
from mmzero_env.errors import EngineError, UserError, unknown
from mmzero_env.protocol import (
    ROLES,
    Completion,
    Drawing,
    EpisodeOutcome,
    RenderJob,
    Request,
    Response,
    Role,
)
from mmzero_env.rendering import JobRenderer
from trainers.dispatcher import Answered, Dispatcher, next_event
from trainers.render_queue import Drawn, RenderQueue
from trainers.rollout_stats import RolloutStats

Mode = Literal["stream", "phases"]

_RANK: Mapping[Role, int] = {role: rank for rank, role in enumerate(ROLES)}
_PHASES = ("proposer", "coder", "render", "solver")


class OpenEpisode(Protocol):
    """What the collector needs of an episode: see :class:`mmzero_env.episode.Episode`."""

    @property
    def id(self) -> str:
        """Episode id."""
        ...

    @property
    def finished(self) -> bool:
        """Whether nothing is open any more."""
        ...

    def open_requests(self) -> tuple[Request, ...]:
        """Requests that still wait for completions."""
        ...

    def pending_renders(self) -> tuple[RenderJob, ...]:
        """Codes that still wait for their drawing."""
        ...

    def submit(self, request_id: str, completions: Sequence[Completion]) -> None:
        """Hand in completions of one request."""
        ...

    def draw(self, job_id: str, drawing: Drawing) -> None:
        """Hand in one drawing."""
        ...

    def outcome(self) -> EpisodeOutcome:
        """The finished episode."""
        ...


@dataclass(frozen=True, eq=False)
class Rollout:
    """One finished episode with every prompt and every sampled token.

    Attributes:
        outcome: The episode as texts and pictures.
        requests: Every request that was answered, by id; sorted by role, then by id.
        responses: Its response, by the same id in the same order.
    """

    outcome: EpisodeOutcome
    requests: Mapping[str, Request]
    responses: Mapping[str, Response]


class RolloutError(EngineError):
    """A policy or the renderer failed for good before all episodes were finished.

    Attributes:
        finished: Episodes that were finished; ``on_finished`` got their rollouts.
        episodes: All episodes.
    """

    def __init__(self, error: EngineError, finished: int, episodes: int) -> None:
        """Say what failed and how far it came."""
        super().__init__(f"{error} ({finished} of {episodes} episodes were finished)")
        self.finished = finished
        self.episodes = episodes


def collect(
    episodes: Sequence[OpenEpisode],
    policies: Mapping[Role, Policy],
    renderer: JobRenderer,
    *,
    mode: Mode = "stream",
    max_open: int | None = None,
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_finished: Callable[[Rollout], None] | None = None,
    on_stats: Callable[[RolloutStats], None] | None = None,
) -> list[Rollout]:
    """Play every episode to its end.

    Requests to a policy that streams (:class:`agents.StreamingPolicy`) go off as soon as
    they open, at most ``max_open`` at a time. Of those that wait for room, the Proposer's
    go first, then the Coder's, then the Solver's: what has the longest way to go must not
    start last. Among equals the earlier episode goes first. (On the simulated engine of
    ``benchmarks.rollout`` this is up to 7 % faster than the reverse order and than finishing
    episode by episode where ``max_open`` leaves slots of the engine free, and the same
    elsewhere. A ``max_open`` of as many requests as the engine has slots did best.)

    Policies that only ``generate`` are asked in waves. A wave begins when nothing is open
    with a streaming policy and nothing waits to be drawn; it answers all requests that
    are open then. So the make-up of its batches depends on the episodes alone.

    Codes are drawn by one background thread, in small portions, oldest first.

    All callbacks run in the calling thread.

    Args:
        episodes: Episodes with distinct ids, none of them started.
        policies: Who plays each role; one object may play several.
        renderer: Draws the codes; used from one background thread only.
        mode: ``"stream"``, or ``"phases"`` to let every phase wait for the one before it
            (all proposals, all codes, all drawings, all answers): only there to be
            compared with.
        max_open: Most requests open with a policy that streams; its own limit when None.
        batch: Most requests a policy that does not stream is asked at once, None for all
            of a wave. A smaller number lets drawing and generation overlap within a wave.
        on_progress: Called with (finished episodes, all episodes) when their number grew.
        on_finished: Called with every finished episode, in the order in which they
            finish. What it got is all that is left of a collection that fails.
        on_stats: Called with the figures of the collection at its end.

    Returns:
        One rollout an episode, in the order of ``episodes``.

    Raises:
        UserError: If ids repeat, an argument is out of range, or a role that is asked has
            no policy.
        RolloutError: If a policy or the renderer failed, or an episode stands still.
            Nothing is filled in; open requests are cancelled.
    """
    if len({episode.id for episode in episodes}) != len(episodes):
        raise UserError("the episodes of one collection need distinct ids")
    if batch is not None and batch < 1:
        raise UserError(f"batch must be at least 1, got {batch}")
    if mode not in get_args(Mode):
        raise unknown("mode", mode, get_args(Mode))
    started, cpu = time.perf_counter(), time.thread_time()
    events: SimpleQueue[Answered | Drawn] = SimpleQueue()
    with (
        RenderQueue(renderer, events.put) as drawings,
        Dispatcher(events.put, max_open=max_open) as desk,
    ):
        table = _Table(episodes, policies, desk, drawings, mode, on_progress, on_finished)
        try:
            table.play(events, batch)
        except EngineError as error:
            raise RolloutError(error, table.finished, len(episodes)) from error
    if on_stats is not None:
        on_stats(
            RolloutStats(
                time.perf_counter() - started,
                desk.stats(),
                drawings.drawings,
                drawings.seconds,
                time.thread_time() - cpu - desk.generating,
            )
        )
    return [table.rollouts[episode.id] for episode in episodes]


@dataclass(eq=False)
class Play:
    """An episode on its way.

    Attributes:
        number: Its place among the episodes.
        episode: The episode.
        requests: Requests that were answered, by id.
        responses: Their responses.
        seen: Ids of all requests and jobs that it has opened.
    """

    number: int
    episode: OpenEpisode
    requests: dict[str, Request] = field(default_factory=dict)
    responses: dict[str, Response] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def take(self, request: Request, response: Response) -> None:
        """Hand in the answer to a request."""
        self.requests[request.id] = request
        self.responses[request.id] = response
        self.episode.submit(request.id, response.completions)

    def rollout(self) -> Rollout:
        """The finished episode."""
        names = sorted(self.requests, key=lambda name: (_RANK[self.requests[name].role], name))
        return Rollout(
            self.episode.outcome(),
            {name: self.requests[name] for name in names},
            {name: self.responses[name] for name in names},
        )


class _Table:
    """All episodes of a collection, and where each of their requests and codes is."""

    def __init__(
        self,
        episodes: Sequence[OpenEpisode],
        policies: Mapping[Role, Policy],
        desk: Dispatcher,
        drawings: RenderQueue,
        mode: Mode,
        on_progress: Callable[[int, int], None] | None,
        on_finished: Callable[[Rollout], None] | None,
    ) -> None:
        self._plays = [Play(number, episode) for number, episode in enumerate(episodes)]
        self._policies = policies
        self._desk = desk
        self._drawings = drawings
        self._phased = mode == "phases"
        self._held: dict[str, list[Callable[[], None]]] = {phase: [] for phase in _PHASES}
        self._on_progress = on_progress
        self._on_finished = on_finished
        self._owner: dict[str, Play] = {}
        self.rollouts: dict[str, Rollout] = {}

    @property
    def finished(self) -> int:
        """Number of finished episodes."""
        return len(self.rollouts)

    def play(self, events: SimpleQueue[Answered | Drawn], batch: int | None) -> None:
        """Go on until every episode is finished."""
        for play in self._plays:
            self._advance(play)
        while self.finished < len(self._plays):
            self._desk.pump()
            if self._desk.open or self._drawings.pending:
                self._take(next_event(events))
            elif self._desk.batched:
                for answers in self._desk.wave(batch):
                    for request, response in answers:
                        self._answer(request, response)
                    # Neither streaming requests nor pictures wait for the rest of the wave.
                    self._take_all(events)
            elif not self._next_phase():
                stuck = next(p.episode.id for p in self._plays if p.episode.id not in self.rollouts)
                raise EngineError(f"episode {stuck!r} is not finished but waits for nothing")

    def _take_all(self, events: SimpleQueue[Answered | Drawn]) -> None:
        """Take what has arrived, without waiting."""
        self._desk.pump()
        while True:
            try:
                self._take(events.get_nowait())
            except Empty:
                return
            self._desk.pump()

    def _take(self, event: Answered | Drawn) -> None:
        if isinstance(event, Answered):
            self._answer(*self._desk.settle(event))
            return
        for job, drawing in self._drawings.settle(event):
            play = self._owner.pop(job.id)
            play.episode.draw(job.id, drawing)
            self._advance(play)

    def _answer(self, request: Request, response: Response) -> None:
        play = self._owner.pop(request.id)
        play.take(request, response)
        self._advance(play)

    def _advance(self, play: Play) -> None:
        """Send off what an episode has come to wait for, or put it with the finished ones."""
        for request in play.episode.open_requests():
            if request.id not in play.seen:
                policy = self._policy(request.role)
                rank = (_RANK[request.role], play.number)
                self._own(play, request.id)
                self._start(request.role, partial(self._desk.add, policy, request, rank))
        for job in play.episode.pending_renders():
            if job.id not in play.seen:
                self._own(play, job.id)
                self._start("render", partial(self._drawings.add, (job,)))
        if play.episode.finished:
            rollout = self.rollouts[play.episode.id] = play.rollout()
            if self._on_finished is not None:
                self._on_finished(rollout)
            if self._on_progress is not None:
                self._on_progress(self.finished, len(self._plays))

    def _own(self, play: Play, name: str) -> None:
        if name in self._owner:
            other = self._owner[name].episode.id
            raise EngineError(f"episodes {other!r} and {play.episode.id!r} both wait for {name!r}")
        play.seen.add(name)
        self._owner[name] = play

    def _policy(self, role: Role) -> Policy:
        if role not in self._policies:
            raise UserError(
                f"no policy plays the {role}; policies were given for: "
                f"{', '.join(sorted(self._policies)) or 'no role'}"
            )
        return self._policies[role]

    def _start(self, phase: str, start: Callable[[], None]) -> None:
        """Start something now, or when its phase comes."""
        if self._phased:
            self._held[phase].append(start)
        else:
            start()

    def _next_phase(self) -> bool:
        """Start all that is held for the earliest phase that holds anything."""
        for phase, held in self._held.items():
            if held:
                self._held[phase] = []
                for start in held:
                    start()
                return True
        return False
