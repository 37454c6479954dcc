from __future__ import annotations

import os
import sys

import pytest

from mmzero_env.rendering.figures import FigureSandbox, missing_for_figures
from mmzero_env.rendering.limits import RenderLimits
from tests.mmzero_env.rendering.drawn import SIZE


@pytest.fixture
def possible() -> None:
    missing = missing_for_figures()
    if missing is None:
        return
    # Continuous integration installs bubblewrap: there a skip would hide a defect.
    if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def sandbox(possible) -> FigureSandbox:
    return FigureSandbox(SIZE, RenderLimits(figure_cpu_seconds=1.0, figure_wall_seconds=20.0))
