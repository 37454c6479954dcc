from __future__ import annotations

import io
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing
from mmzero_env.rendering import figures
from mmzero_env.rendering.figures import FigureSandbox, missing_for_figures
from mmzero_env.rendering.limits import RenderLimits

ROOT = Path(__file__).resolve().parents[3]
PLT = "import matplotlib.pyplot as plt\n"
SIZE = 96


@pytest.fixture
def possible() -> None:
    missing = missing_for_figures()
    if missing is None:
        return
    # Continuous integration installs bubblewrap: there a skip would hide a defect.
    if os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def sandbox(possible) -> FigureSandbox:
    return FigureSandbox(SIZE, RenderLimits(figure_cpu_seconds=1.0, figure_wall_seconds=20.0))


def picture(drawing: Drawing) -> np.ndarray:
    assert drawing.image is not None, drawing.failure
    assert drawing.failure is None
    assert (drawing.image.shape, drawing.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    return drawing.image


def failed(drawing: Drawing, reason: str) -> str:
    """The detail of a failure that has to be of this reason."""
    assert drawing.image is None
    assert drawing.failure is not None
    assert (drawing.failure.stage, drawing.failure.reason) == ("render", reason), drawing.failure
    return drawing.failure.detail


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


PLOTS = {
    "bar": "plt.bar(['a', 'b', 'c'], [3, 1, 2], color='red')\nplt.title('Sales in $m^2$')",
    "line": "plt.plot([0, 1, 2], [3, 1, 2], 'r', label='x')\nplt.legend()\nplt.show()",
    "pie": "plt.pie([1, 2, 3], labels=list('abc'), colors=['red', 'blue', 'green'])",
    "scatter": (
        "import numpy as np\nx = np.random.rand(30)\n"
        "fig, ax = plt.subplots()\nax.scatter(x, x ** 2, c='red')\nax.annotate('top', (0, 0))"
    ),
    "solid": "ax = plt.figure().add_subplot(projection='3d')\nax.bar3d(0, 0, 0, 1, 1, 1, 'red')",
    "saved": "plt.bar([1, 2], [3, 4], color='red')\nplt.savefig('out.png')\nplt.close()",
    "exit": "plt.bar([1, 2], [3, 4], color='red')\nimport sys\nsys.exit(0)",
    "main": "if __name__ == '__main__':\n    plt.bar([1, 2], [3, 4], color='red')",
    "jpeg": (
        "import os\nos.makedirs('out')\nplt.bar([1, 2], [3, 4], color='red')\n"
        "plt.savefig('out/a.jpg', dpi=200)\nplt.close('all')"
    ),
    "waiting": "import time\nplt.bar([1], [2], color='red')\nplt.pause(500)\ntime.sleep(500)",
    "large": "plt.figure(figsize=(60, 60), dpi=900)\nplt.bar([1, 2], [3, 4], color='red')",
}


@pytest.mark.parametrize("name", PLOTS)
def test_draws_what_plotting_code_makes(sandbox, name) -> None:
    image = picture(sandbox.draw(PLT + PLOTS[name])).astype(int)
    reddish = image[..., 0] - image[..., 1:].max(axis=2) > 60
    assert reddish.sum() > 5
    assert (image.min(axis=2) > 240).mean() > 0.2


def test_draws_with_pillow_alone(sandbox) -> None:
    code = """
    from PIL import Image, ImageDraw, ImageFont
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 99, 99), fill="red")
    font = ImageFont.truetype("DejaVuSans.ttf", 60)
    draw.text((110, 10), "ab", fill="blue", font=font)
    """
    image = picture(sandbox.draw(textwrap.dedent(code)))
    assert (image[:20] == 255).all(), "fitted and centred, white above"
    assert (image[30:60, 5:40] == (255, 0, 0)).all()
    assert (image[24:72, 50:, 2] > image[24:72, 50:, 0]).sum() > 20, "blue letters"


def test_the_figure_in_use_wins_over_others_and_over_files(sandbox) -> None:
    code = (
        "plt.figure(facecolor='red')\nplt.savefig('a.png')\n"
        "plt.figure(1, facecolor='red')\nplt.figure(2, facecolor='blue')\n"
        "plt.figure(3)\nplt.figure(2)"
    )
    drawing = sandbox.draw(PLT + code)
    assert drawing.flags == ("several_figures",)
    assert picture(drawing)[48, 48].tolist() == [0, 0, 255]
    newest = (
        "from PIL import Image\nImage.new('RGB', (9, 9), 'red').save('b.png')\n"
        "Image.new('RGB', (9, 9), 'blue').save('a.png')\nleft = Image.new('RGB', (9, 9), 'green')"
    )
    assert picture(sandbox.draw(newest))[48, 48].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        ("x = 1\ny = (2,\nz = 3\n", "python_syntax", "line 2: '(' was never closed"),
        ("x = 'a\0b'", "python_syntax", "null bytes"),
        ("x = " + "-" * 50_000 + "1", "python_syntax", "nested too deep"),
        (PLT + "plt.bar([1, 2], [1, 2, 3])", "python_error", "line 2: ValueError: shape mismatch"),
        ("def f():\n    return y\n\nf()", "python_error", "line 2: NameError: name 'y' is not"),
        (PLT + r"plt.title('$\frac{1$')", "python_error", "when the figure is drawn: ValueError"),
        ("import requests", "module_unavailable", "no module 'requests'; there are matplotlib"),
        ("import torch.nn as nn", "module_unavailable", "no module 'torch'"),
        ("from matplotlib import nothing", "python_error", "ImportError"),
        ("x = 1", "no_figure", "no matplotlib figure is open"),
        (
            PLT + "plt.plot([1])\nplt.savefig('a.svg')\nplt.close()",
            "no_figure",
            "a.svg is no image",
        ),
        ("import sys\nsys.exit(0)", "no_figure", ""),
        (PLT + "plt.plot([1])\nimport sys\nsys.exit(3)", "early_exit", "sys.exit(3)"),
        (PLT + "plt.plot([1])\nimport os\nos._exit(0)", "early_exit", "status 0"),
        (PLT + "plt.figure(figsize=(200, 1))", "extreme_aspect", "200 x 1, sides at most 1:100"),
        (PLT + "plt.figure(figsize=(999, 999))", "picture_too_large", "999 x 999 inches"),
        (PLT + "plt.plot([1], color='no')\n", "python_error", "'no' is not a valid"),
        ("raise SystemError('a\\nb\\ud800' + 'c' * 9999)", "python_error", "SystemError: a b ccc"),
        ("class E(Exception):\n  __str__ = None\nraise E", "python_error", "E: (its text"),
        ("input()", "python_error", "line 1: EOFError"),
        ("import ctypes\nctypes.string_at(0)", "render_crash", "signal 11, twice"),
        ("import os\nos.kill(os.getpid(), 9)", "render_crash", "signal 9, twice"),
    ],
)
def test_what_goes_wrong_has_a_name_and_a_lesson(sandbox, code, reason, detail) -> None:
    assert detail in failed(sandbox.draw(code), reason)


