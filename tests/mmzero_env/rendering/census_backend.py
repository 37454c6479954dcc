"""A drawing backend that answers with the modules of its process."""

from __future__ import annotations

import sys

import numpy as np

from mmzero_env.protocol import Image
from mmzero_env.rendering.guard import Vetted


class Census:
    """White the first time, for the worker's own check; then the list as an error."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, document: Vetted, size: int) -> Image:
        self.drawn += 1
        if self.drawn > 1:
            suspects = ("numpy", "torch", "transformers", "pettingzoo", "gymnasium", "pytest")
            raise ValueError(" ".join(name for name in suspects if name in sys.modules))
        return np.full((size, size, 3), 255, dtype=np.uint8)
