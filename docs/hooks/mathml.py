"""Typesets formulas as MathML when the site is built: browsers draw it, no script is needed."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)


# Of reStructuredText, which docstrings are read as by other tools.
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):(?=<code>)|(?<=:):(?=</p>)")


def on_page_content(content: str, **_: object) -> str:
    """Replaces every formula of a page, and drops the role marks of docstrings.

    A formula that cannot be read stops the build.
    """
    return _FORMULA.sub(_typeset, _ROLE.sub("", content))


def _typeset(found: re.Match[str]) -> str:
    display = "block" if found["open"] == "[" else "inline"
    return convert(html.unescape(found["tex"]).strip(), display=display)
