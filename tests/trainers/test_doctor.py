from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from mmzero_env.errors import EngineError
from mmzero_env.rendering import BACKENDS, check_system, figures, font, system
from trainers import cli


class Described:
    """A backend whose module says what draws."""

    def draw(self, document, size):
        return np.zeros((size, size, 3), np.uint8)


class Broken(Described):
    """A backend whose library is not there."""

    def __init__(self) -> None:
        raise EngineError("librsvg is missing: apt-get install librsvg2-2")


def versions() -> dict[str, str]:
    """Of the backends of this module."""
    return {"nothing": "[1.2]"}


@pytest.fixture
def backend(monkeypatch):
    """Adds a backend of this module."""

    def add(name: str) -> None:
        monkeypatch.setitem(sys.modules, "some_backends", sys.modules[__name__])
        monkeypatch.setitem(BACKENDS, "extra", f"some_backends:{name}")

    return add


def examine(capsys, *options: str) -> tuple[int, dict[str, dict]]:
    code = cli.main(["doctor", "--json", *options])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    return code, {finding["name"]: finding for finding in report["rendering"]}


def test_a_machine_that_renders_passes(capsys) -> None:
    code, found = examine(capsys)
    assert code == 0
    names = ("python", "lxml", "cairo", "freetype", "backend cairosvg", "render worker")
    assert all(found[name]["ok"] and found[name]["core"] for name in names)
    assert found["bundled fonts"]["detail"].startswith("DejaVuSans.ttf")
    for name in ("network namespace", "seccomp", "landlock", "python figures"):
        assert not found[name]["core"]
    assert all(finding["ok"] or finding["mend"] for finding in found.values())


def test_the_table_says_the_same_in_words(capsys, backend) -> None:
    backend("Described")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "backend extra" in said
    assert "extra: nothing [1.2]" in said
    assert "Rendering works" in said


def test_a_missing_optional_part_has_a_mend_and_does_not_fail(capsys, monkeypatch, backend) -> None:
    backend("Broken")
    said = "Python figures need bubblewrap: apt-get install bubblewrap."
    monkeypatch.setattr(figures, "missing_for_figures", lambda: said)
    code, found = examine(capsys)
    assert code == 0
    assert not found["python figures"]["ok"]
    assert not found["backend extra"]["ok"]
    assert "apt-get install librsvg2-2" in found["backend extra"]["mend"]
    if sys.platform == "linux":
        assert "apt-get install bubblewrap" in found["python figures"]["mend"]
    assert cli.main(["doctor"]) == 0
    assert "not there: backend extra, python figures" in capsys.readouterr().out


def test_a_missing_core_part_fails_with_its_mend(capsys, monkeypatch) -> None:
    def broken(bold: bool, oblique: bool) -> None:
        raise EngineError("FreeType cannot be loaded")

    monkeypatch.setattr(font, "font_face", broken)
    code, found = examine(capsys)
    assert code == 1
    assert "apt-get install libfreetype6" in found["freetype"]["mend"]
    assert [found["freetype"]["mend"]] == check_system()
    assert "render worker" not in found, "there is no use in trying"
    assert cli.main(["doctor"]) == 1
    assert "does not work" in capsys.readouterr().out


def test_a_missing_package_fails_with_the_command_that_installs_it(capsys, monkeypatch) -> None:
    monkeypatch.setattr(system, "_PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setitem(sys.modules, "cairocffi", None)
    code, found = examine(capsys)
    assert code == 1
    assert found["no-such-package"]["mend"] == "pip install no-such-package"
    assert found["cairo"]["mend"] == "pip install cairocffi"


def test_workers_that_do_not_start_fail(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    code, found = examine(capsys)
    assert code == 1
    assert "does not start" in found["render worker"]["detail"]
