"""Files and folders that appear under their name whole or not at all.

A process may be killed between any two instructions. What is being written has a name of
its own, beside the final one and with a leading dot, and takes its place by a rename,
which a file system does in one step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

DRAFT = ".partial"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old or the new text, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old or the new content, never a part."""
    draft = _draft(path)
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """A folder that gets its name when the block ends without an error.

    What lies under the name already is removed just before. Every file is on the disk, not
    only in memory, when the name appears.

    Args:
        path: The final name.

    Yields:
        An empty folder to fill.
    """
    draft = _draft(path)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    for file in draft.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    if path.exists():
        shutil.rmtree(path)
    draft.replace(path)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}{DRAFT}")
