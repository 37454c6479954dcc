"""Reward designs in TOML files: a base design, and what is different.

name = "bold"                # optional; the file's name if it is left out
base = "mm_zero"             # optional; mm_zero if it is left out
summary = "Pays more for difficulty."
label_source = "image"

[proposer]                   # weights of terms, also of those the base has not
difficulty = 2.0

[constants]
solvability_cap = 0.7
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import ROLES

SUFFIX = ".toml"
_TEXTS = ("name", "base", "summary", "label_source")
_TABLES = (*ROLES, "constants")


@dataclass(frozen=True)
class DesignFile:
    """What a file says.

    Attributes:
        name: Name of the design.
        base: Name of the registered design that it changes.
        summary: One sentence, may be empty.
        settings: Overrides of the base, see :meth:`RewardDesign.with_overrides`.
    """

    name: str
    base: str
    summary: str
    settings: Mapping[str, Any]


def read_settings(path: Path) -> DesignFile:
    """Reads a file; whether its settings exist is checked by the design they change.

    Args:
        path: A TOML file with the keys ``name``, ``base``, ``summary`` and
            ``label_source`` and the tables ``proposer``, ``coder``, ``solver`` (weights
            by term) and ``constants``, all of them optional.

    Raises:
        UserError: If the file cannot be read, is no TOML, or has another key or a value
            of the wrong kind. The message names the file, the key and the valid ones.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"reward design {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"reward design {path} is no TOML file: {error}") from error
    try:
        return _design_file(path.stem, values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _design_file(stem: str, values: Mapping[str, Any]) -> DesignFile:
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if key in _TEXTS:
            if not isinstance(value, str) or (not value and key != "summary"):
                raise UserError(f"{key}: expected a text, got {value!r}")
        elif key in _TABLES:
            if not isinstance(value, Mapping):
                raise UserError(f"{key}: expected a table [{key}], got {value!r}")
            for name, setting in value.items():
                settings[name if key == "constants" else f"{key}.{name}"] = setting
        else:
            raise unknown("key", key, (*_TEXTS, *_TABLES))
    if "label_source" in values:
        settings["label_source"] = values["label_source"]
    return DesignFile(
        values.get("name", stem), values.get("base", "mm_zero"), values.get("summary", ""), settings
    )
