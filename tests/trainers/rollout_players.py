"""Players and painters whose output depends on the request alone, for tests of rollouts."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from agents.policy import Policy
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.protocol import (
    Completion,
    Drawing,
    Failure,
    RenderJob,
    Request,
    Response,
    Role,
)

SHAPE = EpisodeConfig(codes=3, answers=2)
PROPOSAL = (
    "<content_type>table</content_type><caption>a table of {0}</caption>"
    "<easy_question>what?</easy_question><easy_answer>{0}</easy_answer>"
    "<hard_question>why?</hard_question><hard_answer>{0}</hard_answer>"
)


class Player:
    """Answers from the request alone; every third code has no SVG."""

    def __init__(self, name: str = "player") -> None:
        self.name = name
        self.asked: list[list[str]] = []

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.asked.append([request.id for request in requests])
        # Out of order on purpose: answers count by id.
        return [self.respond(request) for request in reversed(requests)]

    def respond(self, request: Request) -> Response:
        done = tuple(
            Completion(self.text(request, i), (i, request.seed % 97), (-1.0, -2.0))
            for i in range(request.n)
        )
        return Response(request.id, done, tuple(request.prompt.encode()))

    def text(self, request: Request, i: int) -> str:
        if request.role == "proposer":
            return PROPOSAL.format(request.seed % 10)
        if request.role == "coder":
            return "no code" if i == 2 else f"<svg>{request.id} {i}</svg>"
        if request.image is None:
            return f"\\boxed{{{request.seed % 3}}}"
        return f"\\boxed{{{request.image[0, 0, 0]}}}"


class Painter:
    """Draws one grey that depends on the code; refuses codes with 'coder 1'."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.drawn: list[str] = []

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        self.threads.add(threading.current_thread().name)
        self.drawn.extend(job.id for job in jobs)
        return [self.draw(job) for job in jobs]

    def draw(self, job: RenderJob) -> Drawing:
        if "coder 1" in job.code:
            return Drawing(None, Failure("render", "refused"))
        return Drawing(np.full((4, 4, 3), len(job.code), np.uint8))


def episodes(count: int = 3, config: EpisodeConfig = SHAPE) -> list[Episode]:
    return [Episode(f"e{i}", "map", seed=i, config=config) for i in range(count)]


def roles(policy: Policy) -> dict[Role, Policy]:
    """One policy in every role."""
    return {"proposer": policy, "coder": policy, "solver": policy}


class Streamer(Player):
    """Answers open requests one by one from its own thread, in random order.

    Attributes:
        hold: Request id to the id of the request that must be answered before it; None
            holds it for ever.
        fail: Request id to what its future raises.
        sent: Ids in the order in which they were submitted.
        answered: Ids in the order in which they were answered.
        cancelled: Ids of requests that were given up.
        most: Largest number of requests that were open at a time.
    """

    def __init__(self, seed: int = 0, *, max_open: int = 16, delay: float = 0.0) -> None:
        super().__init__("streamer")
        self.max_open = max_open
        self.hold: dict[str, str | None] = {}
        self.fail: dict[str, Exception] = {}
        self.sent: list[str] = []
        self.answered: list[str] = []
        self.futures: dict[str, Future[Response]] = {}
        self.most = self._count = 0
        self._rng = random.Random(seed)
        self._delay = delay
        self._open: list[Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        raise AssertionError("a policy that streams is never asked in batches")

    def submit(self, request: Request) -> Future[Response]:
        future: Future[Response] = Future()
        with self._changed:
            self.sent.append(request.id)
            self.futures[request.id] = future
            self._open.append(request)
            self._count += 1
            self.most = max(self.most, self._count)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="streamer")
            self._thread.start()
        return future

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @property
    def cancelled(self) -> list[str]:
        return sorted(name for name, future in self.futures.items() if future.cancelled())

    def left_open(self) -> list[str]:
        """Close, then list what is neither answered nor given up."""
        self.close()
        return sorted(name for name, future in self.futures.items() if not future.done())

    def __enter__(self) -> Streamer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self) -> list[int]:
        return [
            index
            for index, request in enumerate(self._open)
            if request.id not in self.hold or self.hold[request.id] in self.answered
        ]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (ready := self._ready()) and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                request = self._open.pop(self._rng.choice(ready))
                pause = self._rng.random() * self._delay
            if pause:
                threading.Event().wait(pause)
            with self._changed:
                self.answered.append(request.id)
                self._count -= 1
            future = self.futures[request.id]
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if request.id in self.fail:
                    raise self.fail[request.id]
                future.set_result(self.respond(request))
            except Exception as error:
                future.set_exception(error)


class SlowPainter(Painter):
    """Takes a random time for every portion."""

    def __init__(self, seed: int, delay: float) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self._delay = delay

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        threading.Event().wait(self._rng.random() * self._delay)
        return super().render(jobs)
