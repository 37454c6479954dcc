"""Corpora of documents: the shipped ones, and those of the folder ``MMZERO_SVG_DIR``.

That folder may have the subfolders ``valid``, ``malformed`` and ``hostile``, with files of
any name in any depth. How bytes become text is said at ``benchmarks.svg_corpus.text_of``.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.svg_corpus import FOLDER, documents, text_of
from benchmarks.svg_corpus.build import built
from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, Failure, RenderJob
from mmzero_env.rendering import BACKENDS, Renderer, vet
from mmzero_env.rendering.backends import load_backend

CPU_SECONDS = 2.0
WALL_SECONDS = 60.0
"""Generous, since the machine may be busy; the CPU time is what a code can be blamed for."""
MEMORY_MB = 512

HARMLESS = '<svg viewBox="0 0 9 9"><rect width="9" height="9" fill="red"/></svg>'
BUILT = built()
GIVEN = Path(os.environ["MMZERO_SVG_DIR"]) if os.environ.get("MMZERO_SVG_DIR") else None


def corpus(kind: str) -> dict[str, Path | bytes]:
    """Documents by the name that their test goes by."""
    found: dict[str, Path | bytes] = {
        f"shipped/{path.relative_to(FOLDER / kind)}": path for path in documents(FOLDER / kind)
    }
    if kind == "hostile":
        found |= {f"built/{name}": data for name, data in BUILT.items()}
    if GIVEN is not None:
        for path in sorted((GIVEN / kind).rglob("*")):
            if path.is_file():
                name = os.fsencode(path.relative_to(GIVEN / kind))
                found[f"given/{name.decode('utf-8', 'backslashreplace')}"] = path
    return found


VALID, MALFORMED, HOSTILE = (corpus(kind) for kind in ("valid", "malformed", "hostile"))


def code_of(document: Path | bytes) -> str:
    return text_of(document if isinstance(document, bytes) else document.read_bytes())


def installed_backends() -> list[str]:
    found = []
    for name, target in sorted(BACKENDS.items()):
        with contextlib.suppress(ImportError, OSError, EngineError):
            load_backend(target)
            found.append(name)
    return found


@pytest.fixture(scope="module", params=installed_backends())
def renderer(request) -> Iterator[Renderer]:
    with Renderer(size=448, workers=1, backend=request.param) as renderer:
        yield renderer


class Usage:
    """CPU time and memory of the processes below this one, looked at every 10 ms."""

    def __init__(self) -> None:
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.peak_kb = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Usage:
        self.start = time.monotonic()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._look()
        self.wall_seconds = time.monotonic() - self.start
        self._stop.set()
        self._thread.join()

    @property
    def cpu_seconds(self) -> float:
        # A worker that came during the call replaces one that ended; its start is not
        # the code's doing.
        ticks = [self.last[pid] - self.first[pid] for pid in self.last]
        return max(ticks, default=0.0)

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._look()

    def _look(self) -> None:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                spent = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
                self.first.setdefault(pid, spent)
                self.last[pid] = spent
                status = Path(f"/proc/{pid}/status").read_text()
                peak = re.search(r"VmHWM:\s*(\d+) kB", status)
                self.peak_kb = max(self.peak_kb, int(peak[1]) if peak else 0)


def descendants(pid: int) -> list[int]:
    """Processes that come from one, by way of /proc; none where there is no such thing."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found


def draw(renderer: Renderer, document: Path | bytes) -> tuple[Drawing, Usage]:
    # The worker has to be there, or its start would be counted.
    renderer.render([RenderJob("harmless", HARMLESS)])
    with Usage() as usage:
        [drawing] = renderer.render([RenderJob("document", code_of(document))])
    return drawing, usage


def assert_named(drawing: Drawing) -> None:
    assert (drawing.image is None) != (drawing.failure is None)
    if drawing.failure is not None:
        assert drawing.failure.stage == "render"
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", drawing.failure.reason)
        assert drawing.failure.detail


@pytest.mark.parametrize("name", VALID)
def test_valid_documents_are_drawn(renderer: Renderer, name: str) -> None:
    drawing, _ = draw(renderer, VALID[name])
    assert drawing.failure is None, drawing.failure
    assert drawing.image is not None
    assert (drawing.image != 255).any(), "the picture is blank"


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_documents_have_a_picture_or_a_reason(renderer: Renderer, name: str) -> None:
    drawing, _ = draw(renderer, MALFORMED[name])
    assert_named(drawing)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_have_a_picture_or_a_reason_in_time(
    renderer: Renderer, name: str
) -> None:
    drawing, usage = draw(renderer, HOSTILE[name])
    assert_named(drawing)
    assert usage.cpu_seconds <= CPU_SECONDS
    assert usage.wall_seconds <= WALL_SECONDS
    assert usage.peak_kb <= MEMORY_MB * 1024


def recorded() -> dict[str, dict]:
    return tomllib.loads((FOLDER / "hostile" / "expected.toml").read_text())


def test_every_hostile_document_has_a_recorded_answer() -> None:
    names = {path.stem for path in documents(FOLDER / "hostile")} | set(BUILT)
    assert set(recorded()) == names
    classes = {name.partition("-")[0] for name in names}
    assert len(names) >= 60
    assert len(classes) >= 10


@pytest.mark.parametrize("name", recorded())
def test_the_guard_answers_as_recorded(name: str) -> None:
    document = BUILT.get(name) or FOLDER / "hostile" / f"{name}.svg"
    verdict = vet(code_of(document))
    answer = recorded()[name]
    if isinstance(verdict, Failure):
        assert answer == {"reason": verdict.reason}, verdict.detail
    else:
        assert answer == {"flags": list(verdict.flags)}


def test_a_given_folder_holds_documents() -> None:
    if GIVEN is None:
        pytest.skip("MMZERO_SVG_DIR is not set")
    assert any(name.startswith("given/") for name in (*VALID, *MALFORMED, *HOSTILE)), (
        f"{GIVEN} has no documents in valid/, malformed/ or hostile/"
    )


def test_a_renderer_that_uses_the_machine_up_would_be_seen() -> None:
    with Renderer(size=64, workers=1) as renderer:
        renderer.render([RenderJob("harmless", HARMLESS)])
        with Usage() as usage:
            many = [RenderJob(str(n), HARMLESS.replace("red", f"rgb({n},0,0)")) for n in range(99)]
            renderer.render(many)
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc to look at")
    assert 0.0 < usage.cpu_seconds < CPU_SECONDS
    assert 10 * 1024 < usage.peak_kb


def test_any_bytes_become_text() -> None:
    rng = random.Random(3)
    starts = (b"", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"<\0", b"\0<")
    for start in starts:
        for size in (0, 1, 2, 3, 5, 300):
            assert isinstance(text_of(start + rng.randbytes(size)), str)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        assert text_of(HARMLESS.encode(encoding)) == HARMLESS
    latin = '<?xml version="1.0" encoding="ISO-8859-1"?><svg>é</svg>'
    assert text_of(latin.encode("latin-1")) == latin
    assert text_of(latin.encode()) == latin
