"""Which style an element ends up with: attributes, style sheets, ``style``, in this order.

Source of the order: CSS 2.1, section 6.4; presentation attributes come before all rules
(SVG 1.1, section 6.4). What a property without a value of its own has is the parent's or
the initial one, see :mod:`.reader`.
"""

from __future__ import annotations

import functools

import cssselect2
from lxml import etree

from mmzero_env.rendering.css import declarations, sheet_rules
from mmzero_env.rendering.vocabulary import SVG

PROPERTIES = frozenset(
    "fill stroke stroke-width fill-opacity stroke-opacity opacity visibility display color "
    "font-size font text-anchor dominant-baseline alignment-baseline marker marker-start "
    "marker-end clip-path mask filter mix-blend-mode transform transform-origin transform-box "
    "writing-mode stroke-dasharray "
    "x y width height cx cy r rx ry".split()
)
"""Properties that decide on what is seen where."""

_IMPORTANT = "!important"


class Styles:
    """The properties of the elements of one document.

    Attributes:
        complete: Whether all rules could be followed.

    Args:
        root: The ``<svg>`` element that the guard let through.
    """

    def __init__(self, root: etree._Element) -> None:
        self.complete = True
        self._given: dict[etree._Element, list[tuple[bool, str, str]]] = {}
        sheets = [sheet.text for sheet in root.iter(f"{SVG}style") if sheet.text]
        if sheets:
            self._match(root, "\n".join(sheets))

    def of(self, element: etree._Element) -> dict[str, str]:
        """Attributes of an element, overruled by its properties."""
        found: dict[str, str] = dict(element.attrib)
        given = self._given.get(element)
        style = found.pop("style", None)
        if given is None and style is None:
            return found
        late: dict[str, str] = {}
        for important, name, value in given or ():
            (late if important else found)[name] = value
        if style is not None:
            for name, value in _declarations(style):
                found[name] = value
        found.update(late)
        return found

    def _match(self, root: etree._Element, sheet: str) -> None:
        matcher = cssselect2.Matcher()
        for prelude, content in sheet_rules(sheet):
            wanted = [
                (value.endswith(_IMPORTANT), name, value.removesuffix(_IMPORTANT).strip())
                for name, value in declarations(content)
                if name in PROPERTIES
            ]
            if not wanted:
                continue
            try:
                selectors = cssselect2.compile_selector_list(prelude)
            except cssselect2.SelectorError:
                self.complete = False
                continue
            for selector in selectors:
                matcher.add_selector(selector, wanted)
        for wrapped in cssselect2.ElementWrapper.from_xml_root(root).iter_subtree():
            # In order of specificity, then of appearance: a later one overrules.
            matches = matcher.match(wrapped)
            if matches:
                self._given[wrapped.etree_element] = [
                    each for *_, wanted in matches for each in wanted
                ]


@functools.lru_cache(maxsize=1024)
def _declarations(style: str) -> tuple[tuple[str, str], ...]:
    pairs = ((name, value.removesuffix(_IMPORTANT).strip()) for name, value in declarations(style))
    return tuple((name, value) for name, value in pairs if name in PROPERTIES)
