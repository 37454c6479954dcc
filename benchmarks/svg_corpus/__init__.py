"""Documents that a renderer has to stand: hostile and malformed ones, and valid ones.

* ``hostile/``: attempts to reach files or the network, to use up time or memory, or to
  get past the guard by way of spelling. ``expected.toml`` beside them says what the guard
  answers to each: a reason, or the flags of a harmless drawing. The class of a file is
  the first word of its name. Large ones are built by :mod:`.build`.
* ``malformed/``: what models write when they fail to write SVG.
* ``valid/``: pictures that have to be drawn.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.svg_corpus.build import built
from mmzero_env.errors import UserError

FOLDER = Path(__file__).parent
LARGEST = 2**20
"""Bytes that are looked at; four times what the guard lets through."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_DECLARED = re.compile(
    rb"<\?xml[^>]{0,80}encoding=[\"']((?:iso-8859|windows)-[\w-]{1,10})[\"']", re.I
)


def text_of(data: bytes) -> str:
    """The text that a file stands for, whatever it holds. Never raises.

    The guard reads text, as a model writes it; this is how bytes become text:

    1. gzip (``.svgz``) is unpacked, up to :data:`LARGEST` bytes; what cannot be unpacked
       stays as it is.
    2. A byte-order mark decides, or else two first bytes that only UTF-16 has.
    3. Otherwise it is UTF-8; a file that is not, and declares ISO-8859 or Windows
       characters, is read as these.
    4. Bytes that fit nothing become lone surrogates, which the guard refuses by name.

    Args:
        data: Content of a file.
    """
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(data)
    data = data[:LARGEST]
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            if mark[:1] not in (b"<", b"\0") or mark == codecs.BOM_UTF32_BE:
                data = data[len(mark) :]
            return data.decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        declared = _DECLARED.match(data)
    if declared:
        try:
            return data.decode(declared[1].decode("ascii"), "replace")
        except LookupError:
            pass
    return data.decode("utf-8", "surrogateescape")


def documents(folder: Path) -> Iterator[Path]:
    """The documents of a shipped corpus, sorted: its files, without notes about them."""
    yield from sorted(folder.rglob("*.svg"))


def read(kind: str, limit: int | None = None) -> dict[str, str]:
    """One part of the shipped corpus, built documents included, as text.

    Args:
        kind: ``"valid"``, ``"malformed"`` or ``"hostile"``.
        limit: Take only so many, spread evenly over the sorted names; all when None.

    Returns:
        Source by file name, in the order of names.

    Raises:
        UserError: The limit is not positive.
    """
    if limit is not None and limit < 1:
        raise UserError(f"the limit must be 1 or more files, got {limit}.")
    found = {path.name: path.read_bytes() for path in documents(FOLDER / kind)}
    if kind == "hostile":
        found |= {f"{name}.svg": data for name, data in built().items()}
    names = sorted(found)
    if limit is not None and limit < len(names):
        names = [names[index * len(names) // limit] for index in range(limit)]
    return {name: text_of(found[name]) for name in names}


def _unpacked(data: bytes) -> bytes:
    try:
        # 16: with the header of gzip.
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, LARGEST)
    except zlib.error:
        return data
