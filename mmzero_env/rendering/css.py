"""The CSS of a document, reduced to what is known to be harmless.

A value stays only if it is made of words, numbers, plain strings, known functions and
``url(#id)``; a selector only if it is made of names, combinators and known
pseudo-classes. What does not look like that at first sight (escapes, comments,
at-rules, odd quotes) is read by tinycss2 as a browser would read it, and its parts are
written down again and looked at in the same way. So no spelling gets past: what is left
is text in which nothing can hide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import tinycss2

from mmzero_env.rendering.vocabulary import FUNCTIONS, PROPERTIES

Flags = dict[str, None]

# Every pattern here has to be read in linear time: the text is the model's, not ours.
_SIMPLE = re.compile(r"[\w\s.,%+#-]*", re.ASCII)
# No quote of the other kind, bracket or backslash: such a string ends where it seems to.
_STRING = re.compile(r"\"[^\"'\\\n\r\f{}()<>;/@]*\"|'[^\"'\\\n\r\f{}()<>;/@]*'")
_URL = re.compile(r"url\(([^()]*)\)", re.IGNORECASE)
_LOCAL_URL = re.compile(r"url\(#[^\s'\"()\\<>{};,]+\)")
_CHARACTERS = re.compile(r"[\w\s.,%+#*/!()^-]*")
_BEFORE_NAME = re.compile(r"[\s,)/*+!]")
_INNERMOST = re.compile(r"\([^()]*\)")
# Beyond this many brackets inside each other nothing is meant to be read.
_NESTING = 8
_FETCHING = re.compile(r"(?:url|image|image-set|src|cross-fade|paint|element)\(", re.IGNORECASE)
_ENDLESS = re.compile(r"\d{100}")
_AT_RULES = frozenset(("media", "keyframes", "charset", "supports", "page"))
_AT_FETCHING = frozenset(("import", "namespace", "font-face", "document"))

# What the quick way through a sheet leaves to tinycss2.
_QUOTED = re.compile(r"[\"'\\]")
_ODD_SHEET = re.compile(r"[\\@\[\]]|/\*|<!--|-->")
_PSEUDO = re.compile(
    r":(?:root|empty|(?:first|last|only)-(?:child|of-type))(?![\w-])"
    r"|:nth-(?:last-)?(?:child|of-type)\( ?(?:odd|even|[+-]?\d{0,4}n?(?: ?[+-] ?\d{1,4})?) ?\)"
    r"|:(?:not|is|where)\( ?[\w.#*-]+(?: ?, ?[\w.#*-]+)* ?\)",
    re.IGNORECASE,
)
# A picture has no pointer and no focus, and nothing is inserted into it.
_NEVER_SEEN = re.compile(
    r":(?:hover|active|focus|visited|link|target|:?before|:?after|:?selection)"
)
_BRACKETED = re.compile(r"\[ ?[\w-]+ ?(?:[~|^$*]?= ?(?:\"[\w .#-]*\"|'[\w .#-]*'|[\w-]+) ?)?\]")
_NAME = r"-?[^\W\d][\w-]*"
# A zero stands for what the two patterns above took out.
_PARTS = rf"(?:[.#]{_NAME}|\0)"
_COMPOUND = rf"(?:(?:\*|{_NAME}){_PARTS}*|{_PARTS}+)"
_SELECTOR = re.compile(rf"{_COMPOUND}(?: ?[>+~] ?{_COMPOUND}| {_COMPOUND})*")
_LONGEST_SELECTOR = 500


def clean_value(value: str, flags: Flags) -> str | None:
    """One value of a property or attribute.

    Args:
        value: As written.
        flags: Receives ``external_reference_dropped`` or ``css_dropped``.

    Returns:
        The value with every reference spelled ``url(#id)`` and those that leave the
        document replaced by ``none``; None when it is not understood.
    """
    if _SIMPLE.fullmatch(value):
        return value
    if "(" in value:
        value = _URL.sub(lambda match: _local(match, flags), value)
    rest = _LOCAL_URL.sub("", _STRING.sub("", value))
    if _CHARACTERS.fullmatch(rest) and "/*" not in rest and _known_functions(rest):
        return value
    flag = "external_reference_dropped" if _FETCHING.search(value) else "css_dropped"
    flags[flag] = None
    return None


def clean_declarations(text: str, flags: Flags) -> str:
    """The content of a ``style`` attribute or of a rule.

    Args:
        text: As written.
        flags: As for :func:`clean_value`.

    Returns:
        ``text`` itself when nothing had to go, otherwise the declarations that stay.
    """
    kept: list[str] = []
    if same := _is_plain(text):
        pairs = list(_split(text))
    else:
        pairs = _read_declarations(text, flags)
    for name, value in pairs:
        name = name.strip().lower()
        if name not in PROPERTIES:
            same = False
            if _FETCHING.search(value):
                flags["external_reference_dropped"] = None
            elif not name:
                flags["css_dropped"] = None
            continue
        cleaned = clean_value(value, flags)
        if cleaned is not value:
            same = False
        if cleaned is not None:
            kept.append(f"{name}:{cleaned.strip()}")
    return text if same else ";".join(kept)


def clean_sheet(text: str, flags: Flags) -> str:
    """The content of a ``<style>`` element.

    Args:
        text: As written.
        flags: As for :func:`clean_value`.

    Returns:
        Rules of the form ``selector{name:value;...}``, none of them inside another;
        at-rules are gone.
    """
    if "/*" in text and not _QUOTED.search(text):
        text = _without_comments(text)
    kept: list[str] = []
    for prelude, content in _rules(text, flags):
        selectors: list[str] = []
        for selector in _split_list(prelude):
            selector = " ".join(selector.split())
            if _known_selector(selector):
                selectors.append(selector)
            elif not _NEVER_SEEN.search(selector):
                flags["css_dropped"] = None
        if not selectors:
            continue
        declarations = clean_declarations(content, flags).strip()
        if declarations:
            kept.append(f"{','.join(selectors)}{{{declarations}}}")
    return "\n".join(kept)


def sheet_rules(text: str) -> Iterator[tuple[str, str]]:
    """Selectors and declarations of a sheet that :func:`clean_sheet` wrote."""
    for rule in text.split("}"):
        prelude, brace, content = rule.partition("{")
        if brace:
            yield prelude, content


def declarations(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of declarations that :func:`clean_declarations` let through."""
    for name, value in _split(text):
        yield name.strip().lower(), value.strip()


def _local(match: re.Match[str], flags: Flags) -> str:
    target = match[1].strip().strip("'\"").strip()
    if target.startswith("#"):
        # One spelling, without quotes: the drawing library keeps a quote in the id.
        return f"url({target})"
    flags["external_reference_dropped"] = None
    return "none"


def _known_functions(text: str) -> bool:
    """Whether the brackets match and stand behind names that we know."""
    if "(" not in text and ")" not in text:
        return True
    for piece in text.split("(")[:-1]:
        if _BEFORE_NAME.split(piece)[-1].lower() not in FUNCTIONS:
            return False
    for _ in range(_NESTING):
        text, found = _INNERMOST.subn("", text)
        if not found:
            break
    return "(" not in text and ")" not in text


def _is_plain(text: str) -> bool:
    """Whether every semicolon of the text separates two declarations."""
    if "\\" in text or "/*" in text or "{" in text or "}" in text or "@" in text:
        return False
    if '"' in text or "'" in text:
        text = _STRING.sub("", text)
        return '"' not in text and "'" not in text
    return True


def _split(text: str) -> Iterator[tuple[str, str]]:
    for piece in text.split(";"):
        name, colon, value = piece.partition(":")
        # What is no declaration is passed on as one without a name.
        if colon:
            yield name, value
        elif name and not name.isspace():
            yield "", name


def _unreadable(text: str) -> bool:
    """Whether a parser would give up: endless numbers, or brackets inside each other."""
    if _ENDLESS.search(text):
        return True
    depth = 0
    for bracket in re.findall(r"[(\[{}\])]", text):
        depth = depth + 1 if bracket in "([{" else max(0, depth - 1)
        if depth > 2 * _NESTING:
            return True
    return False


def _read_declarations(text: str, flags: Flags) -> list[tuple[str, str]]:
    if _unreadable(text):
        flags["css_dropped"] = None
        return []
    pairs: list[tuple[str, str]] = []
    for item in tinycss2.parse_declaration_list(text, skip_comments=True, skip_whitespace=True):
        if item.type == "declaration":
            value = _written(item.value) + (" !important" if item.important else "")
            pairs.append((item.name, value))
        else:
            flags["css_dropped"] = None
    return pairs


def _written(tokens: list) -> str:
    """Tokens as text again, without the comments between them."""
    return tinycss2.serialize([token for token in tokens if token.type != "comment"]).strip()


def _rules(text: str, flags: Flags) -> Iterator[tuple[str, str]]:
    """Preludes and contents of the rules of a sheet."""
    if not _ODD_SHEET.search(text) and _is_flat(text):
        yield from sheet_rules(text)
        return
    if _unreadable(text):
        flags["css_dropped"] = None
        return
    for rule in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        if rule.type == "qualified-rule":
            yield _written(rule.prelude), tinycss2.serialize(rule.content)
        elif rule.type == "at-rule" and rule.lower_at_keyword in _AT_FETCHING:
            flags["external_reference_dropped"] = None
        elif rule.type == "at-rule" and rule.lower_at_keyword not in _AT_RULES:
            flags["css_dropped"] = None


def _without_comments(text: str) -> str:
    """A sheet without quotes, and without comments; one that never ends goes on to the end."""
    kept = []
    for number, piece in enumerate(text.split("/*")):
        kept.append(piece if number == 0 else piece.partition("*/")[2])
    return " ".join(kept)


def _is_flat(text: str) -> bool:
    """Whether the sheet is a row of rules and nothing else."""
    if '"' in text or "'" in text:
        text = _STRING.sub("", text)
        if '"' in text or "'" in text:
            return False
    *rules, rest = text.split("}")
    return not rest.strip() and all(rule.count("{") == 1 for rule in rules)


def _split_list(prelude: str) -> list[str]:
    """A list of selectors cut at the commas outside of brackets."""
    if "(" not in prelude and "[" not in prelude:
        return prelude.split(",")
    pieces, depth, start = [], 0, 0
    for index, character in enumerate(prelude):
        if character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            pieces.append(prelude[start:index])
            start = index + 1
    return [*pieces, prelude[start:]]


def _known_selector(selector: str) -> bool:
    if len(selector) > _LONGEST_SELECTOR:
        return False
    if "[" in selector:
        selector = _BRACKETED.sub("\0", selector)
    if ":" in selector:
        selector = _PSEUDO.sub("\0", selector)
    return _SELECTOR.fullmatch(selector) is not None
