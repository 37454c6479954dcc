"""The version of the installed distribution."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version of ``mmzero-env``, or that it runs from a folder without being installed."""
    try:
        return metadata.version("mmzero-env")
    except metadata.PackageNotFoundError:
        return "(not installed)"
