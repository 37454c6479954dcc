"""An engine that imitates continuous batching, and a renderer that takes its time.

The clock is real but runs ``speed`` times as fast, so that a rollout of minutes takes
seconds. What the engine does between two events follows from a few published parameters
(:class:`Machine`, :data:`LENGTHS`); texts come from the scripted players, so that real
episodes run. An engine that is woken late catches up at the times at which things should
have happened: the computer that runs the benchmark may be busy, the engine is not.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace

import numpy as np
from lxml import etree

from agents.policy import StreamingPolicy
from agents.scripted import scripted
from mmzero_env.protocol import (
    Completion,
    Drawing,
    Failure,
    RenderJob,
    Request,
    Response,
    Role,
)

MAX_TOKENS = 4096
"""Longest completion (configuration of the published run)."""


@dataclass(frozen=True)
class Lengths:
    """A log-normal law of completion lengths, cut at :data:`MAX_TOKENS`.

    Attributes:
        mean: Mean of the uncut law, in tokens.
        sigma: Standard deviation of the logarithm.
    """

    mean: float
    sigma: float

    def draw(self, rng: random.Random) -> int:
        """A length in tokens, at least 1."""
        centre = math.log(self.mean) - self.sigma**2 / 2
        return min(MAX_TOKENS, max(1, round(rng.lognormvariate(centre, self.sigma))))


# Proposals have a fixed form (six tags, a caption of a hundred to two hundred words), so they
# spread little. SVG code spreads by the number of elements; about one in a hundred runs into
# the limit. Answers are short sums for most questions and long trains of thought for a few;
# completion lengths of reasoning models have tails of this kind.
LENGTHS: dict[Role, Lengths] = {
    "proposer": Lengths(350, 0.35),
    "coder": Lengths(1100, 0.7),
    "solver": Lengths(250, 0.9),
}


@dataclass(frozen=True)
class Machine:
    """How fast the engine is; by default about an 8B model in bf16 on one 80 GB GPU.

    Attributes:
        slots: Sequences that run at a time (vLLM's ``max_num_seqs``, default 256).
        step: Seconds of a decoding step whatever runs: reading 16 GB of weights at some
            3 TB/s, and launching kernels.
        step_each: Further seconds of a step for each running sequence: its attention, its
            sampling, its share of the scheduler. With 256 running a step takes 21 ms.
        prefill: Seconds a prompt token, during which nothing decodes: 16 GFLOP at 40 % of
            the card's peak. Samples of one request share their prompt's prefill.
        image: Tokens of a picture (448 px at 32 px a token).
    """

    slots: int = 256
    step: float = 0.008
    step_each: float = 0.00005
    prefill: float = 0.00004
    image: int = 196


class Script:
    """What the players write and how long it is: a policy that takes no time at all.

    It remembers what it was asked, so that engines which answer by it spend nothing on
    writing once it has played the same episodes itself.
    """

    def __init__(self, seed: int = 0, skill: float = 0.9) -> None:
        """Note what is wanted.

        Args:
            seed: Of the lengths; texts depend on the requests' own seeds.
            skill: Share of plays that are right, see :func:`agents.scripted.scripted`.
        """
        self.name = "script"
        self.seed = seed
        self._player = scripted("noisy", skill=skill)
        self._known: dict[tuple[str, int], Response] = {}

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        return [self.response(request) for request in requests]

    def response(self, request: Request) -> Response:
        """The answer to a request; a completion that reaches the limit is cut off."""
        key = (request.id, request.seed)
        if key not in self._known:
            (written,) = self._player.generate([request])
            completions = []
            for index, each in enumerate(written.completions):
                rng = random.Random(f"{self.seed}/{request.seed}/{index}")
                length = LENGTHS[request.role].draw(rng)
                completions.append(_cut(each, length))
            self._known[key] = replace(written, completions=tuple(completions))
        return self._known[key]


def _cut(completion: Completion, length: int) -> Completion:
    text, reason = completion.text, "stop"
    if length == MAX_TOKENS:
        text, reason = text[: len(text) // 2], "length"
    return Completion(text, (0,) * length, (), reason)


@dataclass(frozen=True)
class Load:
    """What an engine was busy with, in its own seconds.

    Attributes:
        thin: With at least one sequence running but less than half of the slots taken.
        slot_seconds: Running sequences, summed over time.
        tokens: Tokens that it decoded.
    """

    thin: float
    slot_seconds: float
    tokens: int


class SimulatedEngine:
    """A :class:`agents.StreamingPolicy` that behaves like a server with continuous batching.

    Requests are served first come, first served; each of their samples takes a slot until
    its last token. All running sequences gain a token a step.
    """

    def __init__(
        self, script: Script, machine: Machine | None = None, *, speed: float, max_open: int = 256
    ) -> None:
        """Start the engine's thread.

        Args:
            script: What it answers.
            machine: How fast it is.
            speed: Seconds of the engine in a second.
            max_open: See :class:`agents.StreamingPolicy`.
        """
        self.name = "simulated"
        self.max_open = max_open
        self.machine = machine or Machine()
        self.speed = speed
        self._script = script
        self._changed = threading.Condition()
        self._arrived: deque[tuple[float, Request, Future[Response]]] = deque()
        self._waiting: deque[_Sequence] = deque()
        self._running: list[tuple[float, int, _Sequence]] = []
        self._closed = False
        self._start = time.perf_counter()
        self._clock = self._stall = self._decoded = 0.0
        self._thin = self._slot_seconds = 0.0
        self._tokens = self._number = 0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Response]:
        """See :class:`agents.StreamingPolicy`."""
        future: Future[Response] = Future()
        with self._changed:
            self._arrived.append((self._now(), request, future))
            self._changed.notify()
        return future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        futures = [self.submit(request) for request in requests]
        return [future.result() for future in futures]

    def close(self) -> None:
        """See :class:`agents.StreamingPolicy`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def load(self) -> Load:
        """What it did so far."""
        with self._changed:
            return Load(self._thin, self._slot_seconds, self._tokens)

    def _now(self) -> float:
        return (time.perf_counter() - self._start) * self.speed

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (pause := self._pause()) != 0:
                    self._changed.wait(pause)
                if self._closed:
                    return
                finished = self._go_on()
            for future, response in finished:
                try:
                    future.set_result(response)
                except InvalidStateError:
                    pass  # given up

    def _pause(self) -> float | None:
        """Real seconds until something happens, 0 if it should have; None: nothing will."""
        due = min(self._arrived[0][0] if self._arrived else math.inf, self._next_end())
        return None if due == math.inf else max(0.0, (due - self._now()) / self.speed)

    def _next_end(self) -> float:
        """When the next sequence ends if nothing else arrives."""
        if not self._running:
            return math.inf
        steps = self._running[0][0] - self._decoded
        return self._clock + self._stall + steps * self._step()

    def _step(self) -> float:
        return self.machine.step + self.machine.step_each * len(self._running)

    def _go_on(self) -> list[tuple[Future[Response], Response]]:
        """Live through everything that is due by now, in its order."""
        finished: list[tuple[Future[Response], Response]] = []
        now = self._now()
        while True:
            arrival = self._arrived[0][0] if self._arrived else math.inf
            end = self._next_end()
            if min(arrival, end) > now:
                return finished
            if arrival < end:
                self._pass(arrival)
                self._arrive(*self._arrived.popleft()[1:])
            else:
                self._pass(end)
                while self._running and self._running[0][0] <= self._decoded + 1e-6:
                    sequence = heapq.heappop(self._running)[-1]
                    sequence.asked.left -= 1
                    if not sequence.asked.left:
                        finished.append((sequence.asked.future, sequence.asked.response))
            self._admit()

    def _pass(self, until: float) -> None:
        """Let time pass with the sequences that run."""
        seconds = max(0.0, until - self._clock)
        if self._running:
            self._thin += seconds * (2 * len(self._running) < self.machine.slots)
            self._slot_seconds += seconds * len(self._running)
            stalled = min(self._stall, seconds)
            self._stall -= stalled
            self._decoded += (seconds - stalled) / self._step()
        self._clock = max(self._clock, until)

    def _arrive(self, request: Request, future: Future[Response]) -> None:
        response = self._script.response(request)
        asked = _Asked(request, future, response, request.n)
        self._waiting.extend(_Sequence(asked, len(each.token_ids)) for each in response.completions)

    def _admit(self) -> None:
        """Fill free slots, first come first served."""
        while self._waiting and len(self._running) < self.machine.slots:
            sequence = self._waiting.popleft()
            asked = sequence.asked
            if asked.future.cancelled():
                continue
            if not asked.started:
                asked.started = True
                prompt = len(asked.request.prompt) // 4
                prompt += self.machine.image if asked.request.image is not None else 0
                self._stall += prompt * self.machine.prefill
            self._tokens += sequence.length
            self._number += 1
            heapq.heappush(self._running, (self._decoded + sequence.length, self._number, sequence))


class Servers:
    """Several engines behind one :class:`agents.StreamingPolicy`: requests go round robin."""

    def __init__(self, engines: Sequence[StreamingPolicy]) -> None:
        """Take engines that nobody else asks."""
        self.name = f"{len(engines)} engines"
        self.max_open = sum(engine.max_open for engine in engines)
        self._engines = engines
        self._turn = itertools.cycle(engines)

    def submit(self, request: Request) -> Future[Response]:
        """See :class:`agents.StreamingPolicy`."""
        return next(self._turn).submit(request)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        futures = [self.submit(request) for request in requests]
        return [future.result() for future in futures]

    def close(self) -> None:
        """See :class:`agents.StreamingPolicy`."""
        for engine in self._engines:
            engine.close()


@dataclass(eq=False)
class _Asked:
    """A request inside the engine."""

    request: Request
    future: Future[Response]
    response: Response
    left: int
    started: bool = False


@dataclass(frozen=True, eq=False)
class _Sequence:
    """One of its samples."""

    asked: _Asked
    length: int


class PacedRenderer:
    """Takes the time that drawing takes, on the engine's clock, and draws a blank.

    Attributes:
        workers: Codes that it draws at a time.
    """

    def __init__(self, *, speed: float, workers: int = 8, seconds: float = 0.010) -> None:
        """Note what is wanted.

        Args:
            speed: Of the engine's clock.
            workers: Codes that it draws at a time.
            seconds: For each code: a typical picture of 448 px with guard and transport.
        """
        self.workers = workers
        self._seconds = seconds / speed
        self._blank = np.full((8, 8, 3), 255, np.uint8)
        self._sound: dict[str, bool] = {}

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """A blank for every code that is well-formed, a failure for every other."""
        time.sleep(self._seconds * math.ceil(len(jobs) / self.workers))
        failed = Drawing(None, Failure("render", "not_well_formed"))
        return [Drawing(self._blank) if self._is_sound(job.code) else failed for job in jobs]

    def _is_sound(self, code: str) -> bool:
        if code not in self._sound:
            try:
                etree.fromstring(code.encode("utf-8", "replace"))
                self._sound[code] = True
            except etree.XMLSyntaxError:
                self._sound[code] = False
        return self._sound[code]
