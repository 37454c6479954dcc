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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import ROLES
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.roles import TERMS
from mmzero_env.toml_lines import line_of

SUFFIX = ".toml"
_TEXTS = ("name", "base", "summary", "label_source")
_TABLES = (*ROLES, "constants")


@dataclass(frozen=True)
class DesignFile:
    """What a file says.

    Attributes:
        path: The file.
        text: Its content.
        name: Name of the design.
        base: Name of the registered design that it changes.
        summary: One sentence, may be empty.
        settings: Overrides of the base, see :meth:`RewardDesign.with_overrides`.
    """

    path: Path
    text: str
    name: str
    base: str
    summary: str
    settings: Mapping[str, Any]

    def error(self, setting: str, message: object) -> UserError:
        """The error for a setting of the file: the file, the line, what is wrong.

        Args:
            setting: ``"base"``, ``"label_source"``, or a key of :attr:`settings`.
            message: What is wrong with it.
        """
        if setting in _TEXTS:
            key: tuple[str, ...] = (setting,)
        elif "." in setting:
            key = tuple(setting.split(".", 1))
        else:
            key = ("constants", setting)
        return _at(self.path, self.text, key, message)


def read_settings(path: Path) -> DesignFile:
    """Reads a file; whether the values fit is checked by the design they change.

    Args:
        path: A TOML file with the keys ``name``, ``base``, ``summary`` and
            ``label_source`` and the tables ``proposer``, ``coder``, ``solver`` (weights
            by term) and ``constants``, all of them optional.

    Raises:
        UserError: If the file cannot be read, is no TOML, has a key, a term or a constant
            that does not exist, or a value of the wrong kind. The message names the file,
            the line, and the valid names.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"reward design {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"reward design {path} is no TOML file: {error}") from error
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if key in _TEXTS:
            if not isinstance(value, str) or (not value and key != "summary"):
                raise _at(path, text, (key,), f"{key}: expected a text, got {value!r}")
        elif key in _TABLES:
            if not isinstance(value, Mapping):
                raise _at(path, text, (key,), f"{key}: expected a table [{key}], got {value!r}")
            kind, valid = _names(key)
            for name, setting in value.items():
                if name not in valid:
                    raise _at(path, text, (key, name), unknown(kind, name, valid))
                settings[name if key == "constants" else f"{key}.{name}"] = setting
        else:
            raise _at(path, text, (key,), unknown("key", key, (*_TEXTS, *_TABLES)))
    if "label_source" in values:
        settings["label_source"] = values["label_source"]
    return DesignFile(
        path,
        text,
        values.get("name", path.stem),
        values.get("base", "mm_zero"),
        values.get("summary", ""),
        settings,
    )


def _names(table: str) -> tuple[str, tuple[str, ...]]:
    """What the keys of a table are, and which there are."""
    if table == "constants":
        return "constant", tuple(item.name for item in fields(Constants))
    return f"{table} term", tuple(TERMS[table])


def _at(path: Path, text: str, key: tuple[str, ...], message: object) -> UserError:
    line = line_of(text, key)
    return UserError(f"{path}, line {line}: {message}" if line else f"{path}: {message}")
