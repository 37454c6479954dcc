"""Whether a picture shows what it should: compared pixel by pixel with the true one."""

from __future__ import annotations

import numpy as np

from mmzero_env.protocol import Image

FAITHFUL = 0.01
"""A picture is faithful if at most this share of its pixels differs from the true picture."""
_STEP = 16
"""Levels of 256 by which a channel must differ to count: less is anti-aliasing."""


def faithful(image: Image | None, truth: Image | None) -> bool:
    """Whether a picture is the true one, up to a hundredth of its pixels.

    Args:
        image: Shape (H, W, 3), uint8; None for a code that gave none, which is never faithful.
        truth: The true picture, of the same shape.
    """
    if image is None or truth is None:
        return False
    apart = np.abs(image.astype(int) - truth.astype(int)).max(axis=2) > _STEP
    return bool(apart.mean() <= FAITHFUL)
