"""Does the machine have what drawing needs, and if not, how does one get it?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mmzero_env.errors import EngineError, UserError

_PYTHON = (3, 11)
_PACKAGES = ("cairosvg", "cairocffi", "lxml", "numpy")

_NO_CAIRO = (
    "The cairo library is missing: apt-get install libcairo2 (Debian, Ubuntu) or "
    "brew install cairo (macOS)."
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: What it is.
        ok: Whether it is there and works.
        detail: A version, or what is wrong.
        mend: How to get it; empty when it is there.
        core: Whether nothing is drawn without it.
    """

    name: str
    ok: bool
    detail: str
    mend: str = ""
    core: bool = False


def check_system() -> list[str]:
    """Look for the system libraries behind the default backend.

    Returns:
        One sentence per missing thing, each with the command that installs it; empty
        when everything is there.
    """
    return [found.mend for found in _find_libraries() if not found.ok]


def inspect_system() -> list[Finding]:
    """Look for everything that rendering needs or can make use of.

    Takes about a second: it draws a picture in a worker.
    """
    found = [_find_python(), *map(_find_package, _PACKAGES), *_find_libraries()]
    found += _find_backends()
    if all(finding.ok for finding in found if finding.core):
        found += _find_worker()
    found.append(_find_figures())
    return found


def _find_python() -> Finding:
    ok = sys.version_info >= _PYTHON
    wanted = ".".join(map(str, _PYTHON))
    mend = "" if ok else f"Install Python {wanted} or later."
    return Finding("python", ok, platform.python_version(), mend, core=True)


def _find_package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name), core=True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}", core=True)


def _find_libraries() -> Iterator[Finding]:
    """Cairo, and FreeType with the bundled font; the second only where the first is."""
    try:
        # cairocffi loads libcairo when it is imported.
        import cairocffi
    except ModuleNotFoundError:
        yield Finding("cairo", False, "no cairocffi", "pip install cairocffi", core=True)
        return
    except OSError:
        yield Finding("cairo", False, "not found", _NO_CAIRO, core=True)
        return
    yield Finding("cairo", True, cairocffi.cairo_version_string(), core=True)
    from mmzero_env.rendering.font import FONT_FILE, font_face

    try:
        font_face(False, False)
    except EngineError as error:
        mend = (
            f"Text cannot be drawn ({error}): apt-get install libfreetype6 (Debian, Ubuntu) "
            "or brew install freetype (macOS)."
        )
        yield Finding("freetype", False, str(error), mend, core=True)
        return
    fonts = ", ".join(sorted(path.name for path in FONT_FILE.parent.glob("*.[ot]tf")))
    yield Finding("freetype", True, "found", core=True)
    yield Finding("bundled fonts", True, fonts, core=True)


def _find_backends() -> Iterator[Finding]:
    from mmzero_env.rendering.backends import (
        BACKENDS,
        backend_target,
        describe_backend,
        load_backend,
    )

    for name in BACKENDS:
        core = name == "cairosvg"
        try:
            load_backend(backend_target(name))
            detail = describe_backend(name)
        except (ImportError, OSError, AttributeError, EngineError, UserError) as error:
            mend = str(error)
            if isinstance(error, ModuleNotFoundError):
                mend = f"pip install {error.name}"
            detail = f"cannot be used ({type(error).__name__}: {error})"
            yield Finding(f"backend {name}", False, detail, mend, core)
        else:
            yield Finding(f"backend {name}", True, detail, core=core)


def _find_worker() -> Iterator[Finding]:
    """A picture from a worker, and what is in force around it."""
    from mmzero_env.protocol import RenderJob
    from mmzero_env.rendering.pool import Renderer
    from mmzero_env.rendering.primer import DRAWN

    started = time.monotonic()
    try:
        with Renderer(64) as renderer:
            [drawing] = renderer.render([RenderJob("doctor", DRAWN[0])])
            seconds = time.monotonic() - started
            sandbox = renderer.sandbox
    except EngineError as error:
        yield Finding("render worker", False, str(error), "See the message.", core=True)
        return
    detail = f"first picture after {seconds:.2f} s"
    if drawing.failure is not None:
        detail = drawing.failure.detail
    yield Finding("render worker", drawing.ok, detail, core=True)
    in_memory = hasattr(os, "memfd_create")
    yield Finding("shared memory", True, "memfd" if in_memory else "a temporary file", core=True)
    for name, ok in (
        ("network namespace", sandbox.network_namespace),
        ("seccomp", sandbox.seccomp),
        ("landlock", sandbox.landlock),
    ):
        # Where the filter alone is enough, a missing Landlock needs no mend.
        mend = sandbox.reasons.get(name, "")
        yield Finding(name, ok, "in force" if ok else "not in force", mend)


def _find_figures() -> Finding:
    from mmzero_env.rendering.figures import missing_for_figures

    missing = missing_for_figures()
    detail = "drawn in bubblewrap" if missing is None else "cannot be drawn"
    return Finding("python figures", missing is None, detail, missing or "")
