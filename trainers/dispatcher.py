"""Requests on their way to policies: who is asked when, and whether the answer fits.

A policy that streams has at most so many requests open; the others wait and go off by
rank as soon as there is room. A policy that only generates is asked in waves: everything
that waits for it when a wave begins, sorted by id, so that its batches depend on the
requests alone and never on how fast anything ran.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

from agents.policy import Policy, StreamingPolicy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Request, Response, Role
from trainers.rollout_stats import Occupancy, PolicyStats, RolloutStats

T = TypeVar("T")

POLL_SECONDS = 1.0
"""How long a wait lasts before it is begun again: where a signal is not delivered to the
main thread, Ctrl-C is only seen between two waits."""


@dataclass(eq=False)
class Lane:
    """One policy with its requests."""

    policy: Policy
    stream: StreamingPolicy | None
    limit: int
    waiting: list[tuple[tuple[int, int], str, Request]] = field(default_factory=list)
    open: dict[str, Future[Response]] = field(default_factory=dict)
    roles: dict[Role, None] = field(default_factory=dict)
    opened: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    completions: int = 0
    tokens: int | None = 0

    def count(self, response: Response) -> None:
        """Add a response to the figures."""
        self.completions += len(response.completions)
        for completion in response.completions:
            if self.tokens is not None and completion.token_ids:
                self.tokens += len(completion.token_ids)
            elif completion.text:
                self.tokens = None

    def stats(self) -> PolicyStats:
        """The figures so far."""
        return PolicyStats(
            self.policy.name,
            tuple(self.roles),
            len(self.closed),
            self.completions,
            self.tokens,
            Occupancy.of(self.opened, self.closed),
            (tuple(self.opened), tuple(self.closed)),
        )


@dataclass(frozen=True, eq=False)
class Answered:
    """A request whose future is done, and when that was (``time.perf_counter``)."""

    lane: Lane
    request: Request
    future: Future[Response]
    at: float


class Dispatcher:
    """Sends requests to their policies and takes the answers.

    All methods belong to the thread that made it. Use it as a context manager: when the
    block is left, requests that are still open are cancelled.

    Attributes:
        open: Requests that streaming policies are at work on.
        generating: CPU seconds that policies spent in ``generate`` in this thread.
    """

    def __init__(self, done: Callable[[Answered], None], *, max_open: int | None = None) -> None:
        """Note what is wanted.

        Args:
            done: Called in a policy's thread with every request whose future is done; must
                only pass it on to the thread that settles it.
            max_open: Most requests open with a policy that streams; its own limit when None.

        Raises:
            UserError: If ``max_open`` is below 1.
        """
        if max_open is not None and max_open < 1:
            raise UserError(f"max_open must be at least 1, got {max_open}")
        self._done = done
        self._max_open = max_open
        self._lanes: dict[int, Lane] = {}
        self.open = 0
        self.generating = 0.0

    def __enter__(self) -> Dispatcher:
        """See the class."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what is open."""
        self.cancel()

    def add(self, policy: Policy, request: Request, rank: tuple[int, int] = (0, 0)) -> None:
        """Line a request up.

        Args:
            policy: Who answers it.
            request: Its id differs from those of all others.
            rank: Of two requests that wait for one streaming policy the lower rank goes
                first, and the lower id among equals.

        Raises:
            UserError: If the policy streams and its ``max_open`` is below 1.
        """
        lane = self._lanes.get(id(policy))
        if lane is None:
            lane = self._lanes[id(policy)] = self._lane(policy)
        lane.roles.setdefault(request.role)
        heapq.heappush(lane.waiting, (rank, request.id, request))

    def pump(self) -> None:
        """Send off what there is room for.

        Raises:
            EngineError: If a policy does not take a request.
        """
        for lane in self._lanes.values():
            while lane.stream is not None and lane.waiting and len(lane.open) < lane.limit:
                request = heapq.heappop(lane.waiting)[-1]
                lane.opened.append(time.perf_counter())
                with _named(lane, request):
                    future = lane.open[request.id] = lane.stream.submit(request)
                self.open += 1
                future.add_done_callback(partial(self._close, lane, request))

    def settle(self, answered: Answered) -> tuple[Request, Response]:
        """Take a request that ``done`` was called with.

        Raises:
            EngineError: If the policy failed or its answer does not fit the request.
        """
        lane, request = answered.lane, answered.request
        del lane.open[request.id]
        self.open -= 1
        with _named(lane, request):
            response = answered.future.result()
        lane.closed.append(answered.at)
        _check(lane.policy, [request], [response])
        lane.count(response)
        return request, response

    @property
    def batched(self) -> bool:
        """Whether a request waits for a policy that does not stream."""
        return any(lane.waiting for lane in self._lanes.values() if lane.stream is None)

    def wave(self, batch: int | None = None) -> Iterator[list[tuple[Request, Response]]]:
        """Ask the policies that do not stream for all that waits for them now.

        Args:
            batch: Most requests a policy is asked at once, None for no limit.

        Yields:
            The answers to each batch, sorted by request id; policies take turns in the
            order of their first request's id.

        Raises:
            EngineError: If a policy failed or an answer is missing, doubled, unasked for
                or of another number of completions.
        """
        turns: list[tuple[list[Request], Lane]] = []
        for lane in self._lanes.values():
            if lane.stream is None and lane.waiting:
                turns.append((sorted((each[-1] for each in lane.waiting), key=_id), lane))
                lane.waiting = []
        for requests, lane in sorted(turns, key=lambda turn: turn[0][0].id):
            size = batch or len(requests)
            for start in range(0, len(requests), size):
                yield self._generate(lane, requests[start : start + size])

    def cancel(self) -> None:
        """Give up all requests. Safe to repeat."""
        for lane in self._lanes.values():
            lane.waiting.clear()
            for future in lane.open.values():
                future.cancel()
            lane.open.clear()
        self.open = 0

    def stats(self) -> tuple[PolicyStats, ...]:
        """The figures of every policy, in the order in which they were first asked."""
        return tuple(lane.stats() for lane in self._lanes.values())

    def _lane(self, policy: Policy) -> Lane:
        if not isinstance(policy, StreamingPolicy):
            return Lane(policy, None, 0)
        limit = self._max_open or policy.max_open
        if limit < 1:
            raise UserError(f"policy {policy.name!r} has max_open {limit}; it must be at least 1")
        return Lane(policy, policy, limit)

    def _close(self, lane: Lane, request: Request, future: Future[Response]) -> None:
        self._done(Answered(lane, request, future, time.perf_counter()))

    def _generate(self, lane: Lane, requests: list[Request]) -> list[tuple[Request, Response]]:
        opened, before = time.perf_counter(), time.thread_time()
        responses = lane.policy.generate(requests)
        self.generating += time.thread_time() - before
        answers = _check(lane.policy, requests, responses)
        lane.opened += [opened] * len(requests)
        lane.closed += [time.perf_counter()] * len(requests)
        for response in answers.values():
            lane.count(response)
        return [(request, answers[request.id]) for request in requests]


