from __future__ import annotations

import subprocess
import sys

import pytest

from mmzero_env.errors import UserError
from mmzero_env.record import episode_to_record
from mmzero_env.rendering import Renderer, librsvg_library, vips_svg
from mmzero_env.rendering.backends import (
    BACKENDS,
    backend_target,
    backend_versions,
    describe_backend,
    load_backend,
    resolve_backend,
)
from mmzero_env.rendering.spawner import PACKAGE
from tests.mmzero_env.recorded import SIZE, finished, proposal_text

ABSENT = "librsvg cannot be loaded (no such file)"
# A process in which pyvips has drawn text before.
_LATE = """
import pyvips
svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9">a</text></svg>'
pyvips.Image.svgload_buffer(svg).avg()
from mmzero_env.rendering.backends import BACKENDS, load_backend
load_backend(BACKENDS["librsvg-vips"])
"""
# As in a render worker, in a world without cairo.
_WITHOUT_CAIRO = """
import sys, types
class NoCairo:
    def find_spec(self, name, path=None, target=None):
        if name == "cairocffi":
            raise OSError("no library called cairo was found")
sys.meta_path.insert(0, NoCairo())
package = types.ModuleType("mmzero_env")
package.__path__ = ["PACKAGE"]
sys.modules["mmzero_env"] = package
from mmzero_env.rendering.backends import backend_target, load_backend, resolve_backend
from mmzero_env.rendering.guard import vet
document = vet('<svg viewBox="0 0 9 9"><rect width="9" height="9" fill="red"/></svg>')
pixel = load_backend(backend_target("librsvg")).draw(document, 9)[4, 4]
print(resolve_backend("librsvg"), *pixel)
"""


def without_direct(monkeypatch) -> None:
    monkeypatch.setattr("mmzero_env.rendering.librsvg.missing", lambda: ABSENT)


def without_vips(monkeypatch) -> None:
    monkeypatch.setattr(vips_svg, "missing", lambda: "pyvips cannot be loaded (not installed)")


def test_librsvg_is_the_system_library_where_it_is_there(monkeypatch) -> None:
    monkeypatch.setattr("mmzero_env.rendering.librsvg.missing", str)
    assert resolve_backend("librsvg") == "librsvg-direct"
    assert backend_target("librsvg") == BACKENDS["librsvg-direct"]


def test_librsvg_is_pyvips_otherwise(monkeypatch) -> None:
    without_direct(monkeypatch)
    assert resolve_backend("librsvg") == "librsvg-vips"
    assert backend_target("librsvg") == BACKENDS["librsvg-vips"]
    assert isinstance(load_backend(BACKENDS["librsvg"]), vips_svg.LibrsvgVips)


def test_a_binding_that_is_asked_for_by_name_is_not_replaced(monkeypatch) -> None:
    without_direct(monkeypatch)
    with pytest.raises(UserError, match="apt-get install librsvg2-2"):
        Renderer(backend="librsvg-direct")


def test_without_any_librsvg_the_mend_is_named(monkeypatch) -> None:
    without_direct(monkeypatch)
    without_vips(monkeypatch)
    with pytest.raises(UserError, match=r"pip install 'mmzero-env\[librsvg\]'") as caught:
        Renderer(backend="librsvg")
    assert ABSENT in str(caught.value)
    assert "not installed" in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="Did you mean 'librsvg'"):
        resolve_backend("librsgv")


def test_a_line_for_people_names_the_binding_and_its_versions(monkeypatch) -> None:
    assert describe_backend("cairosvg").startswith("cairosvg: cairosvg ")
    without_direct(monkeypatch)
    line = describe_backend("librsvg")
    assert line.startswith("librsvg: librsvg-vips, libvips ")
    assert "\n" not in line


def test_a_record_names_the_binding_in_use_and_its_versions(monkeypatch) -> None:
    without_direct(monkeypatch)
    env = finished(proposal_text())
    with Renderer(SIZE, workers=0, backend="librsvg") as renderer:
        record = episode_to_record(env.outcome, env.episode_rewards, renderer=renderer)
    assert record["render"] is not None
    assert record["render"]["backend"] == "librsvg-vips"
    assert record["versions"].items() >= backend_versions("librsvg-vips").items()
    assert "libvips" in record["versions"]


def test_the_direct_binding_tells_versions_of_all_that_draws() -> None:
    complaint = librsvg_library.missing()
    if complaint:
        pytest.skip(complaint)
    versions = backend_versions("librsvg-direct")
    assert versions.keys() == {"librsvg", "pango", "cairo"}
    assert all(version[0].isdigit() for version in versions.values())


def test_other_fonts_than_the_bundled_ones_are_found_out() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LATE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "EngineError: text is not drawn with the bundled fonts" in done.stderr


def test_pyvips_draws_where_the_system_has_no_cairo() -> None:
    program = _WITHOUT_CAIRO.replace("PACKAGE", str(PACKAGE))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["librsvg-vips", "255", "0", "0"]
