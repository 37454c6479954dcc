"""Drawing on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering import RenderLimits
from trainers.ray_fleet import Fleet
from trainers.render_queue import PORTION

AHEAD = 2
"""Portions that lie with a worker: while it draws one, the next is already there."""


class RayRenderer:
    """Draws codes with the workers of a fleet, as :class:`mmzero_env.rendering.Renderer` does.

    Which worker draws a code, and how many there are, changes nothing about its drawing. A
    worker that is lost makes no drawing fail: its codes are drawn elsewhere.

    Attributes:
        size: Side of the square pictures in pixels.
        workers: Render processes of all workers together.
        limits: Limits of one rendering.
        backend: Name of the drawing backend.
    """

    def __init__(self, fleet: Fleet, size: int = 448) -> None:
        """Note what is wanted.

        Args:
            fleet: Draws.
            size: Side of the pictures in pixels, 1 to 4096.

        Raises:
            UserError: If the size is out of range.
        """
        # Refuses a size that cannot be, here and not in a worker; it starts nothing.
        fleet.settings.renderer(size).close()
        self._fleet = fleet
        self._portion = PORTION * max(1, fleet.settings.workers)
        self.size = size
        self.workers = fleet.workers * max(1, fleet.settings.workers)
        self.limits: RenderLimits = fleet.settings.limits
        self.backend = fleet.settings.backend

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw codes.

        Args:
            jobs: Codes to draw.

        Returns:
            One drawing a job, in the same order.

        Raises:
            UserError: A job is of a form that the fleet was not made for.
            EngineError: Workers cannot be had, or drawing failed where they run.
        """
        portions = [jobs[at : at + self._portion] for at in range(0, len(jobs), self._portion)]
        drawn: dict[int, list[Drawing]] = {}

        def take(index: int, pairs: list[tuple[str, Drawing]]) -> None:
            wanted, came = [job.id for job in portions[index]], [name for name, _ in pairs]
            if came != wanted:
                raise EngineError(f"a Ray worker drew {came}, expected {wanted}")
            drawn[index] = [drawing for _, drawing in pairs]

        items = [(self.size, portion) for portion in portions]
        self._fleet.run("render", items, take, depth=AHEAD)
        return [drawing for index in range(len(portions)) for drawing in drawn[index]]
