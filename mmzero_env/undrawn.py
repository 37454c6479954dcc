"""Rendering switched off: the guard's verdict without a drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmzero_env.errors import UserError
from mmzero_env.protocol import Drawing, Failure, Image, RenderJob
from mmzero_env.rendering import RenderLimits, vet

NOT_DRAWN = "not_drawn"
"""Flag of a drawing whose picture is blank because nothing was drawn."""


class Undrawn:
    """Takes the place of a :class:`~mmzero_env.rendering.Renderer` and draws nothing.

    An SVG that the guard lets through and any other code gets a blank picture with the flag
    :data:`NOT_DRAWN`, so that questions are asked about it; an SVG that it refuses fails
    as usual. For players that do not look at pictures and for measuring everything but
    the drawing. A blank picture is no evidence of what a code shows: never train on it.

    Args:
        size: Side of the blank picture in pixels, 1 to 4096.

    Raises:
        UserError: If the size is out of range.
    """

    def __init__(self, size: int = 448) -> None:
        if not 1 <= size <= 4096:
            raise UserError(f"size must be 1 to 4096 pixels, got {size}.")
        self._limits = RenderLimits()
        self._blank: Image = np.full((size, size, 3), 255, np.uint8)
        self._blank.flags.writeable = False

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """One drawing a job, in order; all pictures are one read-only array."""
        # Scripted Coders write the same code again and again, and the guard takes its time.
        found: dict[tuple[str, str], Drawing] = {}
        for job in jobs:
            if (job.form, job.code) not in found:
                found[job.form, job.code] = self._verdict(job)
        return [found[job.form, job.code] for job in jobs]

    def close(self) -> None:
        """Nothing to end."""

    def _verdict(self, job: RenderJob) -> Drawing:
        if job.form != "svg":
            # Only running it would tell more.
            return Drawing(self._blank, None, (NOT_DRAWN,))
        document = vet(job.code, self._limits)
        if isinstance(document, Failure):
            return Drawing(None, document)
        return Drawing(self._blank, None, (*document.flags, NOT_DRAWN))
