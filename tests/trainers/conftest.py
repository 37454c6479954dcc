from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small finished run, keywords as for ``write_run``, and returns its directory."""

    def build(name: str = "demo-run", **texts: str) -> Path:
        from tests.trainers.synthetic_run import write_run

        return write_run(tmp_path / name, **texts)

    return build
