"""What one picture may cost, and how much of it is looked at before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mmzero_env.errors import UserError


@dataclass(frozen=True)
class RenderLimits:
    """Limits of one rendering.

    The structural caps and the drawing cost are checked first: they depend on the
    code alone. CPU time and memory bind what they do not foresee. Wall time comes
    last and is generous, because it depends on how busy the machine is.

    Attributes:
        wall_seconds: Longest time a worker may take for one code, in seconds.
        cpu_seconds: CPU time (user and system) of one code, in seconds.
        memory_mb: Address space that a worker may take on top of what it holds
            when it is ready, in MiB.
        max_bytes: Length of the code in UTF-8.
        max_elements: Elements in the document.
        max_depth: Nesting of elements, references followed.
        max_attribute: Characters of one attribute value, path data included.
        max_text: Characters of text in the whole picture.
        max_css: Characters of all style sheets together.
        max_number: Largest magnitude of a coordinate, length or factor.
        max_aspect: Longer side over shorter side; 100 is the cap of the official
            MM-Zero renderer.
        max_cost: Drawing cost with every reference followed, in units of one plain
            shape (see :mod:`mmzero_env.rendering.cost`).
        figure_cpu_seconds: CPU time of one Python plotting code, in seconds, counted
            from when the libraries are loaded.
        figure_wall_seconds: Longest time a Python plotting code may take, in seconds;
            counts only when it runs out twice.
    """

    wall_seconds: float = 20.0
    cpu_seconds: float = 1.5
    memory_mb: int = 256
    max_bytes: int = 262_144
    max_elements: int = 5_000
    max_depth: int = 64
    max_attribute: int = 32_768
    max_text: int = 10_000
    max_css: int = 32_768
    max_number: float = 1e6
    max_aspect: float = 100.0
    max_cost: float = 6_000.0
    figure_cpu_seconds: float = 10.0
    figure_wall_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing through.

        Raises:
            UserError: A limit is not a positive finite number.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise UserError(
                    f"RenderLimits.{item.name} must be a positive finite number, got {value!r}."
                )
