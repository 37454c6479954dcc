from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering import (
    BACKENDS,
    Renderer,
    RenderLimits,
    Sandbox,
    landlock,
    primer,
    sandbox,
    seccomp,
)
from mmzero_env.rendering.cairo_svg import CairoSvg
from mmzero_env.rendering.process import WorkerProcess

ROOT = Path(__file__).resolve().parents[3]
LIMITS = RenderLimits(cpu_seconds=2, wall_seconds=5)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made of Linux parts")
has_filter = pytest.mark.skipif(seccomp.unavailable() is not None, reason="no libseccomp")
has_landlock = pytest.mark.skipif(landlock.version() == 0, reason="no Landlock")


@pytest.fixture
def hostile(monkeypatch):
    """Draws one misbehaving code in a worker of a hostile backend."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def draw(kind: str, mode: str, backend: str = "Hostile", **data: object) -> Drawing:
        monkeypatch.setitem(BACKENDS, "hostile", f"hostile_backend:{backend}")
        notes = " ".join(f'data-{name}="{value}"' for name, value in data.items())
        code = f'<svg viewBox="0 0 9 9" id="{kind}" {notes}/>'
        with Renderer(16, 1, LIMITS, "hostile", mode) as renderer:
            return renderer.render([RenderJob("a", code)])[0]

    return draw


def detail(drawing: Drawing) -> str:
    assert drawing.failure is not None
    return drawing.failure.detail


def in_a_process(program: str) -> str:
    """What a program prints that has only the modules of the sandbox."""
    lines = ["import os, socket", "from mmzero_env.rendering import landlock, sandbox, seccomp"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, program])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        # A user namespace is for processes with one thread.
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )
    return done.stdout.strip()


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@has_filter
@pytest.mark.parametrize("kind", ["fork", "exec", "program", "signal"])
def test_a_worker_cannot_start_programs_or_disturb_others(hostile, kind) -> None:
    assert "PermissionError" in detail(hostile(kind, "auto"))
    if kind == "exec":
        # The worker has become a shell that ends with this status.
        assert "status 3" in detail(hostile(kind, "none"))
    else:
        assert hostile(kind, "none").ok


@has_filter
def test_a_worker_cannot_connect_to_this_machine(hostile, listener) -> None:
    assert "PermissionError" in detail(hostile("connect", "auto", port=listener))
    assert hostile("connect", "none", port=listener).ok


@on_linux
def test_a_worker_has_a_network_of_its_own(hostile) -> None:
    with Renderer(8) as renderer:
        if not renderer.sandbox.network_namespace:
            pytest.skip("the kernel refuses a network namespace")
    ours = os.readlink("/proc/self/ns/net")
    assert ours in detail(hostile("namespace", "none"))
    assert ours not in detail(hostile("namespace", "auto"))
    assert "net:[" in detail(hostile("namespace", "auto"))


@has_filter
@pytest.mark.parametrize("kind", ["write", "append", "remove"])
@pytest.mark.parametrize("backend", ["Hostile", "Sealed", "Reader"])
def test_a_worker_cannot_change_files(hostile, tmp_path, kind, backend) -> None:
    canary = tmp_path / "canary"
    canary.write_text("as it was")
    assert "PermissionError" in detail(hostile(kind, "auto", backend, path=canary))
    assert canary.read_text() == "as it was"
    assert hostile(kind, "none", backend, path=canary).ok
    assert not canary.exists() or canary.read_text() != "as it was"


@has_filter
def test_a_worker_opens_no_files_where_the_backend_needs_none(hostile, tmp_path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    assert "PermissionError" in detail(hostile("read", "auto", "Sealed", path=canary))
    assert "secret" in detail(hostile("read", "none", "Sealed", path=canary))
    # A backend that does not say is left its files.
    assert "secret" in detail(hostile("read", "auto", "Hostile", path=canary))


@has_landlock
def test_a_worker_reads_only_where_the_backend_says(hostile, tmp_path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    assert "PermissionError" in detail(hostile("read", "auto", "Reader", path=canary))
    assert "PermissionError" not in detail(hostile("read", "auto", "Reader", path="/usr/bin/env"))
    assert "secret" in detail(hostile("read", "none", "Reader", path=canary))


def test_threads_still_work_in_a_worker(hostile) -> None:
    assert hostile("thread", "auto", "Sealed").ok


@has_filter
def test_the_filter_alone_refuses_files_sockets_and_processes() -> None:
    tries = (
        "for action in (lambda: open('/etc/passwd'), socket.socket, os.fork,"
        " lambda: os.kill(1, 0), lambda: os.mkdir('x')):\n"
        "    try: action()\n"
        "    except PermissionError: print('refused', end=' ')\n"
        "    else: print('done', end=' ')\n"
    )
    refusing = f"assert seccomp.restrict(read_files=False) is None\n{tries}"
    assert in_a_process(refusing) == "refused refused refused refused refused"
    reading = f"assert seccomp.restrict(read_files=True) is None\n{tries}"
    assert in_a_process(reading) == "done refused refused refused refused"


@has_landlock
def test_landlock_alone_refuses_files(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("inside")
    (tmp_path / "b").write_text("outside")
    tries = (
        f"os.chdir({str(tmp_path)!r})\n"
        "for path, mode in (('in/a', 'r'), ('b', 'r'), ('in/a', 'w'), ('b', 'w')):\n"
        "    try: open(path, mode).close()\n"
        "    except PermissionError: print('refused', end=' ')\n"
        "    else: print('done', end=' ')\n"
    )
    inside = str(tmp_path / "in")
    for reads, expected in (
        ((inside, "/does/not/exist"), "done refused refused refused"),
        ((), "refused refused refused refused"),
        (None, "done done refused refused"),
    ):
        assert in_a_process(f"assert landlock.restrict({reads!r}) is None\n{tries}") == expected


@on_linux
def test_the_empty_network_needs_no_root() -> None:
    program = (
        "if os.geteuid() == 0:\n    os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
        "before = os.readlink('/proc/self/ns/net')\n"
        "reason = sandbox.leave_network()\n"
        "print(reason or before != os.readlink('/proc/self/ns/net'), os.geteuid())"
    )
    said = in_a_process(program)
    if "refuses" in said:
        pytest.skip("the kernel refuses a network namespace")
    assert said == f"True {os.geteuid() or 65534}"


def test_what_is_in_force_is_known() -> None:
    with Renderer(8) as renderer:
        found = renderer.sandbox
        assert found.seccomp == (seccomp.unavailable() is None)
        assert found.landlock == (landlock.version() > 0)
        assert bool(found.reasons) == (not (found.network_namespace and found.seccomp))
    with Renderer(8, sandbox="none") as renderer:
        assert renderer.sandbox == Sandbox(reasons=renderer.sandbox.reasons)
        assert "none" in renderer.sandbox.reasons["sandbox"]
    assert "calling process" in Renderer(8, workers=0).sandbox.reasons["sandbox"]


def test_a_missing_part_is_named_with_its_mend(monkeypatch) -> None:
    monkeypatch.setattr(seccomp, "_library", lambda: None)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    found = sandbox.confine((), "The kernel refuses a network namespace.")
    assert not (found.network_namespace or found.seccomp or found.landlock)
    assert list(found.reasons) == ["network namespace", "seccomp", "landlock"]
    if sys.platform == "linux":
        assert "apt-get install libseccomp2" in found.reasons["seccomp"]


def test_a_required_sandbox_draws_only_when_it_is_complete(monkeypatch) -> None:
    jobs = [RenderJob("a", primer.DRAWN[0])]
    with Renderer(8) as renderer:
        missing = renderer.sandbox.reasons
    with Renderer(8, sandbox="required") as renderer:
        if not missing:
            assert renderer.render(jobs)[0].ok
            renderer.close()
            missing = {"seccomp": "libseccomp is missing."}
        incomplete = Sandbox(reasons=missing)
        kept = property(lambda worker: incomplete, lambda worker, value: None)
        monkeypatch.setattr(WorkerProcess, "sandbox", kept, raising=False)
        with pytest.raises(UserError, match="not all of it is in force.*missing|refuses"):
            renderer.render(jobs)


def test_bad_modes_say_what_is_expected() -> None:
    with pytest.raises(UserError, match="Did you mean 'auto'"):
        Renderer(8, sandbox="aut")
    with pytest.raises(UserError, match="workers=1"):
        Renderer(8, workers=0, sandbox="required")


def test_the_sandbox_changes_no_drawing() -> None:
    jobs = [RenderJob(str(n), code) for n, code in enumerate((*primer.DRAWN, *primer.TRIED))]
    # Not in the first drawings: other letters, other sizes, other failures.
    more = '<svg viewBox="0 0 50 50"><style>text{font:700 7px Foo}</style><text y="9">Ωж↗㊗ẞ</text>'
    jobs += [
        RenderJob("letters", more + "</svg>"),
        RenderJob("units", '<svg width="3cm" height="1in"><circle r="1e1" cy="30%"/></svg>'),
        RenderJob("css", '<svg viewBox="0 0 9 9"><style>@font-face{}*::x{color:red}</style></svg>'),
        RenderJob("latin", '<?xml version="1.0" encoding="cp1252"?><svg viewBox="0 0 1 1"/>'),
        RenderJob("utf16", '<?xml version="1.0" encoding="shift_jis"?><svg viewBox="0 0 1 1"/>'),
    ]
    with Renderer(96, 0) as plain, Renderer(96) as confined, Renderer(96, sandbox="none") as free:
        expected = plain.render(jobs)
        for renderer in (confined, free):
            for first, second in zip(expected, renderer.render(jobs), strict=True):
                assert (first.failure, first.flags) == (second.failure, second.flags)
                if first.image is not None:
                    np.testing.assert_array_equal(first.image, second.image)


def test_the_first_drawings_all_succeed() -> None:
    primer.prime(CairoSvg(), 32)
    with Renderer(32, 0) as renderer:
        drawings = renderer.render([RenderJob(code, code) for code in primer.DRAWN])
    assert [drawing.failure for drawing in drawings] == [None] * len(primer.DRAWN)
