"""Helpers of the tests of Python figures."""

from __future__ import annotations

import numpy as np

from mmzero_env.protocol import Drawing

PLT = "import matplotlib.pyplot as plt\n"
SIZE = 96


def picture(drawing: Drawing) -> np.ndarray:
    assert drawing.image is not None, drawing.failure
    assert drawing.failure is None
    assert (drawing.image.shape, drawing.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    return drawing.image


def failed(drawing: Drawing, reason: str) -> str:
    """The detail of a failure that has to be of this reason."""
    assert drawing.image is None
    assert drawing.failure is not None
    assert (drawing.failure.stage, drawing.failure.reason) == ("render", reason), drawing.failure
    return drawing.failure.detail
