"""Fixtures of the environment's tests."""

from __future__ import annotations

import os
import sys

import pytest

from mmzero_env.rendering.figures import missing_for_figures


@pytest.fixture
def possible() -> None:
    """Skip where Python figures cannot be drawn; fail where they must be."""
    missing = missing_for_figures()
    if missing is None:
        return
    # Continuous integration installs bubblewrap: there a skip would hide a defect.
    if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
        pytest.fail(missing)
    pytest.skip(missing)
