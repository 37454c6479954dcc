"""The first place where two pieces of plain data differ, pictures compared by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmzero_env.errors import UserError
from mmzero_env.record import png_to_image


def first_difference(recorded: Any, now: Any, name: str = "") -> str | None:
    """Compare plain data, as in a record; bytes are PNG pictures.

    Args:
        recorded: Plain data.
        now: Plain data to compare with it, key by key in the order of ``recorded``.
        name: What both are; begins the answer.

    Returns:
        ``"codes[0].votes.easy.winner: recorded '3', now '4'"``, or None.
    """
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in [*recorded, *(key for key in now if key not in recorded)]:
            inner = f"{name}.{key}" if name else str(key)
            if key not in recorded or key not in now:
                there, here = (key in recorded, key in now)
                return f"{inner}: recorded {_presence(there)}, now {_presence(here)}"
            if (found := first_difference(recorded[key], now[key], inner)) is not None:
                return found
        return None
    if isinstance(recorded, list) and isinstance(now, list):
        for index, (one, other) in enumerate(zip(recorded, now, strict=False)):
            if (found := first_difference(one, other, f"{name}[{index}]")) is not None:
                return found
        if len(recorded) != len(now):
            return f"{name}: recorded {len(recorded)} entries, now {len(now)}"
        return None
    if isinstance(recorded, bytes) and isinstance(now, bytes):
        return None if recorded == now else _pixels(recorded, now, name)
    # 1 == 1.0 == True in Python, but not in a file.
    if type(recorded) is type(now) and recorded == now:
        return None
    return f"{name}: recorded {_shown(recorded)}, now {_shown(now)}"


def _pixels(recorded: bytes, now: bytes, name: str) -> str | None:
    try:
        one = png_to_image(recorded)
    except UserError as error:
        return f"{name}: the recorded picture cannot be read: {error}"
    other = png_to_image(now)
    if one.shape != other.shape:
        return f"{name}: recorded a picture of shape {one.shape}, now {other.shape}"
    gap = np.abs(one.astype(int) - other.astype(int)).max(axis=2)
    if not gap.any():
        return None
    return (
        f"{name}: {np.count_nonzero(gap)} of {gap.size} pixels differ, the largest by "
        f"{gap.max()} of 255"
    )


def _presence(there: bool) -> str:
    return "present" if there else "absent"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "a picture"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
