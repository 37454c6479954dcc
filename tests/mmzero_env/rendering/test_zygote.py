from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmzero_env.errors import EngineError
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import BACKENDS, Renderer, RenderLimits

ROOT = Path(__file__).resolve().parents[3]
LIMITS = RenderLimits(cpu_seconds=0.3, wall_seconds=1.0, memory_mb=64)
SQUARE = '<svg viewBox="0 0 9 9"><rect width="9" height="9" fill="teal"/></svg>'

# Opens a renderer, says which processes it has, and goes on as the test wants.
PROGRAM = """
import os, signal, sys, time
from mmzero_env.rendering import BACKENDS, RenderJob, Renderer, RenderLimits
BACKENDS["hostile"] = "hostile_backend:Hostile"
renderer = Renderer(8, 2, RenderLimits(), "hostile", "none")
def jobs(kind, count=4):
    return [RenderJob(str(n), f'<svg viewBox="0 0 9 {n + 1}" id="{kind}"/>') for n in range(count)]
while sum(worker.ready for worker in renderer._crew.pool) < 2:
    renderer.render(jobs("plain"))
helper = renderer._crew.helper
print(helper, *(worker.pid for worker in renderer._crew.pool), flush=True)
"""


def hostile(kind: str, log: Path | None = None, number: int = 1) -> RenderJob:
    note = f' data-log="{log}"' if log else ""
    return RenderJob(kind, f'<svg viewBox="0 0 9 {number}" id="{kind}"{note}/>')


@pytest.fixture
def make(monkeypatch):
    """Renderers with a hostile backend, closed at the end."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with contextlib.ExitStack() as stack:

        def renderer(workers: int, backend: str = "Hostile", **options) -> Renderer:
            monkeypatch.setitem(BACKENDS, "hostile", f"hostile_backend:{backend}")
            options = {"limits": LIMITS, "sandbox": "none", **options}
            return stack.enter_context(Renderer(16, workers, backend="hostile", **options))

        yield renderer


@pytest.fixture
def launch():
    """Runs a program in a session of its own; killed at the end."""
    with contextlib.ExitStack() as stack:

        def start(ending: str) -> tuple[subprocess.Popen, list[int]]:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM + ending],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
            )
            stack.callback(process.communicate)
            stack.callback(end_group, process.pid)
            return process, [int(pid) for pid in first_line(process).split()]

        yield start


def first_line(process: subprocess.Popen) -> bytes:
    """Byte by byte: what a buffered reader takes beyond the line is lost to communicate()."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line


