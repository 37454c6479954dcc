"""A gallery that draws in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.hacks.scenes import Gallery
from mmzero_env.rendering import Renderer


@pytest.fixture(scope="module")
def gallery() -> Iterator[Gallery]:
    with Renderer(size=224, workers=0) as renderer:
        yield Gallery(renderer)
