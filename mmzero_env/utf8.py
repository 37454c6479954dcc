"""Any Python string as text that UTF-8 can hold, and back without loss.

A model may emit lone surrogates, which are legal in a Python string and in no file of
text. They are stored as characters of the last private use plane: U+D800 to U+DFFF as
U+10D800 to U+10DFFF. Where a text has such a character itself, U+10D7FF stands before
it. All other text is stored as it is.
"""

from __future__ import annotations

import re

_MARK = "\U0010d7ff"
_SHIFT = 0x100000
_UNSAFE = re.compile("[\ud800-\udfff\U0010d7ff-\U0010dfff]")
_STORED = re.compile("\U0010d7ff([\U0010d7ff-\U0010dfff])|([\U0010d800-\U0010dfff])")


def escape(text: str) -> str:
    """The text with everything replaced that UTF-8 cannot hold.

    Examples:
        >>> escape("plain"), escape(chr(0xD800)).encode().hex()
        ('plain', 'f48da080')
    """
    return _UNSAFE.sub(_store, text)


def unescape(text: str) -> str:
    """The string that :func:`escape` made a text of."""
    # Python knows this of a string without looking at it.
    return text if text.isascii() else _STORED.sub(_restore, text)


def _store(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(code + _SHIFT) if code < _SHIFT else _MARK + match[0]


def _restore(match: re.Match[str]) -> str:
    return match[1] if match[1] is not None else chr(ord(match[2]) - _SHIFT)