def test_what_cannot_be_source_is_refused_at_once(possible) -> None:
    small = FigureSandbox(SIZE, RenderLimits(max_bytes=20))
    assert failed(small.draw("#" * 21), "too_large") == "21 characters, at most 20 bytes"
    assert failed(small.draw("#" + "ä" * 11), "too_large") == "23 bytes, at most 20 bytes"
    assert "character 1" in failed(small.draw("#\ud800"), "bad_encoding")


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


def test_image_files_that_lie_are_refused(sandbox) -> None:
    saved = "from PIL import Image, PngImagePlugin\n"
    huge = saved + "Image.new('1', (7_000, 7_000)).save('a.png')"
    assert "pixels" in failed(sandbox.draw(huge), "picture_too_large")
    fake = "open('a.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(99))"
    assert "a.png cannot be read" in failed(sandbox.draw(fake), "bad_picture")
    bomb = saved + (
        "info = PngImagePlugin.PngInfo()\ninfo.add_text('k', 'x' * 50_000_000, zip=True)\n"
        "Image.new('1', (9, 9)).save('a.png', pnginfo=info)"
    )
    assert "too large" in failed(sandbox.draw(bomb), "bad_picture")
    pipe = "import os\nos.mkfifo('a.png')\nos.symlink('/packages/a.png', 'b.png')"
    failed(sandbox.draw(pipe), "no_figure")
    global_huge = "from PIL import Image\nimage = Image.new('1', (7_000, 7_000))"
    failed(sandbox.draw(global_huge), "picture_too_large")


