"""Lines of keys, in every way in which TOML lets one write them."""

from __future__ import annotations

import pytest

from mmzero_env.toml_lines import line_of

TEXT = '''# a = 1
title = "a = 1"

[a]
b.c = 1
"d e" = [
    1,  # f = 2
]
g = """
h = 3
"""

[[i]]
j = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 2),
        (("a",), 4),
        (("a", "b"), 5),
        (("a", "b", "c"), 5),
        (("a", "d e"), 6),
        (("a", "g"), 9),
        (("i",), 13),
        (("a", "f"), None),
        (("h",), None),
        (("b", "c"), None),
        (("title", "a"), None),
    ],
)
def test_the_line_of_a_key(key: tuple[str, ...], line: int | None) -> None:
    assert line_of(TEXT, key) == line
    assert line_of(TEXT.replace("\n", "\r\n"), key) == line
