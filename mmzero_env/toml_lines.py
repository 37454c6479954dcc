"""On which line of a TOML file a key is set.

Parsers of the standard library tell the line of a syntax error and of nothing else. A TOML
document is a list of statements, each of which ends with its line, so the document cut off
behind any statement is a document, and one cut off within a statement is none. The statement
that sets a key is the first one with which the parser finds the key: nothing but the parser
itself decides what a table, a dotted key, a quoted key or a string of many lines is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence


def line_of(text: str, key: Sequence[str]) -> int | None:
    r"""The line on which a key, or the header of a table, is written.

    Args:
        text: A valid TOML document.
        key: Its path from the top, ``("constants", "tolerance")``.

    Returns:
        The first line of its statement, counted from 1; None if the document has no such key.

    Example:
        >>> line_of("[coder]\nrender = 1\n", ("coder", "render"))
        2
    """
    lines = text.split("\n")
    begins = 0
    for end in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _holds(values, key):
            return begins + 1
        begins = end
    return None


def _holds(values: Mapping[str, object], key: Sequence[str]) -> bool:
    value: object = values
    for part in key:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