def end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform == "linux":
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
    else:
        command = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def all_end(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def two_workers(renderer: Renderer) -> set[int]:
    """Process ids once there are two that are ready."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert all(d.ok for d in renderer.render([hostile("x", number=n) for n in range(1, 9)]))
        pids = {worker.pid for worker in renderer._crew.pool if worker.ready}
        if len(pids) == 2:
            return pids
    raise AssertionError("there are no two workers")


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


def test_a_killed_worker_is_replaced_and_the_others_stay(make) -> None:
    renderer = make(2)
    before = two_workers(renderer)
    drawings = renderer.render([hostile("memory"), *(hostile("x", number=n) for n in range(1, 9))])
    assert [drawing.ok for drawing in drawings] == [False] + [True] * 8
    assert len(before & two_workers(renderer)) == 1


def test_only_the_code_that_was_drawn_pays_for_the_end_of_a_worker(make, tmp_path) -> None:
    renderer = make(1, limits=replace(LIMITS, wall_seconds=30))
    kinds = ["plain", "memory", "plain", "plain", "crash", "spin", "memory", *["plain"] * 6]
    logs = [tmp_path / str(number) for number in range(len(kinds))]
    jobs = [hostile(kind, log, 1) for kind, log in zip(kinds, logs, strict=True)]
    reasons = [d.failure and d.failure.reason for d in renderer.render(jobs)]
    expected = {"memory": "render_memory", "crash": "render_crash", "spin": "render_timeout"}
    assert reasons == [expected.get(kind) for kind in kinds]
    # A crash is tried again alone; a code that waited behind it was not begun.
    assert [log.read_text() for log in logs] == ["xx" if k == "crash" else "x" for k in kinds]


def test_a_code_too_long_for_the_socket_does_not_block_the_others(make) -> None:
    renderer = make(2)
    long = [
        RenderJob(str(n), f"<svg viewBox='0 0 9 9'>{'<g/>' * (90_000 + n)}</svg>") for n in (1, 2)
    ]
    drawings = renderer.render([hostile("sleep"), *long, *(hostile("x", number=n) for n in (3, 4))])
    failures = [drawing.failure and drawing.failure.reason for drawing in drawings]
    assert failures == ["render_timeout", "too_large", "too_large", None, None]


def test_a_worker_cannot_cut_off_the_shared_memory(make) -> None:
    # Reading behind the end of a file would end this process by SIGBUS.
    if not hasattr(os, "memfd_create"):
        pytest.skip("only Linux can seal a file")
    drawings = make(1).render([hostile("shrink"), hostile("a"), hostile("b")])
    assert all(drawing.image is not None and drawing.image.min() == 255 for drawing in drawings)


def test_a_lost_helper_is_replaced(make) -> None:
    renderer = make(2)
    assert renderer.render([hostile("a")])[0].ok
    os.kill(renderer._crew.helper, signal.SIGKILL)
    assert all(drawing.ok for drawing in renderer.render([hostile("b"), hostile("c")]))


def test_a_helper_lost_while_drawing_is_no_verdict_on_the_code(make, tmp_path) -> None:
    renderer = make(2)
    jobs = [hostile("a"), hostile("kill-helper-once", tmp_path / "log"), hostile("b")]
    assert all(drawing.ok for drawing in renderer.render(jobs))
    with pytest.raises(EngineError, match="killed from outside"):
        renderer.render([hostile("kill-helper")])
    assert renderer.render([hostile("after")])[0].ok


def test_threads_before_the_fork_are_refused(make) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("threads are counted on Linux only")
    with pytest.raises(EngineError, match="started 1 threads, so no worker can be forked"):
        make(1, "Threaded").render([hostile("a")])


def test_nothing_is_left_when_the_program_is_killed(launch) -> None:
    process, pids = launch("renderer.render(jobs('sleep'))")
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.wait()
    assert all_end(pids)


def test_nothing_is_left_although_a_forked_copy_holds_the_sockets(launch) -> None:
    process, pids = launch(
        "if os.fork() == 0:\n    time.sleep(60)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    process.wait()
    assert all_end(pids)


def test_ctrl_c_ends_everything(launch) -> None:
    process, pids = launch("renderer.render(jobs('sleep'))")
    time.sleep(0.3)
    assert all(alive(pid) for pid in pids)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert all_end(pids)


def test_a_forked_copy_draws_with_workers_of_its_own(launch) -> None:
    process, pids = launch(
        "copy = os.fork()\n"
        "print(sum(drawing.ok for drawing in renderer.render(jobs('plain'))), flush=True)\n"
        "if copy == 0:\n    renderer.close(); os._exit(0)\n"
        "os.waitpid(copy, 0)\n"
        "print(sum(drawing.ok for drawing in renderer.render(jobs('plain'))),"
        " helper == renderer._crew.helper)"
    )
    said, errors = process.communicate(timeout=60)
    assert said.split("\n") == ["4", "4", "4 True", ""], errors
    assert all_end(pids)


def test_renderers_and_ends_of_workers_leave_nothing_open(make) -> None:
    with Renderer(8, 2) as renderer:
        renderer.render([RenderJob("a", SQUARE)])
    before = descriptors()
    for _ in range(4):
        with Renderer(8, 2) as renderer:
            renderer.render([RenderJob("a", SQUARE), RenderJob("b", SQUARE + " ")])
    assert descriptors() == before
    renderer = make(2)
    renderer.render([hostile("a"), hostile("b")])
    before = descriptors()
    kinds = ["memory", "crash", "raise", "plain"] * 5
    renderer.render([hostile(kind, number=n + 1) for n, kind in enumerate(kinds)])
    renderer.render([hostile("a"), hostile("b")])
    assert descriptors() == before


def test_a_worker_that_takes_all_it_can_stays_within_512_megabytes(make) -> None:
    renderer = make(1, limits=RenderLimits())
    [drawing] = renderer.render([hostile("memory")])
    assert drawing.failure.reason == "render_memory"
    renderer.close()
    assert 200 * 2**20 < renderer._crew.peak < 512 * 2**20


def test_hungry_documents_stay_within_512_megabytes() -> None:
    whole = "width='448' height='448'"
    dashes = "L448 448L0 448L448 0" * 1200
    codes = [
        f"<path d='M0 0{dashes}' stroke='red' stroke-dasharray='.01'/>",
        "<g opacity='.9'>" * 60 + f"<rect {whole}/>" + "</g>" * 60,
        f"<mask id='m'><rect {whole}/></mask>" + f"<rect {whole} mask='url(#m)'/>" * 40,
        f"<text font-size='900'>{'WM@漢' * 2000}</text>",
    ]
    for code in codes:
        with Renderer(448, 1) as renderer:
            renderer.render([RenderJob("a", f"<svg viewBox='0 0 448 448'>{code}</svg>")])
            crew = renderer._crew
        assert 20 * 2**20 < crew.peak < 512 * 2**20
