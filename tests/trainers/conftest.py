from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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
    "window-size=1200,1000",
)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small finished run, keywords as for ``write_run``, and returns its directory."""

    def build(name: str = "demo-run", **texts: str) -> Path:
        from tests.trainers.synthetic_run import write_run

        return write_run(tmp_path / name, **texts)

    return build


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser without a window; skips where there is none, fails where there must be one."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        # Continuous integration installs both: there a skip would hide a defect.
        if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
            pytest.fail("chromium and chromium-driver are not installed")
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()