CHANCE = PLT + (
    "import random, numpy as np\n"
    "order = list({'a', 'b', 'c', 'd', 'e', 'f'})\n"
    "plt.bar(order, np.random.rand(6) + np.random.default_rng().random(6))\n"
    "plt.title(f'{random.random()}', family='Arial')\n"
)


def test_pixels_repeat_and_threads_do_not_disturb_each_other(sandbox) -> None:
    codes = [CHANCE, PLT + PLOTS["pie"], CHANCE, "import nothing", PLT + PLOTS["scatter"]]
    alone = [sandbox.draw(code) for code in codes]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(sandbox.draw, codes))
    for one, other in zip(alone, together, strict=True):
        assert one.failure == other.failure
        if one.image is not None:
            np.testing.assert_array_equal(one.image, picture(other))
    np.testing.assert_array_equal(picture(alone[0]), picture(alone[2]))


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


def test_once_too_slow_is_no_verdict(sandbox, monkeypatch) -> None:
    run, ends = sandbox._box.run, []
    monkeypatch.setattr(sandbox, "limits", RenderLimits(figure_wall_seconds=0.4))

    def slow_first(code, size, limits):
        blocked = b"import os\nos.read(os.pipe()[0], 1)"
        ends.append(run(code if ends else blocked, size, limits if not ends else RenderLimits()))
        return ends[-1]

    monkeypatch.setattr(sandbox._box, "run", slow_first)
    picture(sandbox.draw(PLT + PLOTS["bar"]))
    assert [end.status for end in ends] == [None, 0]


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


def test_a_broken_sandbox_stops_the_run(sandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox._box, "_bwrap", shutil.which("false"))
    with pytest.raises(EngineError, match="did not start"):
        sandbox.draw("x = 1")
    monkeypatch.setattr(sandbox._box, "_bwrap", "/nowhere/bwrap")
    with pytest.raises(EngineError, match="cannot be run"):
        sandbox.draw("x = 1")


def fake_bwrap(folder: Path, script: str) -> str:
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_is_missing_is_said_in_one_sentence(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux only" in str(figures.look())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "x86_64 or aarch64, and this one is riscv64" in str(figures.look())
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install bubblewrap" in str(figures.look())
    old = fake_bwrap(tmp_path, "echo bubblewrap 0.6.1")
    monkeypatch.setattr(shutil, "which", lambda name: old)
    assert "0.7 or newer" in str(figures.look())
    assert "is 0.6.1" in str(figures.look())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("bwrap: setting up uid map: Permission denied", "need user namespaces"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "need user namespaces"),
        ("bwrap: Unknown option --size", "failed: bwrap: Unknown option --size."),
    ],
)
def test_a_sandbox_that_does_not_run_is_missing(monkeypatch, tmp_path, words, sentence) -> None:
    pytest.importorskip("matplotlib")
    script = f'[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho "{words}" >&2\nexit 1'
    fake = fake_bwrap(tmp_path, script)
    monkeypatch.setattr(shutil, "which", lambda name: fake)
    monkeypatch.setattr(sys, "platform", "linux")
    said = str(figures.look())
    assert sentence in said
    assert words.split(": ", 1)[1] in said
    monkeypatch.setattr(figures, "_look_once", figures.look)
    assert missing_for_figures() == said
    with pytest.raises(UserError, match="Python figures"):
        FigureSandbox(SIZE, RenderLimits())


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="size must be 1 to 4096"):
        FigureSandbox(0, RenderLimits())


def test_the_picture_is_what_matplotlib_draws(sandbox) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    figure.subplots().bar([1, 2], [3, 4])
    file = io.BytesIO()
    figure.savefig(file, dpi=SIZE / 2)
    expected = np.asarray(Image.open(file).convert("RGB"))
    drawn = picture(sandbox.draw(PLT + "plt.figure(figsize=(2, 2))\nplt.bar([1, 2], [3, 4])"))
    np.testing.assert_array_equal(drawn, expected)
