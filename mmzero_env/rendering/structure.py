"""Leave only what draws and what stands in the document itself.

One walk over the tree: guests go (scripts, images, animations, foreign and unknown
elements), attributes that nothing draws by go, references that leave the document go,
and the caps on the structure are kept.
"""

from __future__ import annotations

import re

from lxml import etree

from mmzero_env.rendering.css import (
    Flags,
    clean_declarations,
    clean_sheet,
    clean_value,
    sheet_rules,
)
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.references import HREFS, MARKERS, remove, settle_references
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.vocabulary import (
    ATTRIBUTES,
    DROPPED,
    ELEMENTS,
    INERT,
    NUMERIC,
    PROPERTIES,
    SVG,
)

_BASE = "{http://www.w3.org/XML/1998/namespace}base"
_TAGS = frozenset(SVG + name for name in ELEMENTS)
# What may stand inside of text. Anything else is not painted there by the standard, and
# the drawing library takes twice the time for every text inside of a text.
_SPANS = frozenset(SVG + name for name in ("tspan", "a"))
_IN_TEXT = {
    f"{SVG}text": _SPANS | {f"{SVG}textPath"},
    f"{SVG}tspan": _SPANS,
    f"{SVG}textPath": _SPANS,
}
# Attributes in which HTML keeps addresses, and values that look like one.
_ADDRESSES = frozenset(
    "src srcset poster data action formaction background code codebase archive manifest "
    "ping profile classid longdesc usemap cite".split()
)
_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:\S|//|.*url\()", re.IGNORECASE | re.DOTALL)
# Attributes that are read as CSS. Geometry and transforms cannot hold a reference, and a
# mistake in them is for the drawing library to judge.
_STYLED = PROPERTIES - frozenset("transform x y width height cx cy r rx ry".split())
_SPECIAL = INERT | {"style"}
_WITH_COLON = frozenset(("requiredFeatures", "requiredExtensions"))
_PRIVATE = re.compile(r"(?:data|aria)-[\w.-]*$", re.ASCII)

