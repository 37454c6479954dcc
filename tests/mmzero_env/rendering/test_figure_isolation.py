from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from mmzero_env.rendering.figures import FigureSandbox
from mmzero_env.rendering.limits import RenderLimits
from tests.mmzero_env.rendering.drawn import PLT, SIZE, failed, picture

ROOT = Path(__file__).resolve().parents[3]


def outside(code: str, **environment: str) -> str:
    """What a code says in a plain process: the proof that it would find what it looks for."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        "import signal\nfor each in (24, 27): signal.signal(each, signal.SIG_IGN)\n"
        "signal.setitimer(signal.ITIMER_PROF, 0)\nwhile True: pass",
        "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E",
        "import resource, signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\n"
        "try: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nexcept ValueError: pass\n"
        "while True: pass",
    ],
)
def test_cpu_time_is_limited_whatever_the_code_does(sandbox, code) -> None:
    assert "CPU time" in failed(sandbox.draw(code), "render_timeout")


@pytest.mark.parametrize(
    "code",
    [
        "kept = []\nwhile True: kept.append(bytearray(10 ** 6))",
        "import numpy as np\nnp.ones((10 ** 5, 10 ** 5))",
        "import resource\ntry: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "except ValueError: pass\nbytearray(10 ** 9)",
        "import mmap\nkept = [mmap.mmap(-1, 10 ** 8) for _ in range(9)]",
        PLT + "plt.figure(figsize=(90, 90), dpi=900)\nplt.savefig('a.png')",
    ],
)
def test_memory_is_limited(sandbox, code) -> None:
    drawing = sandbox.draw(code)
    if "mmap" in code:
        assert "Cannot allocate memory" in failed(drawing, "python_error")
    else:
        assert "256 MiB" in failed(drawing, "render_memory")


def test_memory_beside_the_address_space_is_limited_too(sandbox) -> None:
    fill = "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'wb').write(bytes(10 ** 6))"
    assert "No space left" in failed(sandbox.draw(fill), "python_error")
    large = "file = open('/tmp/a', 'wb')\nwhile True: file.write(bytes(10 ** 6))"
    detail = failed(sandbox.draw(large), "python_error")
    assert "File too large" in detail or "No space left" in detail
    many = (
        "import os\nn = 0\nwhile True:\n    n += 1\n    os.close(os.open(f'/tmp/{n}', os.O_CREAT))"
    )
    failed(sandbox.draw(many), "too_many_files")
    for code in ("import os\nos.memfd_create('a')", "import socket\nsocket.socketpair()"):
        assert "Operation not permitted" in failed(sandbox.draw(code), "python_error")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['/python/bin/python', '-c', '1'])",
        "import threading\nthreading.Thread(target=print).start()",
        "import os\nos.posix_spawn('/python/bin/python', ['python'], {})",
        "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()",
    ],
)
def test_no_second_process_or_thread_can_be_started(sandbox, code) -> None:
    detail = failed(sandbox.draw(code), "python_error")
    assert "Operation not permitted" in detail or "can't start new thread" in detail


def reads(path: Path | str) -> str:
    return f"raise RuntimeError(open({str(path)!r}).read(200))"


def test_files_of_the_machine_cannot_be_read(sandbox, tmp_path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("canary-words")
    with tempfile.NamedTemporaryFile("w", dir=Path.home(), prefix=".canary-") as homely:
        homely.write("canary-words")
        homely.flush()
        for path in (canary, homely.name):
            assert "RuntimeError: canary-words" in outside(reads(path))
            detail = failed(sandbox.draw(reads(path)), "python_error")
            assert "FileNotFoundError" in detail
    for path in (__file__, "/etc/passwd", "/proc/1/cmdline", "/proc/self/mountinfo"):
        assert "RuntimeError" in outside(reads(path))
        assert "FileNotFoundError" in failed(sandbox.draw(reads(path)), "python_error")


def test_the_tree_inside_is_what_drawing_needs(sandbox) -> None:
    code = "import os\nraise RuntimeError(sorted(os.listdir('/')), os.listdir('/etc'), os.getuid())"
    detail = failed(sandbox.draw(code), "python_error")
    known = {
        "bytecode",
        "dev",
        "etc",
        "lib",
        "lib64",
        "packages",
        "program",
        "python",
        "tmp",
        "usr",
    }
    inside = detail[detail.index("[") + 1 : detail.index("]")].replace("'", "").split(", ")
    assert set(inside) <= known
    assert "['ld.so.cache'], 65534" in detail


def test_nothing_outside_can_be_written(sandbox, tmp_path) -> None:
    for path in (tmp_path / "a", "/a", "/dev/a", "/usr/lib/a", "/packages/a", "/python/a"):
        code = f"open({str(path)!r}, 'w')"
        detail = failed(sandbox.draw(code), "python_error")
        assert "Read-only file system" in detail or "FileNotFoundError" in detail
    assert list(tmp_path.iterdir()) == []
    kept = "import os\nseen = os.path.exists('/tmp/left')\nopen('/tmp/left', 'w')\nraise E(seen)"
    code = f"E = RuntimeError\n{kept}"
    for _ in range(2):
        assert "RuntimeError: False" in failed(sandbox.draw(code), "python_error"), "no state stays"


def test_the_network_of_the_machine_cannot_be_reached(sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[bytes] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    accepted.append(connection.recv(20))

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        code = (
            "import socket\n"
            f"with socket.create_connection(('127.0.0.1', {port}), 5) as way: way.send(b'hello')"
        )
        assert outside(code) == ""
        deadline = time.monotonic() + 20
        while not accepted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert accepted == [b"hello"]
        assert "PermissionError" in failed(sandbox.draw(code), "python_error")
        assert accepted == [b"hello"]
        server.shutdown(socket.SHUT_RDWR)


def test_without_the_filter_the_network_is_still_empty(possible, monkeypatch) -> None:
    sandbox = FigureSandbox(SIZE, RenderLimits())
    # An empty program is none: allow everything.
    monkeypatch.setattr(sandbox._box, "_filter", bytes.fromhex("06000000 0000ff7f"))
    code = (
        "import socket\nraise RuntimeError(socket.if_nameindex(), "
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('9.9.9.9', 53)))"
    )
    assert "[(1, 'lo')], 101)" in failed(sandbox.draw(code), "python_error"), "ENETUNREACH"


def test_signals_reach_nobody(sandbox) -> None:
    code = f"""
    import os
    for pid in (1, os.getppid(), {os.getpid()}, {os.getppid()}, -1):
        for number in (9, 15):
            try:
                os.kill(pid, number)
            except OSError:
                pass
    import matplotlib.pyplot as plt
    plt.bar([1], [2])
    """
    picture(sandbox.draw(textwrap.dedent(code)))


def test_environment_and_processes_of_the_machine_are_invisible(sandbox, monkeypatch) -> None:
    monkeypatch.setenv("CANARY", "canary-words")
    code = "import os\nraise RuntimeError(os.environ.get('CANARY'), os.path.exists('/proc'))"
    assert "('canary-words', True)" in outside(code)
    assert "RuntimeError: (None, False)" in failed(sandbox.draw(code), "python_error")
    code = "import os\nraise RuntimeError(sorted(os.environ), os.getpid())"
    detail = failed(sandbox.draw(code), "python_error")
    assert "['HOME', 'LANG', 'LD_LIBRARY_PATH', 'MPLBACKEND'" in detail


def test_gigabytes_of_words_go_nowhere(sandbox) -> None:
    code = """
    import os, sys
    for _ in range(200):
        os.write(1, bytes(10 ** 7))
    sys.stdout.write("x" * 10 ** 7)
    sys.stderr.write("x" * 10 ** 7)
    import matplotlib.pyplot as plt
    plt.bar([1], [2])
    """
    picture(sandbox.draw(textwrap.dedent(code)))


PIPE = """
import os
for number in range(3, 64):
    try:
        os.fstat(number)
        way = number
    except OSError:
        pass
