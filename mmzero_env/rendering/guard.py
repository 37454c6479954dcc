"""The guard: what a model wrote becomes a document that is safe to draw, or a reason.

Nothing is fetched, no entity is expanded, and every cap depends on the code alone, so
the verdict is the same on every machine. The guard does not repair broken XML: a
reward for validity keeps its meaning.

Reasons, all of stage ``"render"``:

============================ ==========================================================
``too_large``                more bytes than allowed
``bad_encoding``             characters that cannot stand in a document
``dtd_declarations``         entity or attribute declarations in a DOCTYPE
``malformed_xml``            not well-formed
``not_svg``                  the root is not ``<svg>``
``too_many_elements``        caps on the structure
``too_deep``
``attribute_too_long``
``too_much_text``
``css_too_large``
``number_too_large``         a coordinate beyond the cap
``number_not_finite``        NaN or infinity
``empty_viewport``           width, height or viewBox of zero or less
``extreme_aspect``           a picture too long and thin
``reference_cycle``          an element that draws itself
``too_costly``               references multiply beyond the drawing cost allowed
============================ ==========================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml import etree

from mmzero_env.protocol import Failure
from mmzero_env.rendering.cost import check_cost
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.references import clean_references
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.style import normalise_style
from mmzero_env.rendering.viewport import settle_viewport

SVG = "http://www.w3.org/2000/svg"

_DECLARATIONS = re.compile(r"<!ENTITY|<!ATTLIST|<!ELEMENT|<!NOTATION|<!DOCTYPE[^>\[]*\[")
_BOM = "\ufeff"

# Attributes whose value is read as numbers when the picture is drawn.
_NUMERIC = frozenset(
    "x y width height rx ry r cx cy fx fy x1 y1 x2 y2 d points dx dy rotate transform "
    "transform-origin gradientTransform patternTransform viewBox stroke-width "
    "stroke-dasharray stroke-dashoffset stroke-miterlimit font font-size letter-spacing "
    "refX refY markerWidth markerHeight orient offset opacity fill-opacity stroke-opacity "
    "stop-opacity flood-opacity startOffset clip style".split()
)
_SUSPECT = re.compile(r"\d{7}|e\+?[1-9]|\b(?:nan|inf|infinity)\b", re.IGNORECASE)
_NOT_FINITE = re.compile(r"\b(?:nan|inf|infinity)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_HEX = re.compile(r"#\w+")


@dataclass(frozen=True, eq=False)
class Vetted:
    """A document that passed the guard.

    Attributes:
        root: The cleaned ``<svg>`` element.
        width: Width of the picture in user pixels, or None when nothing tells it; then
            a backend measures the drawing.
        height: The same for the height.
        flags: Names of things that were dropped or normalised.
    """

    root: etree._Element
    width: float | None
    height: float | None
    flags: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The document as UTF-8 XML."""
        return etree.tostring(self.root, encoding="utf-8")


def vet(code: str, limits: RenderLimits | None = None) -> Vetted | Failure:
    """Check and clean one code.

    Args:
        code: What the Coder wrote, already cut out of its completion.
        limits: Caps; the defaults when None.

    Returns:
        The cleaned document, or a :class:`Failure` of stage ``"render"``.
    """
    limits = limits or RenderLimits()
    # Keys only: an ordered set, so that flags come in the order of discovery.
    flags: dict[str, None] = {}
    try:
        root = _parse(code, limits)
        _adopt_namespace(root, flags)
        clean_references(root, flags)
        _check_structure(root, limits)
        normalise_style(root, code, limits, flags)
        width, height = settle_viewport(root, limits, flags)
        check_cost(root, limits)
    except Refusal as refusal:
        return Failure("render", refusal.reason, refusal.detail)
    return Vetted(root, width, height, tuple(flags))


def _parse(code: str, limits: RenderLimits) -> etree._Element:
    if len(code) > limits.max_bytes:
        raise Refusal("too_large", f"{len(code)} characters, at most {limits.max_bytes} bytes")
    # White space or a byte-order mark before an XML declaration is an error of XML, but
    # none of drawing.
    code = code.strip().lstrip(_BOM)
    try:
        data = code.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refusal("bad_encoding", f"character {error.start} is a lone surrogate") from None
    if len(data) > limits.max_bytes:
        raise Refusal("too_large", f"{len(data)} bytes, at most {limits.max_bytes}")
    if "<" not in code or "svg" not in code:
        raise Refusal("not_svg", "there is no <svg> element")
    if _DECLARATIONS.search(code):
        raise Refusal("dtd_declarations", "the document declares entities or attributes")
    # encoding= overrules the XML declaration: the text came as characters, and a false
    # declaration must not turn it into other ones.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Refusal("malformed_xml", str(error)[:200]) from None
    if root is None:
        raise Refusal("malformed_xml", "the document is empty")
    if next(root.iter(etree.Entity), None) is not None:
        raise Refusal("malformed_xml", "an entity is used that XML does not define")
    name = etree.QName(root)
    if name.localname != "svg" or name.namespace not in (None, SVG):
        raise Refusal("not_svg", f"the root element is <{name.localname[:40]}>, expected <svg>")
    return root


def _adopt_namespace(root: etree._Element, flags: dict[str, None]) -> None:
    """Put elements without a namespace into SVG's, so that style sheets find them."""
    found = False
    for element in root.iter(etree.Element):
        if not str(element.tag).startswith("{"):
            element.tag = f"{{{SVG}}}{element.tag}"
            found = True
    if found:
        flags["namespace_added"] = None


def _check_structure(root: etree._Element, limits: RenderLimits) -> None:
    count = 0
    letters = 0
    css = 0
    stack: list[tuple[etree._Element, int]] = [(root, 1)]
    while stack:
        element, depth = stack.pop()
        count += 1
        if count > limits.max_elements:
            raise Refusal("too_many_elements", f"more than {limits.max_elements} elements")
        if depth > limits.max_depth:
            raise Refusal("too_deep", f"nested deeper than {limits.max_depth} elements")
        if element.tag == f"{{{SVG}}}style":
            css += len(element.text or "")
        else:
            letters += len((element.text or "").strip())
        letters += len((element.tail or "").strip())
        for name, value in element.items():
            _check_value(name, value, limits)
        stack.extend((child, depth + 1) for child in element)
    if letters > limits.max_text:
        raise Refusal("too_much_text", f"{letters} characters of text, at most {limits.max_text}")
    if css > limits.max_css:
        raise Refusal("css_too_large", f"{css} characters of CSS, at most {limits.max_css}")


def _check_value(name: str, value: str, limits: RenderLimits) -> None:
    if len(value) > limits.max_attribute:
        raise Refusal(
            "attribute_too_long",
            f"{name[:40]} has {len(value)} characters, at most {limits.max_attribute}",
        )
    if name not in _NUMERIC or not _SUSPECT.search(value):
        return
    if _NOT_FINITE.search(value):
        raise Refusal("number_not_finite", f"{name} holds NaN or infinity")
    for number in _NUMBER.findall(_HEX.sub(" ", value)):
        if float(number) > limits.max_number:
            raise Refusal(
                "number_too_large", f"{name} holds {number[:30]}, at most {limits.max_number:g}"
            )