# Digits of any script, and underscores: Python's numbers, and so CairoSVG's, have them.
_SUSPECT = re.compile(r"\d{7}|\d_|e\+?\d|\b(?:nan|inf|infinity)\b", re.IGNORECASE)
_NOT_FINITE = re.compile(r"\b(?:nan|inf|infinity)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
# Colours and ids: their digits are no numbers.
_NAMES = re.compile(r"#[\w.:-]+|url\([^()]*\)")


def clean_document(root: etree._Element, limits: RenderLimits, flags: Flags) -> None:
    """Drop guests and references that leave the document, in place; keep the caps.

    Args:
        root: The ``<svg>`` element, all its elements in a namespace; changed.
        limits: Caps on the structure.
        flags: Ordered set that receives the names of what was dropped.

    Raises:
        Refusal: ``too_many_elements``, ``too_deep``, ``attribute_too_long``,
            ``too_much_text``, ``css_too_large``, ``number_too_large`` or
            ``number_not_finite``.
    """
    walk = _Walk(limits, flags)
    walk.follow(root)
    settle_references(walk.referring, walk.ids, flags)


class _Walk:
    """One pass over all elements."""

    def __init__(self, limits: RenderLimits, flags: Flags) -> None:
        self.limits = limits
        self.flags = flags
        self.ids: dict[str, etree._Element] = {}
        # Elements whose references need the ids of the whole document.
        self.referring: list[etree._Element] = []
        self.letters = 0
        self.css = 0
        # Values that were looked at already: pictures repeat themselves.
        self.fine: set[str] = set()
        self.styles: dict[str, str] = {}

    def follow(self, root: etree._Element) -> None:
        limits = self.limits
        count = 0
        stack = [(root, 1)]
        while stack:
            element, depth = stack.pop()
            count += 1
            if count > limits.max_elements:
                raise Refusal(
                    "too_many_elements",
                    f"the picture has more than {limits.max_elements} elements; draw fewer shapes",
                )
            if depth > limits.max_depth:
                raise Refusal(
                    "too_deep",
                    f"elements are nested deeper than {limits.max_depth}; use fewer groups",
                )
            tag = str(element.tag)
            if tag == f"{SVG}a":
                tag = self.unlink(element)
            if tag == f"{SVG}style":
                self.style_sheet(element)
            elif tag == f"{SVG}use":
                # Nothing draws what stands inside, and it must not be referred to.
                del element[:]
            elif len(element):
                inner = [child for child in element.iterchildren(reversed=True)]
                for child in inner:
                    if child.tail:
                        self.letters += len(child.tail.strip())
                    if child.tag not in _TAGS:
                        self.drop(child)
                    elif tag in _IN_TEXT and child.tag not in _IN_TEXT[tag]:
                        self.flags["misplaced_element_dropped"] = None
                        remove(child)
                    else:
                        stack.append((child, depth + 1))
            if element.text and tag != f"{SVG}style":
                self.letters += len(element.text.strip())
            items = element.items()
            if items:
                self.attributes(element, tag, items)
            elif tag == f"{SVG}use":
                self.referring.append(element)
        if self.letters > limits.max_text:
            raise Refusal(
                "too_much_text",
                f"{self.letters} characters of text, at most {limits.max_text}; write less",
            )

    def drop(self, element: etree._Element) -> None:
        tag = element.tag
        if isinstance(tag, str):
            if not tag.startswith(SVG):
                flag = "foreign_element_dropped"
            else:
                flag = DROPPED.get(tag[len(SVG) :], "unknown_element_dropped")
            if flag:
                self.flags[flag] = None
        remove(element)

    def unlink(self, element: etree._Element) -> str:
        """Make a link what it is in a picture, a group; return its new tag."""
        for name in HREFS:
            if element.attrib.pop(name, None) is not None:
                self.flags["link_dropped"] = None
        parent = element.getparent()
        inside_text = parent is not None and parent.tag in _IN_TEXT
        element.tag = f"{SVG}tspan" if inside_text else f"{SVG}g"
        return str(element.tag)

    def style_sheet(self, element: etree._Element) -> None:
        text = "".join(element.itertext())
        del element[:]
        self.css += len(text)
        if self.css > self.limits.max_css:
            raise Refusal(
                "css_too_large",
                f"more than {self.limits.max_css} characters of CSS; use fewer, simpler rules",
            )
        element.text = clean_sheet(text, self.flags) or None
        if element.text and _SUSPECT.search(element.text):
            for _, content in sheet_rules(element.text):
                self.number("a style sheet", content)

    def attributes(self, element: etree._Element, tag: str, items: list[tuple[str, str]]) -> None:
        refers = tag in (f"{SVG}use", f"{SVG}marker")
        for name, value in items:
            if value in self.fine and name in ATTRIBUTES and name not in _SPECIAL:
                continue
            if len(value) > self.limits.max_attribute:
                raise Refusal(
                    "attribute_too_long",
                    f"{name[:40]} has {len(value)} characters, at most "
                    f"{self.limits.max_attribute}; split the shape or simplify it",
                )
            if name not in ATTRIBUTES:
                if name in HREFS:
                    refers = True
                elif not _PRIVATE.match(name) or "url(" in value.lower():
                    self.stray(element, name, value)
                continue
            if name in INERT:
                if name == "id" and self.ids.setdefault(value, element) is not element:
                    # Renderers do not agree on which one is meant.
                    del element.attrib["id"]
                    self.flags["duplicate_id"] = None
                continue
            if name == "style":
                cleaned = self.styles.get(value)
                if cleaned is None:
                    cleaned = clean_declarations(value, self.flags)
                    self.styles[value] = cleaned
            elif ":" in value and name not in _WITH_COLON:
                # Nothing that draws has one: an address, or a declaration gone astray.
                cleaned = None
                flag = "external_reference_dropped" if _ADDRESS.match(value) else "css_dropped"
                self.flags[flag] = None
            elif "(" not in value and "\\" not in value and "/*" not in value:
                cleaned = value
                if not _SUSPECT.search(value):
                    self.fine.add(value)
                    continue
            elif name in _STYLED:
                cleaned = clean_value(value, self.flags)
            elif "url(" in value.lower():
                cleaned = None
                self.flags["external_reference_dropped"] = None
            else:
                cleaned = value
            if cleaned is not value and cleaned != value:
                if not cleaned:
                    del element.attrib[name]
                    continue
                element.set(name, cleaned)
                value = cleaned
            if name in NUMERIC and _SUSPECT.search(value):
                self.number(name, value)
            refers = refers or (name in MARKERS and "url(" in value)
        if refers:
            self.referring.append(element)

    def stray(self, element: etree._Element, name: str, value: str) -> None:
        """An attribute that nothing draws by."""
        del element.attrib[name]
        if name == _BASE:
            self.flags["external_reference_dropped"] = None
        elif name.startswith("{"):
            return
        elif name.lower().startswith("on"):
            self.flags["event_handler_dropped"] = None
        elif name.lower() in _ADDRESSES or _ADDRESS.match(value):
            self.flags["external_reference_dropped"] = None

    def number(self, name: str, value: str) -> None:
        """Refuse numbers that no picture needs."""
        if _NOT_FINITE.search(value):
            raise Refusal(
                "number_not_finite", f"{name} holds NaN or infinity; compute its real value"
            )
        for number in _NUMBER.findall(_NAMES.sub(" ", value).replace("_", "")):
            if float(number) > self.limits.max_number:
                raise Refusal(
                    "number_too_large",
                    f"{name} holds {number[:30]}, at most {self.limits.max_number:g}; "
                    "stay near the viewBox",
                )
