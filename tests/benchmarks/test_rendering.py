import json

import numpy as np
import pytest

from benchmarks import rendering, svg_corpus
from benchmarks.gallery import Apart, differences
from benchmarks.rendering_memory import measure_memory
from benchmarks.rendering_paths import (
    NATIVE,
    RESIZED,
    Timings,
    all_ways,
    load_backends,
    published,
    refusals,
)
from mmzero_env.protocol import Drawing
from mmzero_env.rendering import BACKENDS
from tests.trainers.html_page import Page

RED = '<svg xmlns="http://www.w3.org/2000/svg" width="6" height="4"><rect width="6" height="4" fill="red"/></svg>'  # noqa: E501


def test_the_command_measures_every_path_and_writes_the_same_figures(tmp_path, capsys) -> None:
    target = tmp_path / "figures.json"
    rendering.main(["--quick", "--limit", "2", "--json", str(target)])
    found = json.loads(target.read_text())
    figures = found["figures"]
    loaded = load_backends()
    assert list(figures["paths"]) == [NATIVE, RESIZED, "guard alone", *loaded.backends]
    assert figures["skipped_backends"] == loaded.missing
    assert figures["paths"][NATIVE]["times_native"] == 1
    assert 0 < figures["paths"]["cairosvg"]["guard_share"] < 1
    assert figures["files"] + len(figures["left_out"]) == 2
    assert all(each > 0 for each in figures["pool"]["first_picture_seconds"])
    printed = capsys.readouterr().out
    assert "machine and versions" in printed and found["machine"]["numpy"] in printed
    shown = {aim["what"]: aim for aim in figures["aims"]}
    times = figures["paths"]["cairosvg"]["times_native"]
    assert shown["cairosvg, times published, all files"]["found"] == times
    claims = {each["what"]: each["median"] for each in found["ratios"]}
    assert claims["published, native size / cairosvg, CPU"] == times
    assert found["command"] == "python -m benchmarks.rendering --quick --limit 2"


def test_the_gallery_holds_an_image_for_every_backend_and_file(tmp_path) -> None:
    rendering.main(["--gallery", "--out", str(tmp_path), "--limit", "3"])
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    backends = load_backends().backends
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    files = svg_corpus.read("valid", 3)
    assert {image["alt"] for image in images} >= {
        f"{file} drawn by {name}" for file in files for name in backends
    }
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert not {tag for tag, _ in page.tags} & {"script", "svg", "link", "iframe"}


def test_the_gallery_names_a_backend_that_does_not_load(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "absent", "no_such_module:Backend")
    rendering.main(["--gallery", "--out", str(tmp_path), "--limit", "1"])
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "absent is not shown" in text and "no_such_module" in text
    assert load_backends().missing["absent"].startswith("ModuleNotFoundError")


def test_the_published_path_draws_the_claimed_size_or_the_one_asked_for() -> None:
    assert published(RED).shape == (4, 6, 3)
    assert published(RED, 12).shape == (12, 12, 3)
    assert published(RED)[2, 3].tolist() == [255, 0, 0]


def test_a_file_that_some_path_cannot_draw_is_named() -> None:
    backends = load_backends().backends
    found = refusals(all_ways(backends), {"good": RED, "no size": "<svg/>", "broken": "<svg"})
    assert "good" not in found
    assert NATIVE in found["no size"]
    assert set(found["broken"]) == {NATIVE, RESIZED, "guard alone", *backends}


def test_ratios_are_the_median_over_rounds() -> None:
    seconds = np.array([[[4.0, 2.0], [9.0, 1.0], [3.0, 3.0]], [[1.0, 1.0], [1.0, 1.0], [3.0, 3.0]]])
    timings = Timings(("slow", "fast"), seconds)
    assert timings.ratio("slow", "fast") == 3.0
    assert timings.milliseconds("slow") == [3000.0, 5000.0, 3000.0]
    assert timings.ratios("slow", "fast") == [3.0, 5.0, 1.0]
    # Per file the rounds' ratios are (4, 9, 1) and (2, 1, 1).
    assert timings.file_ratio("slow", "fast") == 2.5


def test_differences_are_sorted_and_leave_small_steps_out() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    near, far = white - 10, white.copy()
    far[0, 0] = 0
    found = differences(
        ["same", "near", "far", "failed"],
        {
            "a": [Drawing(white), Drawing(white), Drawing(white), Drawing(white)],
            "b": [Drawing(white), Drawing(near), Drawing(far), Drawing(None)],
        },
    )
    shown = [(each.file, each.pairs) for each in found]
    assert shown == [
        ("far", (Apart(0.25, 63.75),)),
        ("near", (Apart(0.0, 10.0),)),
        ("failed", (None,)),
        ("same", (Apart(0.0, 0.0),)),
    ]


def test_two_names_of_one_backend_are_measured_once(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "again", BACKENDS["cairosvg"])
    loaded = load_backends()
    assert loaded.aliases["cairosvg"] == "again"
    assert "cairosvg" not in loaded.backends and "again" in loaded.backends


def test_a_limit_spreads_over_the_corpus_and_must_be_positive(capsys) -> None:
    names = list(svg_corpus.read("valid"))
    assert len(names) >= 48
    assert list(svg_corpus.read("valid", 2)) == [names[0], names[len(names) // 2]]
    assert list(svg_corpus.read("valid", 1000)) == names
    assert rendering.main(["--limit", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err


def test_the_corpus_stays_small() -> None:
    sizes = [len(code.encode()) for code in svg_corpus.read("valid").values()]
    assert all(300 <= size <= 12_288 for size in sizes)
    assert sum(sizes) <= 250 * 1024


def test_memory_of_a_worker_is_at_least_that_of_an_interpreter() -> None:
    found = measure_memory("cairosvg", 2, "valid")
    assert found.outcomes == {"drawn": 2}
    assert found.peak_mib > 10
    with pytest.raises(RuntimeError, match="no_such_backend"):
        measure_memory("no_such_backend", 1)
