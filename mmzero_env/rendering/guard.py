"""The guard: what a model wrote becomes a document that is safe to draw, or a reason.

Nothing is fetched, no entity is expanded, and every cap depends on the code alone, so
the verdict is the same on every machine. The guard does not repair broken XML: a
reward for validity keeps its meaning. What stays is what is known to be good
(:mod:`.vocabulary`); the rest is dropped with a flag, or refused:

============================ ==========================================================
``too_large``                more bytes than allowed
``bad_encoding``             characters that cannot stand in a document
``dtd_declarations``         entity or attribute declarations in a DOCTYPE
``malformed_xml``            not well-formed
``not_svg``                  the root is not ``<svg>``
``too_many_elements``        caps on the structure
``too_many_attributes``
``too_deep``
``attribute_too_long``
``too_much_text``
``css_too_large``
``number_too_large``         a coordinate beyond the cap
``number_not_finite``        NaN or infinity
``empty_viewport``           width, height or viewBox of next to nothing, or less
``extreme_aspect``           a picture too long and thin
``reference_cycle``          an element that draws itself
``too_costly``               references, filters, dashes or selectors multiply beyond the
                             drawing cost allowed
============================ ==========================================================

All are of stage ``"render"``. ``docs/rendering.md`` says how to mend each, and lists the
flags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml import etree

from mmzero_env.protocol import Failure
from mmzero_env.rendering.cost import check_cost
from mmzero_env.rendering.css import Flags
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.structure import clean_document
from mmzero_env.rendering.style import normalise_style
from mmzero_env.rendering.viewport import settle_viewport
from mmzero_env.rendering.vocabulary import SVG

SVG_NAMESPACE = "http://www.w3.org/2000/svg"

_DECLARATIONS = re.compile(r"<!ENTITY|<!ATTLIST|<!ELEMENT|<!NOTATION|<!DOCTYPE[^<>\[]*\[")
_NO_NAMESPACE = re.compile(r"xmlns\s*=\s*(['\"])\s*\1")
_BOM = "\ufeff"
# Many times what can be meant. The XML library takes the square of their number in time.
_MOST_ATTRIBUTES = 1_000


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
    flags: Flags = {}
    try:
        root = _parse(code, limits)
        if "<?xml-stylesheet" in code:
            flags["external_reference_dropped"] = None
        _adopt_namespace(root, code, flags)
        # Before the cleaning: what variables add up to has to be looked at as well.
        normalise_style(root, code, limits, flags)
        clean_document(root, limits, flags)
        if code.count("xmlns") > 1 or "namespace_added" in flags:
            etree.cleanup_namespaces(root)
        width, height = settle_viewport(root, limits, flags)
        check_cost(root, limits)
        document = Vetted(root, width, height, tuple(flags))
        _check_growth(document, code, limits)
    except Refusal as refusal:
        return Failure("render", refusal.reason, refusal.detail)
    return document


def _parse(code: str, limits: RenderLimits) -> etree._Element:
    if len(code) > limits.max_bytes:
        raise Refusal(
            "too_large", f"{len(code)} characters, at most {limits.max_bytes} bytes; draw less"
        )
    # White space or a byte-order mark before an XML declaration is an error of XML, but
    # none of drawing.
    code = code.strip().lstrip(_BOM)
    try:
        data = code.encode("utf-8")
    except UnicodeEncodeError as error:
        detail = f"character {error.start} is half of a character (a lone surrogate)"
        raise Refusal("bad_encoding", detail) from None
    if len(data) > limits.max_bytes:
        raise Refusal("too_large", f"{len(data)} bytes, at most {limits.max_bytes}; draw less")
    if "<" not in code or "svg" not in code:
        raise Refusal("not_svg", "there is no <svg> element")
    if _DECLARATIONS.search(code):
        raise Refusal(
            "dtd_declarations",
            "the document declares entities or attributes; write the characters themselves",
        )
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
        # The parser's own cap lies above ours, which is what the Coder should hear.
        if "Excessive depth" in str(error):
            detail = f"elements are nested deeper than {limits.max_depth}; use fewer groups"
            raise Refusal("too_deep", detail) from None
        # Without the name of the file, since there is none.
        detail = " ".join(str(error).partition(" (<string>")[0].split())
        raise Refusal("malformed_xml", detail[:200]) from None
    if root is None:
        raise Refusal("malformed_xml", "the document is empty")
    if next(root.iter(etree.Entity), None) is not None:
        raise Refusal(
            "malformed_xml",
            "an entity is used that XML does not define; write the character itself",
        )
    if code.count("=") > _MOST_ATTRIBUTES:
        for element in root.iter(etree.Element):
            if len(element.attrib) > _MOST_ATTRIBUTES:
                raise Refusal(
                    "too_many_attributes",
                    f"an element has {len(element.attrib)} attributes, at most {_MOST_ATTRIBUTES}",
                )
    name = etree.QName(root)
    if name.localname != "svg" or name.namespace not in (None, SVG_NAMESPACE):
        raise Refusal("not_svg", f"the root element is <{name.localname[:40]}>, expected <svg>")
    return root


def _adopt_namespace(root: etree._Element, code: str, flags: Flags) -> None:
    """Put elements without a namespace into SVG's, so that style sheets find them."""
    if root.nsmap.get(None) == SVG_NAMESPACE and not _NO_NAMESPACE.search(code):
        return
    found = False
    for element in root.iter(etree.Element):
        if not str(element.tag).startswith("{"):
            element.tag = f"{SVG}{element.tag}"
            found = True
    if found:
        flags["namespace_added"] = None


def _check_growth(document: Vetted, code: str, limits: RenderLimits) -> None:
    """Refuse a document that became larger than allowed on its way through the guard.

    Escaping and plain colours make it at most eight times as long; variables may do more.
    """
    if len(code) <= limits.max_bytes // 8 and "var_resolved" not in document.flags:
        return
    size = len(document.to_bytes())
    if size > limits.max_bytes:
        raise Refusal(
            "too_large",
            f"{size} bytes once variables and characters are written out, at most "
            f"{limits.max_bytes}",
        )
