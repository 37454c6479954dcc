"""A real browser for the pages of a report."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=1200,900",
)


def found(*names: str) -> str:
    """The first of some programs; skips where none is there, and fails where one must be."""
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        missing = f"no {names[0]} on this machine; Debian: apt-get install chromium chromium-driver"
        # Continuous integration installs it: there a skip would hide a defect.
        if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
            pytest.fail(missing)
        pytest.skip(missing)
    return program


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium without a window, one for all tests of a module."""
    options = webdriver.ChromeOptions()
    options.binary_location = found("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found("chromedriver")))
    yield driver
    driver.quit()