@contextmanager
def _named(lane: Lane, request: Request) -> Generator[None]:
    """Say in an error which policy failed at which request."""
    where = f"policy {lane.policy.name!r} failed at request {request.id!r}"
    try:
        yield
    except CancelledError as error:
        raise EngineError(f"{where}: the request was cancelled") from error
    except EngineError as error:
        raise EngineError(f"{where}: {error}") from error
    except Exception as error:
        error.add_note(where)
        raise


def answer(
    policy: Policy,
    requests: Sequence[Request],
    *,
    max_open: int | None = None,
    on_answer: Callable[[Request, Response], None] | None = None,
    on_stats: Callable[[RolloutStats], None] | None = None,
) -> dict[str, Response]:
    """Ask one policy and check what came back.

    Args:
        policy: Who answers; one that does not stream is asked all at once.
        requests: What to answer, in any order; they are sorted by id first, so that
            what a policy sees does not depend on the caller's bookkeeping.
        max_open: Most requests open with a policy that streams; its own limit when None.
        on_answer: Called with every answer as soon as it is there, in this thread.
        on_stats: Called with the figures at the end.

    Returns:
        The response to every request, by request id, in the order of the ids.

    Raises:
        UserError: If ids repeat.
        EngineError: If the policy failed or a response is missing, doubled or unasked
            for, or has the wrong number of completions. A lost answer is never filled
            in, and what is still open is cancelled.
    """
    ordered = sorted(requests, key=_id)
    if len({request.id for request in ordered}) != len(ordered):
        raise UserError("requests that are asked together need distinct ids")
    started, cpu = time.perf_counter(), time.thread_time()
    answers: dict[str, Response] = {}
    events: SimpleQueue[Answered] = SimpleQueue()

    def take(request: Request, response: Response) -> None:
        answers[request.id] = response
        if on_answer is not None:
            on_answer(request, response)

    with Dispatcher(events.put, max_open=max_open) as desk:
        for request in ordered:
            desk.add(policy, request)
        desk.pump()
        while desk.open:
            take(*desk.settle(next_event(events)))
            desk.pump()
        for pairs in desk.wave():
            for pair in pairs:
                take(*pair)
        if on_stats is not None:
            seconds, spent = time.perf_counter() - started, time.thread_time() - cpu
            on_stats(RolloutStats(seconds, desk.stats(), 0, 0.0, spent - desk.generating))
    return {request.id: answers[request.id] for request in ordered}


def next_event(events: SimpleQueue[T]) -> T:
    """The next event, waiting for it as long as it takes; Ctrl-C gets through."""
    while True:
        try:
            return events.get(timeout=POLL_SECONDS)
        except Empty:
            continue


def _check(
    policy: Policy, requests: Sequence[Request], responses: Sequence[Response]
) -> dict[str, Response]:
    """The responses by request id, one to every request and with as many completions."""
    answers: dict[str, Response] = {}
    for response in responses:
        if not isinstance(response, Response):
            raise EngineError(f"policy {policy.name!r} answered with {response!r:.100}")
        if response.request_id in answers:
            raise EngineError(
                f"policy {policy.name!r} answered request {response.request_id!r} twice"
            )
        answers[response.request_id] = response
    expected = {request.id for request in requests}
    if unasked := sorted(answers.keys() - expected):
        raise EngineError(
            f"policy {policy.name!r} answered {unasked[0]!r}, which was not asked"
            + (f" (it was asked {requests[0].id!r})" if len(requests) == 1 else "")
        )
    if missing := sorted(expected - answers.keys()):
        raise EngineError(
            f"policy {policy.name!r} lost {len(missing)} of {len(requests)} requests, "
            f"the first is {missing[0]!r}"
        )
    for request in requests:
        came = len(answers[request.id].completions)
        if came != request.n:
            raise EngineError(
                f"policy {policy.name!r} gave {came} completions to request {request.id!r}, "
                f"expected {request.n}"
            )
    return answers


def _id(request: Request) -> str:
    return request.id
