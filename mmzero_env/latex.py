"""LaTeX answers turned into plain text: a fraction macro becomes ``1/2``.

Covers what a short answer can hold: fractions, roots, font and text wrappers,
spacing, operators, Greek letters, accents dropped. A macro it does not know
vanishes and its braces fall away, which is also what the usual converters do. One
pass over the text, nesting capped, so no input makes it slow.
"""

from __future__ import annotations

import re
import unicodedata

MAX_DEPTH = 30

_FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
# Wrappers that leave only their argument.
_PLAIN_WRAPPERS = frozenset(
    "text textbf textit textrm textsc textup emph mathrm mathbf boxed fbox underline "
    "overline operatorname cancel".split()
)
# Wrappers whose letters become other characters or vanish: kept apart from plain
# letters, since \mathbb{R} is not R.
_STYLED = {"mathit": "𝑖", "mathbb": "𝔹", "mathcal": "𝒞", "mathsf": "𝗌", "mathfrak": "𝔣"}
_DROPPED_WITH_ARGUMENT = frozenset("mbox texttt label vspace hspace".split())
_ACCENTS = {"bar": "\u0305", "hat": "\u0302", "vec": "\u20d7", "tilde": "\u0303", "dot": "\u0307"}
_SYMBOLS = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "infty": "∞", "cup": "∪",
    "cap": "∩", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "neq": "≠", "approx": "≈",
    "sim": "∼", "equiv": "≡", "circ": "∘", "to": "→", "rightarrow": "→", "leftarrow": "←",
    "Rightarrow": "⇒", "in": "∈", "subset": "⊂", "angle": "∠", "langle": "⟨", "rangle": "⟩",
    "ldots": "…", "dots": "…", "cdots": "⋯", "star": "⋆", "square": "□", "textdegree": "°",
    "backslash": "\\", "prime": "'", "emptyset": "∅", "varnothing": "∅", "perp": "⊥",
    "quad": " ", "qquad": " ", "parallel": "∥", "lfloor": "⌊", "rfloor": "⌋",
}  # fmt: skip
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max min "
    "gcd det".split()
)
_MACRO = re.compile(r"\\(?:([A-Za-z]+)\*?[ \t\r\n]*|(.)|$)", re.DOTALL)


def plain_text(text: str, *, grouped: bool = False) -> str:
    r"""The text with its LaTeX commands resolved.

    Args:
        text: A short answer, with or without LaTeX.
        grouped: Write round brackets where LaTeX braces decided what belongs to a
            fraction or an exponent; without it ``\frac{a+b}{2}`` reads ``a+b/2``.

    Returns:
        Plain text; braces that only grouped are gone, escaped ones stay.
    """
    return _Converter(text, grouped).until(None, 0)


class _Converter:
    """One pass over a text, with a cursor."""

    def __init__(self, text: str, grouped: bool) -> None:
        self._text = text
        self._grouped = grouped
        self._at = 0

    def until(self, closer: str | None, depth: int) -> str:
        """Converts from the cursor to the closing mark and steps over it."""
        out: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\\":
                out.append(self._macro(depth))
                continue
            self._at += 1
            if char == closer:
                break
            if char == "{" and depth < MAX_DEPTH:
                inside = self.until("}", depth + 1)
                power = self._grouped and out and out[-1] == "^"
                out.append(f"({inside})" if power else inside)
            elif char not in "{}":
                out.append(" " if char == "~" else char)
        return "".join(out)

    def _argument(self, depth: int) -> str:
        """One macro argument: a group, a macro, or the next character."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        char = self._text[self._at : self._at + 1]
        if char == "\\" and depth < MAX_DEPTH:
            return self._macro(depth + 1)
        self._at += 1
        return self.until("}", depth + 1) if char == "{" and depth < MAX_DEPTH else char

    def _macro(self, depth: int) -> str:
        match = _MACRO.match(self._text, self._at)
        assert match is not None, "the pattern matches any backslash"
        name, mark = match.groups()
        self._at = match.end()
        if name is None:
            return _escaped(mark or "")
        if name in _FRACTIONS:
            top, bottom = self._argument(depth), self._argument(depth)
            return f" (({top})/({bottom}))" if self._grouped else f" {top}/{bottom}"
        if name == "sqrt":
            if self._text[self._at : self._at + 1] == "[":
                self._at += 1
                self.until("]", depth + 1)
            return f"√({self._argument(depth)})"
        if name in _PLAIN_WRAPPERS:
            return self._argument(depth)
        if name in _STYLED:
            return _STYLED[name] + self._argument(depth)
        if name in _ACCENTS:
            return self._argument(depth) + _ACCENTS[name]
        if name in _DROPPED_WITH_ARGUMENT:
            self._argument(depth)
            return ""
        return name if name in _FUNCTIONS else _SYMBOLS.get(name) or _greek(name)


def _escaped(mark: str) -> str:
    if mark == "\\":
        return "\n"
    if mark and mark in ",;: \n\t":
        return " "
    return mark if mark in "%$#&_{}" else ""


def _greek(name: str) -> str:
    size = "CAPITAL" if name[0].isupper() else "SMALL"
    spelled = {"lambda": "LAMDA"}.get(name.lower(), name.upper())
    try:
        return unicodedata.lookup(f"GREEK {size} LETTER {spelled}")
    except KeyError:
        return ""
