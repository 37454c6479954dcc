"""References inside of a document: none that leaves it, none that finds nothing."""

from __future__ import annotations

import re

from lxml import etree

from mmzero_env.rendering.css import Flags
from mmzero_env.rendering.vocabulary import SVG, XLINK_HREF

HREFS = ("href", XLINK_HREF)
MARKERS = ("marker", "marker-start", "marker-mid", "marker-end")

_FRAGMENT = re.compile(r"url\(#([^()]*)\)")
_TARGET = re.compile(r"#[^\s'\"()\\<>{};,]+")
_PLAIN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:px)?\s*$")


def index_ids(root: etree._Element) -> dict[str, etree._Element]:
    """The elements by id; the first one wins where an id is repeated."""
    ids: dict[str, etree._Element] = {}
    for element in root.iter(etree.Element):
        name = element.get("id")
        if name:
            ids.setdefault(name, element)
    return ids


def fragments(value: str) -> list[str]:
    """The ids that ``url(#id)`` names in a cleaned value."""
    return _FRAGMENT.findall(value) if "url(" in value else []


def settle_references(
    elements: list[etree._Element], ids: dict[str, etree._Element], flags: Flags
) -> None:
    """Clean the references of some elements, in place.

    Args:
        elements: Those that refer to something, and all markers.
        ids: The elements of the document by id; changed where elements are dropped.
        flags: Ordered set that receives the names of what was dropped.
    """
    for element in elements:
        _clean_hrefs(element, flags)
    _drop_dangling(elements, ids, flags)
    for element in elements:
        _settle(element, ids, flags)


def remove(element: etree._Element) -> None:
    """Take an element out and leave the text behind it where it was."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail:
        before = element.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
    parent.remove(element)


def _clean_hrefs(element: etree._Element, flags: Flags) -> None:
    """Leave at most one reference, and none that leaves the document."""
    target: str | None = None
    for name in HREFS:
        value = element.get(name)
        if value is None:
            continue
        cleaned = value.strip()
        local = _TARGET.fullmatch(cleaned) is not None
        if local and target is None:
            target = cleaned
            if cleaned != value:
                element.set(name, cleaned)
            continue
        # Two spellings of one reference: the plain one wins, as in browsers.
        del element.attrib[name]
        if not local and cleaned != "#":
            flags["external_reference_dropped"] = None


def _drop_dangling(
    elements: list[etree._Element], ids: dict[str, etree._Element], flags: Flags
) -> None:
    """Drop every ``<use>`` that finds nothing, and those that find only such ones.

    The drawing library would take the whole document for what is not there.
    """
    waiting: dict[str, list[etree._Element]] = {}
    lost: list[etree._Element] = []
    for element in elements:
        if element.tag == f"{SVG}use":
            target = next((element.get(name, "")[1:] for name in HREFS if element.get(name)), "")
            if target in ids:
                waiting.setdefault(target, []).append(element)
            else:
                lost.append(element)
    while lost:
        element = lost.pop()
        flags["dangling_reference"] = None
        name = element.get("id")
        if name and ids.get(name) is element:
            del ids[name]
            lost += waiting.pop(name, [])
        remove(element)


def _settle(element: etree._Element, ids: dict[str, etree._Element], flags: Flags) -> None:
    """What an element becomes once it is known which ids there are."""
    if element.tag == f"{SVG}marker" and not element.get("viewBox"):
        # By the standard the units then are those of the marker box; the library would
        # stretch the content to it.
        sizes = [_PLAIN.match(element.get(side, "3")) for side in ("markerWidth", "markerHeight")]
        if sizes[0] and sizes[1]:
            element.set("viewBox", f"0 0 {sizes[0][1]} {sizes[1][1]}")
    for name in MARKERS:
        value = element.get(name)
        if value and any(one not in ids for one in fragments(value)):
            flags["dangling_reference"] = None
            element.set(name, "none")
