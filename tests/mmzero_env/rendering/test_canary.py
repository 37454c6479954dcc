"""Drawn without the guard, these documents read a file or call a server; guarded, none does.

The file is a named pipe: nobody can open it unnoticed. The server listens on loopback.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cairosvg
import numpy as np
import pytest
from lxml import etree
from PIL import Image

from benchmarks.svg_corpus import FOLDER, documents, text_of
from mmzero_env.errors import EngineError
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import BACKENDS, Renderer
from mmzero_env.rendering.backends import load_backend

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 20 20" width="20" height="20">'
)
RECT = '<rect width="9" height="9" fill="teal"/>'

# What to write; CANARY stands for the address of the canary.
DOCUMENTS = {
    "image": HEAD + '<image href="CANARY" width="9" height="9"/></svg>',
    "image, old spelling": HEAD + '<image xlink:href="CANARY" width="9" height="9"/></svg>',
    "image in a nested svg": HEAD + '<svg><image href="CANARY" width="9" height="9"/></svg></svg>',
    "image in a pattern": HEAD
    + '<pattern id="p" width="9" height="9" patternUnits="userSpaceOnUse">'
    '<image href="CANARY" width="9" height="9"/></pattern><rect width="20" height="20" '
    'fill="url(#p)"/></svg>',
    "image in a data image": HEAD
    + '<image width="9" height="9" href="data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/'
    "2000/svg%22 width=%229%22 height=%229%22%3E%3Cimage href=%22CANARY%22 width=%229%22 "
    'height=%229%22/%3E%3C/svg%3E"/></svg>',
    "use": HEAD + '<use href="CANARY#a"/></svg>',
    "use, old spelling": HEAD + '<use xlink:href="CANARY#a"/></svg>',
    "tref": HEAD + '<text y="9">a<tref xlink:href="CANARY#a"/></text></svg>',
    "import": HEAD + f"<style>@import url(CANARY);</style>{RECT}</svg>",
    "import of a string": HEAD + f'<style>@import "CANARY";</style>{RECT}</svg>',
    "import, escaped": HEAD + f"<style>@\\69mport u\\72l(CANARY);</style>{RECT}</svg>",
    "import behind comments": HEAD + f"<style>/* a */@IMPORT/**/'CANARY';</style>{RECT}</svg>",
    "import in CDATA": HEAD + f"<style><![CDATA[@import url(CANARY);]]></style>{RECT}</svg>",
    "entity": '<!DOCTYPE svg [<!ENTITY a SYSTEM "CANARY">]>' + HEAD + "<text>&a;</text></svg>",
    "filter image": HEAD
    + '<filter id="f" x="0" y="0" width="1" height="1"><feImage href="CANARY"/></filter>'
    '<rect width="20" height="20" filter="url(#f)"/></svg>',
    "include": HEAD
    + '<text y="9"><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="CANARY" '
    'parse="text"/></text></svg>',
    "style sheet": f'<?xml-stylesheet type="text/css" href="CANARY"?>{HEAD}{RECT}</svg>',
}

ONLY_LIBRSVG = ("filter image", "include", "style sheet")
LIBRSVG = ctypes.util.find_library("rsvg-2")
LIBRSVG_PROGRAM = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
for name in ("rsvg_handle_new_from_file", "rsvg_handle_get_pixbuf"):
    getattr(library, name).restype = ctypes.c_void_p
handle = library.rsvg_handle_new_from_file(sys.argv[2].encode(), None)
if handle:
    library.rsvg_handle_get_pixbuf(ctypes.c_void_p(handle))
"""


class Canary:
    """A named pipe and a server that take note of every visit."""

    CONTENT = b'<svg xmlns="http://www.w3.org/2000/svg" id="a"/>'

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.visits: list[str] = []
        self.pipe = folder / "canary.svg"
        os.mkfifo(self.pipe)
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.visits.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(canary.CONTENT)

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self.server.serve_forever, daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                # Refused as long as nobody has opened the other end.
                writer = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.001)
                continue
            self.visits.append("file")
            with contextlib.suppress(OSError):
                os.write(writer, self.CONTENT)
            os.close(writer)
            time.sleep(0.002)

    def visited(self) -> list[str]:
        """Visits since the last question."""
        time.sleep(0.02)
        visits, self.visits = self.visits, []
        return visits

    def close(self) -> None:
        self._stop.set()
        self.server.shutdown()
        self.server.server_close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def canary(tmp_path) -> Iterator[Canary]:
    canary = Canary(tmp_path)
    yield canary
    canary.close()


