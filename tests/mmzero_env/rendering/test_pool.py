from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering import BACKENDS, Renderer, RenderLimits, check_system, register_backend

ROOT = Path(__file__).resolve().parents[3]
LIMITS = RenderLimits(cpu_seconds=0.4, wall_seconds=1.0, memory_mb=64)


def chart(value: int) -> str:
    return (
        f'<svg viewBox="0 0 96 96"><rect x="9" y="{90 - value}" width="20" height="{value}" '
        f'fill="teal"/><text x="50" y="20">{value}</text></svg>'
    )


def hostile(kind: str, log: Path | None = None) -> RenderJob:
    note = f' data-log="{log}"' if log else ""
    return RenderJob(kind, f'<svg viewBox="0 0 9 9" id="{kind}"{note}/>')


@pytest.fixture
def misbehaving(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(BACKENDS, "hostile", "")
    register_backend("hostile", "hostile_backend:Hostile")
    # Free to write the logs that the tests read.
    with Renderer(size=16, workers=2, limits=LIMITS, backend="hostile", sandbox="none") as renderer:
        yield renderer


def test_the_system_has_what_is_needed() -> None:
    assert check_system() == []


def test_drawings_do_not_depend_on_the_number_of_workers() -> None:
    jobs = [RenderJob(str(index), chart(index % 7 * 10)) for index in range(20)]
    jobs.insert(3, RenderJob("bad", "<svg"))
    results = []
    for workers in (0, 1, 2):
        with Renderer(size=96, workers=workers) as renderer:
            results.append(renderer.render(jobs))
    for drawings in results:
        assert len(drawings) == 21
        assert drawings[3].failure is not None
        assert drawings[3].failure.reason == "malformed_xml"
        for job, drawing, first in zip(jobs, drawings, results[0], strict=True):
            assert drawing.ok == (job.id != "bad")
            assert drawing.failure == first.failure
            assert drawing.flags == first.flags
            if drawing.image is not None:
                np.testing.assert_array_equal(drawing.image, first.image)


def test_order_is_kept_and_equal_codes_are_drawn_once(misbehaving, tmp_path) -> None:
    log = tmp_path / "log"
    white = hostile("plain", log)
    drawings = misbehaving.render([white, hostile("raise"), white, hostile("raise"), white])
    assert [drawing.ok for drawing in drawings] == [True, False, True, False, True]
    assert log.read_text() == "x"
    drawings[0].image[:] = 0
    assert (drawings[2].image == 255).all(), "every drawing owns its array"
    assert drawings[1].failure.reason == "not_drawable"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("spin", "render_timeout"), ("memory", "render_memory"), ("crash", "render_crash")],
)
def test_one_code_fails_by_name_and_the_others_go_on(misbehaving, kind, reason) -> None:
    jobs = [hostile("a"), hostile(kind), *(hostile(f"b{index}") for index in range(6))]
    drawings = misbehaving.render(jobs)
    assert drawings[1].failure is not None
    assert (drawings[1].failure.stage, drawings[1].failure.reason) == ("render", reason)
    assert all(drawing.ok for index, drawing in enumerate(drawings) if index != 1)
    assert misbehaving.render([hostile("after")])[0].ok


def test_the_wall_clock_counts_only_the_second_time(misbehaving, tmp_path) -> None:
    once, always = tmp_path / "once", tmp_path / "always"
    started = time.monotonic()
    drawings = misbehaving.render([hostile("sleep-once", once), hostile("sleep", always)])
    assert drawings[0].ok
    assert drawings[1].failure is not None
    assert drawings[1].failure.reason == "render_timeout"
    assert (once.read_text(), always.read_text()) == ("xx", "xx")
    assert time.monotonic() - started < 15


def test_a_kill_from_outside_is_no_verdict_on_the_code(misbehaving, tmp_path) -> None:
    assert misbehaving.render([hostile("killed-once", tmp_path / "log")])[0].ok
    with pytest.raises(EngineError, match="killed from outside"):
        misbehaving.render([hostile("killed")])
    assert misbehaving.render([hostile("after")])[0].ok, "the next call starts afresh"


