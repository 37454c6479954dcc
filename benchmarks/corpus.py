"""The SVG files that the rendering benchmark and its gallery draw."""

from __future__ import annotations

from pathlib import Path

from mmzero_env.errors import UserError

FOLDER = Path(__file__).parent / "svg_corpus"


def read(kind: str, limit: int | None = None) -> dict[str, str]:
    """Files of one part of the corpus.

    Args:
        kind: Name of a folder: ``"valid"``, ``"malformed"`` or ``"hostile"``.
        limit: Take only so many, spread evenly over the sorted names; all when None.

    Returns:
        Source by file name, in the order of names; empty when there is no such folder.

    Raises:
        UserError: The limit is not positive.
    """
    if limit is not None and limit < 1:
        raise UserError(f"the limit must be 1 or more files, got {limit}.")
    files = sorted((FOLDER / kind).glob("*.svg"))
    if limit is not None and limit < len(files):
        files = [files[index * len(files) // limit] for index in range(limit)]
    # Bytes that are no UTF-8 become lone surrogates, which the guard refuses by name.
    return {file.name: file.read_text(encoding="utf-8", errors="surrogateescape") for file in files}