"""


def test_a_forged_report_hurts_only_its_code(sandbox) -> None:
    flood = PIPE + "while True: os.write(way, bytes(10 ** 6))"
    assert "channel" in failed(sandbox.draw(flood), "bad_output")
    for forged in ("b'rubbish'", "bytes(9)", r"b'\0\0\0\2{}' + b'x' * 99"):
        code = PIPE + f"os.write(way, {forged})\nos._exit(0)"
        assert "channel" in failed(sandbox.draw(code), "bad_output")
    own = PIPE + (
        """head = b'{"flags": []}'\n"""
        "os.write(way, len(head).to_bytes(4, 'big') + head)\n"
        f"os.write(way, bytes({SIZE * SIZE * 3}))\nos._exit(0)"
    )
    assert (picture(sandbox.draw(own)) == 0).all()


def processes_of(mark: str) -> list[int]:
    """Processes whose command line has a mark in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(int(entry.name))
    return found


def test_the_wall_clock_is_the_last_resort_and_leaves_nobody(possible) -> None:
    limits = RenderLimits(figure_wall_seconds=0.5)
    sandbox = FigureSandbox(SIZE, limits)
    started = time.monotonic()
    blocked = "import os\nos.read(os.pipe()[0], 1)"
    assert "0.5 s, twice" in failed(sandbox.draw(blocked), "render_timeout")
    assert time.monotonic() - started > 1.0
    assert processes_of(sandbox._box._store.name) == []


def test_a_sandbox_dies_with_its_owner(possible, tmp_path) -> None:
    program = (
        "from mmzero_env.rendering.figures import FigureSandbox\n"
        "from mmzero_env.rendering.limits import RenderLimits\n"
        "limits = RenderLimits(figure_cpu_seconds=600, figure_wall_seconds=600)\n"
        "sandbox = FigureSandbox(64, limits)\n"
        "print('ready', flush=True)\n"
        "sandbox.draw('while True: pass')\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 30
        while len(processes_of(str(tmp_path))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(processes_of(str(tmp_path))) >= 2
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    deadline = time.monotonic() + 30
    while processes_of(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(str(tmp_path)) == []
