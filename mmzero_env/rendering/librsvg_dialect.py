"""What librsvg reads otherwise than browsers do, said in its own words."""

from __future__ import annotations

import re

from lxml import etree

from mmzero_env.rendering.guard import Vetted
from mmzero_env.rendering.librsvg_origins import bake_origins
from mmzero_env.rendering.references import SVG

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

# Shifts of the baselines upwards, in percent of the font size, as librsvg 2.61 draws them in
# the bundled font.
_BASELINES = {
    "middle": -28.5,
    "central": -34.5,
    "mathematical": -34.5,
    "hanging": -69,
    "text-top": -69,
    "text-before-edge": -69,
    "text-bottom": 23.5,
    "text-after-edge": 23.5,
    "ideographic": 23.5,
}
_BASELINE_RULE = re.compile(rf"\bdominant-baseline\s*:\s*({'|'.join(_BASELINES)})(?![\w-])")
_REGION = ("x", "y", "width", "height", "result")


def in_dialect(document: Vetted, old: bool = False) -> bytes:
    """A document as UTF-8 in librsvg's words; its elements are changed to these.

    Args:
        document: What the guard let through.
        old: Whether it has to be words that librsvg 2.54 knows.
    """
    root = document.root
    set_initial_values(root)
    data = document.to_bytes()
    origins = b"transform-origin" in data
    if origins:
        bake_origins(root)
    old = old and (b"dominant-baseline" in data or b"feDropShadow" in data)
    if old:
        use_old_words(root)
    return document.to_bytes() if origins or old else data


def set_initial_values(root: etree._Element) -> None:
    """Say what librsvg would choose by itself, in place.

    Its default font size is 12 pixels, and 16 everywhere else. The language of text would
    be that of the machine.

    Args:
        root: The ``<svg>`` element; changed.
    """
    # Attributes yield to style sheets, as defaults must.
    for name, value in (("font-size", "16"), (_LANGUAGE, "en")):
        if name not in root.attrib:
            root.set(name, value)


def use_old_words(root: etree._Element) -> None:
    """Say the same in words that librsvg 2.54 knows, in place.

    ``dominant-baseline`` becomes ``baseline-shift``, and ``feDropShadow`` the five
    primitives by which Filter Effects 1, section 9.13, defines it. Without this, labels
    would sit too high, and shapes with a shadow would vanish.

    Args:
        root: The ``<svg>`` element; changed.
    """
    for element in list(root.iter(etree.Element)):
        value = element.get("dominant-baseline")
        if value in _BASELINES and "baseline-shift" not in element.attrib:
            element.set("baseline-shift", f"{_BASELINES[value]}%")
        style = element.get("style")
        if style and "dominant-baseline" in style:
            element.set("style", _BASELINE_RULE.sub(_shifted, style))
        if element.tag == f"{SVG}style" and element.text:
            element.text = _BASELINE_RULE.sub(_shifted, element.text)
        elif element.tag == f"{SVG}feDropShadow":
            _spell_out_shadow(element)


def _shifted(rule: re.Match[str]) -> str:
    return f"baseline-shift:{_BASELINES[rule[1]]}%"


def _spell_out_shadow(shadow: etree._Element) -> None:
    parent, before = shadow.getparent(), shadow.getprevious()
    if parent is None:
        return
    name = f"mmzero-shadow-{parent.index(shadow)}"
    source = shadow.get("in", "SourceGraphic")
    if before is not None and "in" not in shadow.attrib:
        # What is left out stands for the result before, which may have no name yet.
        source = before.get("result") or f"{name}-source"
        before.set("result", source)
    space = {key: value for key, value in shadow.items() if key == "color-interpolation-filters"}
    # The colour may come from any of several attributes; the others mean nothing to a flood.
    flood = {key: value for key, value in shadow.items() if key not in _REGION}
    region = {key: value for key, value in shadow.items() if key in _REGION}
    steps: list[tuple[str, dict[str, str]]] = [
        ("feGaussianBlur", {"in": source, "stdDeviation": shadow.get("stdDeviation", "2")}),
        (
            "feOffset",
            {"dx": shadow.get("dx", "2"), "dy": shadow.get("dy", "2"), "result": f"{name}-blurred"},
        ),
        ("feFlood", flood),
        ("feComposite", {"in2": f"{name}-blurred", "operator": "in", "result": name}),
    ]
    for tag, attributes in steps:
        shadow.addprevious(etree.Element(f"{SVG}{tag}", {**attributes, **space}))
    merge = etree.Element(f"{SVG}feMerge", {**region, **space})
    for layer in (name, source):
        etree.SubElement(merge, f"{SVG}feMergeNode", {"in": layer})
    merge.tail = shadow.tail
    parent.replace(shadow, merge)
