"""What comes out of the sandbox: bytes that nobody vouches for, read with care.

Neither pickles nor image files: a length, a little JSON, and exactly as many bytes of
colour as the picture has. A forged report can say something false about its own code and
nothing more.
"""

from __future__ import annotations

import json

import numpy as np

from mmzero_env.protocol import Drawing, Failure

REASONS = frozenset(
    "python_syntax python_error module_unavailable no_figure render_memory "
    "picture_too_large bad_picture extreme_aspect early_exit".split()
)
FLAGS = frozenset({"several_figures"})
MAX_HEADER = 4096
MAX_DETAIL = 400

READY = b"R"


def longest_report(size: int) -> int:
    """Bytes of the longest report for pictures of this size, the ready byte included."""
    return len(READY) + 4 + MAX_HEADER + size * size * 3


def read_report(data: bytes, size: int) -> Drawing:
    """Read a report.

    Args:
        data: What came through the pipe after the ready byte.
        size: Side of the picture in pixels.

    Returns:
        The picture, uint8 (size, size, 3), or the failure that the report names; a
        failure ``bad_output`` when it is not a report.
    """
    length = int.from_bytes(data[:4], "big")
    if not 0 < length <= MAX_HEADER or len(data) < 4 + length:
        return _bad("it has no header")
    try:
        header = json.loads(data[4 : 4 + length])
    except (ValueError, RecursionError):
        return _bad("its header is not JSON")
    pixels = data[4 + length :]
    if not isinstance(header, dict):
        return _bad("its header is not an object")
    flags = header.get("flags")
    if not isinstance(flags, list) or not all(
        isinstance(flag, str) and flag in FLAGS for flag in flags
    ):
        return _bad("its flags are unknown")
    names = tuple(dict.fromkeys(flags))
    if "reason" in header:
        reason, detail = header["reason"], header.get("detail")
        if not (isinstance(reason, str) and reason in REASONS and isinstance(detail, str)):
            return _bad("its reason is unknown")
        return Drawing(None, Failure("render", reason, _plain(detail)), names)
    if len(pixels) != size * size * 3:
        return _bad(f"{len(pixels)} bytes of picture, {size * size * 3} expected")
    image = np.frombuffer(pixels, dtype=np.uint8).reshape(size, size, 3).copy()
    return Drawing(image, None, names)


def _bad(what: str) -> Drawing:
    detail = f"the code wrote into the channel of the picture: {what}"
    return Drawing(None, Failure("render", "bad_output", detail))


def _plain(text: str) -> str:
    """One printable line: no control characters, no lone surrogates."""
    kept = (letter if letter.isprintable() else " " for letter in text[:MAX_DETAIL])
    return "".join(kept).strip()
