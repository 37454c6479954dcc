from __future__ import annotations

import io
import platform
import shutil
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmzero_env.errors import EngineError, UserError
from mmzero_env.rendering import figures
from mmzero_env.rendering.figures import FigureSandbox, missing_for_figures
from mmzero_env.rendering.limits import RenderLimits
from tests.mmzero_env.rendering.drawn import PLT, SIZE, failed, picture

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