def by_cairosvg(code: str, folder: Path) -> None:
    # It takes relative addresses from the folder of a document only if there is one.
    path = folder / "a.svg"
    path.write_text(code)
    cairosvg.svg2png(bytestring=code.encode(), unsafe=True, url=path.as_uri())


def by_librsvg(code: str, folder: Path) -> None:
    path = folder / "a.svg"
    path.write_text(code)
    # A program of its own: its libraries must not meet those of another backend.
    subprocess.run([sys.executable, "-c", LIBRSVG_PROGRAM, LIBRSVG or "", path], timeout=30)


def by_lxml(code: str, folder: Path) -> None:
    path = folder / "a.svg"
    path.write_text(code)
    etree.parse(path, etree.XMLParser(load_dtd=True, resolve_entities=True)).xinclude()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_without_the_guard_the_canary_sings(canary: Canary, name: str) -> None:
    controls: dict[str, Callable[[str, Path], None]] = {"cairosvg": by_cairosvg}
    addresses = [canary.pipe.as_uri(), f"{canary.origin}/canary.svg"]
    if name == "entity":
        controls = {"lxml": by_lxml}
        addresses = addresses[:1]
    elif name in ONLY_LIBRSVG:
        if LIBRSVG is None:
            pytest.skip("only librsvg would follow this, and it is not installed")
        controls = {"librsvg": by_librsvg}
        addresses = [canary.pipe.as_uri(), "canary.svg"]
    for control, draw in controls.items():
        for address in addresses:
            with contextlib.suppress(Exception):
                draw(DOCUMENTS[name].replace("CANARY", address), canary.folder)
            assert canary.visited(), f"{control} does not follow {address}"


def installed_backends() -> list[str]:
    found = []
    for name, target in sorted(BACKENDS.items()):
        with contextlib.suppress(ImportError, OSError, EngineError):
            load_backend(target)
            found.append(name)
    return found


@pytest.mark.parametrize("backend", installed_backends())
def test_behind_the_guard_it_stays_silent(canary: Canary, backend: str, monkeypatch) -> None:
    # A relative address would mean the folder of the worker.
    monkeypatch.chdir(canary.folder)
    origin = canary.origin
    addresses = [canary.pipe.as_uri(), f"{origin}/canary.svg", "canary.svg", str(canary.pipe)]
    codes = {
        f"{name}, {address}": code.replace("CANARY", address)
        for name, code in DOCUMENTS.items()
        for address in addresses
    }
    for path in documents(FOLDER / "hostile"):
        code = text_of(path.read_bytes()).replace("http://127.0.0.1:9", origin)
        codes[path.stem] = code.replace("file:///etc/hostname", canary.pipe.as_uri())
    with Renderer(size=64, workers=1, backend=backend) as renderer:
        drawings = renderer.render([RenderJob(name, code) for name, code in codes.items()])
    assert canary.visited() == []
    named = dict(zip(codes, drawings, strict=True))
    assert all(drawing.image is not None or drawing.failure for drawing in drawings)
    for name in DOCUMENTS:
        drawn = [named[f"{name}, {address}"].image is not None for address in addresses]
        assert all(drawn) or name == "entity", name


@pytest.mark.parametrize("backend", installed_backends())
def test_a_picture_on_disk_does_not_show(tmp_path, backend: str) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), (255, 0, 255)).save(secret)
    code = f'{HEAD}<image href="{secret.as_uri()}" width="20" height="20"/></svg>'
    png = cairosvg.svg2png(bytestring=code.encode(), unsafe=True)
    unguarded = np.asarray(Image.open(io.BytesIO(png or b"")).convert("RGB"))
    assert unguarded[10, 10].tolist() == [255, 0, 255]
    with Renderer(size=20, workers=1, backend=backend) as renderer:
        [drawing] = renderer.render([RenderJob("a", code)])
    assert drawing.flags == ("image_dropped",)
    assert drawing.image is not None
    assert (drawing.image == 255).all()