def test_a_worker_lost_while_idle_is_replaced(misbehaving) -> None:
    assert misbehaving.render([hostile("a")])[0].ok
    [worker] = misbehaving._crew.pool
    os.kill(worker.pid, signal.SIGKILL)
    assert all(drawing.ok for drawing in misbehaving.render([hostile("b"), hostile("c")]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_backend_that_cannot_start_stops_the_run(monkeypatch, workers) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(BACKENDS, "broken", "hostile_backend:Broken")
    with Renderer(workers=workers, backend="broken") as renderer:
        with pytest.raises(EngineError, match="no library called cairo"):
            renderer.render([RenderJob("a", chart(5))])


def test_bombs_for_the_real_backend_end_in_time() -> None:
    # A circle so large that cairo would cut it into endless pieces: structure does not
    # tell, the CPU limit does.
    scale = '<g transform="scale(1000000)">'
    endless = f'<svg viewBox="0 0 9 9">{scale * 3}<circle r="1000000"/>{"</g>" * 3}</svg>'
    # The size of a tile that a style sheet sets is not counted; the tile is held small.
    tile = (
        '<svg viewBox="0 0 9 9"><style>pattern{width:900000px;height:900000px}</style>'
        '<pattern id="p" patternUnits="userSpaceOnUse"><rect width="9" height="9"/></pattern>'
        '<rect width="9" height="9" fill="url(#p)"/></svg>'
    )
    # Thirty layers of 64 MiB.
    group = '<g opacity=".9">'
    shape = '<rect width="9" height="9"/>'
    layers = f'<svg viewBox="0 0 9 9">{group * 30}{shape}{"</g>" * 30}</svg>'
    with Renderer(size=96, workers=1, limits=RenderLimits(cpu_seconds=0.5)) as renderer:
        drawings = renderer.render(
            [RenderJob("a", endless), RenderJob("b", tile), RenderJob("c", chart(5))]
        )
    assert reasons(drawings) == ["render_timeout", None, None]
    with Renderer(size=4096, workers=1) as renderer:
        drawings = renderer.render([RenderJob("a", layers), RenderJob("b", chart(5))])
    assert reasons(drawings) == ["render_memory", None]


def reasons(drawings: list[Drawing]) -> list[str | None]:
    return [drawing.failure and drawing.failure.reason for drawing in drawings]


@pytest.mark.parametrize("launch", ["-c", "script"])
def test_no_main_guard_is_needed(tmp_path, launch) -> None:
    program = (
        "import sys; print('main runs', flush=True)\n"
        "from mmzero_env.rendering import Renderer, RenderJob\n"
        "with Renderer(size=8, workers=2) as renderer:\n"
        "    drawings = renderer.render([RenderJob(str(i), '<svg viewBox=\"0 0 1 1\" '\n"
        "        f'id=\"a{i}\"/>') for i in range(4)])\n"
        "print(sum(drawing.ok for drawing in drawings))\n"
    )
    script = tmp_path / "main.py"
    script.write_text(program)
    command = [sys.executable, "-c", program] if launch == "-c" else [sys.executable, str(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split("\n")[:2] == ["main runs", "4"], done.stderr


def test_workers_import_nothing_but_drawing(monkeypatch) -> None:
    source = Path(__file__).parent
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.setitem(BACKENDS, "census", "census_backend:Census")
    with Renderer(size=4, workers=1, backend="census") as renderer:
        [drawing] = renderer.render([RenderJob("a", "<svg/>")])
    assert drawing.failure is not None
    loaded = set(drawing.failure.detail.split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "pettingzoo", "gymnasium", "pytest"}


def test_closing_is_final_for_workers_and_harmless_for_the_renderer() -> None:
    renderer = Renderer(size=8)
    renderer.close()
    assert renderer.render([RenderJob("a", chart(5))])[0].ok
    [worker] = renderer._crew.pool
    renderer.close()
    renderer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)
    assert renderer.render([]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"workers": -1}, "workers must be"),
        ({"backend": "cairo"}, "Did you mean 'cairosvg'"),
    ],
)
def test_bad_options_say_what_is_expected(options, message) -> None:
    with pytest.raises(UserError, match=message):
        Renderer(**options)
