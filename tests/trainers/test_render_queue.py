"""Drawing in the background."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue

import pytest

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering import Renderer
from tests.trainers.rollout_players import Painter
from trainers.render_queue import Drawn, RenderQueue


class Watched(Painter):
    """Waits before the first portion and notes the size of each."""

    workers = 2

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.go = threading.Event()
        self.sizes: list[int] = []

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        self.began.set()
        self.go.wait(10)
        self.sizes.append(len(jobs))
        return super().render(jobs)


def jobs(count: int) -> list[RenderJob]:
    return [RenderJob(f"j{i}", "x" * i) for i in range(count)]


def test_pictures_come_back_in_portions_that_suit_the_workers() -> None:
    painter, events = Watched(), SimpleQueue[Drawn]()
    with RenderQueue(painter, events.put) as queue:
        queue.add(jobs(40))
        assert queue.pending == 40
        painter.go.set()
        settled = []
        while queue.pending:
            settled += queue.settle(events.get(timeout=10))
        assert queue.drawings == 40 and queue.seconds > 0
    assert [job.id for job, _ in settled] == painter.drawn == [f"j{i}" for i in range(40)]
    assert all(drawing.image[0, 0, 0] == len(job.code) for job, drawing in settled)
    assert max(painter.sizes) == 16 and sum(painter.sizes) == 40


def test_closing_drops_what_waits_and_ends_the_thread() -> None:
    painter = Watched()
    before = threading.active_count()
    with RenderQueue(painter, lambda drawn: None, portion=1) as queue:
        queue.add(jobs(5))
        assert painter.began.wait(10)
        timer = threading.Timer(0.1, painter.go.set)
        timer.start()
    timer.join()
    assert threading.active_count() == before
    assert painter.drawn == ["j0"]
    queue.close()


def test_a_queue_without_jobs_starts_no_thread() -> None:
    before = threading.active_count()
    with RenderQueue(Painter(), lambda drawn: None) as queue:
        queue.add([])
        assert threading.active_count() == before


def test_an_error_of_the_renderer_is_raised_where_the_portion_is_settled() -> None:
    class Failing(Painter):
        def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
            raise EngineError("workers do not start")

    events = SimpleQueue[Drawn]()
    with RenderQueue(Failing(), events.put) as queue:
        queue.add(jobs(1))
        with pytest.raises(EngineError, match="workers do not start"):
            queue.settle(events.get(timeout=10))


def test_a_real_renderer_draws_from_the_background() -> None:
    svg = '<svg viewBox="0 0 2 2"><rect width="2" height="2" fill="red"/></svg>'
    events = SimpleQueue[Drawn]()
    with Renderer(size=8, workers=1) as renderer, RenderQueue(renderer, events.put) as queue:
        queue.add([RenderJob("good", svg), RenderJob("bad", "<svg>")])
        found = {}
        while queue.pending:
            found |= {job.id: drawing.ok for job, drawing in queue.settle(events.get(timeout=60))}
    assert found == {"good": True, "bad": False}
