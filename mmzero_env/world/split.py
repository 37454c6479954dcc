"""Which specs are held out for the probe."""

from __future__ import annotations

import random
import zlib

from mmzero_env.world.spec import Spec

HELD_OUT_SHARE = 8
"""One caption in this many belongs to the probe."""


def held_out(spec: Spec) -> bool:
    """Whether a spec is reserved for the probe and must not be trained on.

    The split follows from the caption alone (CRC-32), so every program that
    draws specs agrees on it without a list.
    """
    return zlib.crc32(spec.caption().encode()) % HELD_OUT_SHARE == 0


def draw(rng: random.Random, sample, *, probe: bool) -> Spec:
    """Draw from one side of the split.

    Args:
        rng: Source of randomness.
        sample: Called with ``rng`` until it gives a spec of the wanted side.
        probe: True for held-out specs, False for training specs.
    """
    while held_out(spec := sample(rng)) != probe:
        pass
    return spec
