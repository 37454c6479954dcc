"""Leave only what stands in the document itself: no links out, no scripts, no guests."""

from __future__ import annotations

import re

from lxml import etree

SVG = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
HREFS = ("href", XLINK_HREF)
MARKERS = ("marker", "marker-start", "marker-mid", "marker-end")

_URL = re.compile(r"url\(\s*(['\"]?)(.*?)\1\s*\)", re.IGNORECASE | re.DOTALL)
_PLAIN = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(?:px)?\s*$")
_IMPORT = re.compile(r"@import[^;]*;?", re.IGNORECASE)

# Element name -> flag to raise, or None where a renderer would not paint it anyway but
# the drawing library would take its text for a label.
_DROPPED: dict[str, str | None] = {
    "script": "script_dropped",
    "foreignObject": "foreign_object_dropped",
    "image": "image_dropped",
    "feImage": "image_dropped",
    "tref": "external_reference_dropped",
    "title": None,
    "desc": None,
    "metadata": None,
}


def clean_references(root: etree._Element, flags: dict[str, None]) -> None:
    """Drop guests and references that leave the document, in place.

    Args:
        root: The ``<svg>`` element; changed.
        flags: Ordered set that receives the names of what was dropped.
    """
    for element in list(root.iter(etree.Element)):
        if element is not root and _is_guest(element, flags):
            _remove(element)
    ids = index_ids(root)
    # A snapshot: removing while iterating would skip the next element.
    for element in list(root.iter(etree.Element)):
        _clean_element(element, ids, flags)


def index_ids(root: etree._Element) -> dict[str, etree._Element]:
    """The elements by id; the first one wins where an id is repeated."""
    ids: dict[str, etree._Element] = {}
    for element in root.iter(etree.Element):
        name = element.get("id")
        if name:
            ids.setdefault(name, element)
    return ids


def fragments(value: str) -> list[str]:
    """The ids that ``url(#id)`` names in an attribute value."""
    if "url(" not in value:
        return []
    return [match[1][1:] for match in _URL.findall(value) if match[1].startswith("#")]


def href_of(element: etree._Element) -> str | None:
    """The id that an element's href names, or None."""
    for name in HREFS:
        value = element.get(name)
        if value and value.startswith("#"):
            return value[1:]
    return None


def _is_guest(element: etree._Element, flags: dict[str, None]) -> bool:
    tag = str(element.tag)
    if not tag.startswith(SVG):
        flags["foreign_element_dropped"] = None
        return True
    name = tag[len(SVG) :]
    if name not in _DROPPED:
        return False
    flag = _DROPPED[name]
    if flag:
        flags[flag] = None
    return True


def _remove(element: etree._Element) -> None:
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


def _clean_element(
    element: etree._Element, ids: dict[str, etree._Element], flags: dict[str, None]
) -> None:
    name = str(element.tag)[len(SVG) :]
    for href in HREFS:
        value = element.get(href)
        if value is not None and (name == "a" or not value.strip().startswith("#")):
            del element.attrib[href]
            flags["link_dropped" if name == "a" else "external_reference_dropped"] = None
        elif value is not None and value != value.strip():
            element.set(href, value.strip())
    if name == "use" and href_of(element) not in ids:
        # Without a target the drawing library would take the whole document for it.
        flags["dangling_reference"] = None
        _remove(element)
        return
    if name == "a":
        inside_text = any(True for _ in element.iterancestors(f"{SVG}text"))
        element.tag = f"{SVG}tspan" if inside_text else f"{SVG}g"
    elif name == "style" and element.text:
        text, imports = _IMPORT.subn("", element.text)
        if imports:
            flags["external_reference_dropped"] = None
        element.text = _local_urls(text, flags)
    elif name == "marker" and not element.get("viewBox"):
        # By the standard the units then are those of the marker box; the library would
        # stretch the content to it.
        sizes = [_PLAIN.match(element.get(side, "3")) for side in ("markerWidth", "markerHeight")]
        if sizes[0] and sizes[1]:
            element.set("viewBox", f"0 0 {sizes[0][1]} {sizes[1][1]}")
    for attribute, value in element.items():
        if "url(" in value.lower():
            _clean_url(element, attribute, value, ids, flags)
    # These depend on the language of the machine or on a base address.
    element.attrib.pop("systemLanguage", None)
    element.attrib.pop("{http://www.w3.org/XML/1998/namespace}base", None)


def _clean_url(
    element: etree._Element,
    attribute: str,
    value: str,
    ids: dict[str, etree._Element],
    flags: dict[str, None],
) -> None:
    value = _local_urls(value, flags)
    if attribute in MARKERS and any(name not in ids for name in fragments(value)):
        flags["dangling_reference"] = None
        value = "none"
    element.set(attribute, value)


def _local_urls(text: str, flags: dict[str, None]) -> str:
    """Replace every ``url()`` that is not ``url(#id)`` by ``none``."""

    def local(match: re.Match[str]) -> str:
        target = match[2].strip()
        if target.startswith("#"):
            # One spelling, without quotes: the library keeps a quote in the id.
            return f"url({target})"
        flags["external_reference_dropped"] = None
        return "none"

    return _URL.sub(local, text)
