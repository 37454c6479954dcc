from __future__ import annotations

import pytest

from mmzero_env.rendering.figures import FigureSandbox
from mmzero_env.rendering.limits import RenderLimits
from tests.mmzero_env.rendering.drawn import SIZE


@pytest.fixture
def sandbox(possible) -> FigureSandbox:
    return FigureSandbox(SIZE, RenderLimits(figure_cpu_seconds=1.0, figure_wall_seconds=20.0))
