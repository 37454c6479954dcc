"""The global generators of Python, numpy and torch, which libraries draw from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def state() -> dict[str, Any]:
    """Where the generators stand, in types that ``torch.load`` takes from strangers."""
    numbers = np.random.get_state(legacy=False)
    keys = torch.from_numpy(numbers["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": {**numbers, "state": {"key": keys, "pos": numbers["state"]["pos"]}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def go_on_from(saved: Mapping[str, Any]) -> None:
    """Put the generators to where :func:`state` found them."""
    numbers = saved["numpy"]
    keys = numbers["state"]["key"].numpy().astype(np.uint32)
    random.setstate(saved["python"])
    np.random.set_state({**numbers, "state": {**numbers["state"], "key": keys}})
    torch.set_rng_state(saved["torch"])
    torch.cuda.set_rng_state_all(saved["cuda"])
