"""What a document may consist of: the elements, attributes and CSS that draw something.

Everything else is dropped. A list of what is known to be good needs no guesses about
what somebody may come up with. Sources: SVG 1.1 (element index and property index) and
the parts of SVG 2 that drawing libraries know.
"""

from __future__ import annotations

SVG = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"

PRIMITIVES = frozenset(
    "feBlend feColorMatrix feComponentTransfer feComposite feConvolveMatrix "
    "feDiffuseLighting feDisplacementMap feDropShadow feFlood feGaussianBlur feMerge "
    "feMorphology feOffset feSpecularLighting feTile feTurbulence".split()
)
"""Filter primitives; ``feImage`` is an image and not among them."""

ELEMENTS = PRIMITIVES | frozenset(
    "svg g defs symbol use switch a path rect circle ellipse line polyline polygon text "
    "tspan textPath linearGradient radialGradient stop pattern marker mask clipPath style "
    "filter feMergeNode feFuncR feFuncG feFuncB feFuncA feDistantLight fePointLight "
    "feSpotLight".split()
)
"""Elements of SVG that stay."""

# Element name -> flag, or None where a renderer would not paint it anyway but the
# drawing library would take its text for a label. Names that are in neither list
# get ``unknown_element_dropped``.
DROPPED: dict[str, str | None] = {
    "title": None,
    "desc": None,
    "metadata": None,
    "view": None,
    "script": "script_dropped",
    "handler": "script_dropped",
    "listener": "script_dropped",
    "foreignObject": "foreign_object_dropped",
    "image": "image_dropped",
    "feImage": "image_dropped",
    "cursor": "image_dropped",
    "tref": "external_reference_dropped",
    "color-profile": "external_reference_dropped",
    **dict.fromkeys(
        "animate set animateTransform animateMotion animateColor mpath discard animation".split(),
        "animation_dropped",
    ),
    **dict.fromkeys(
        "font font-face font-face-src font-face-uri font-face-format font-face-name glyph "
        "missing-glyph hkern vkern altGlyph altGlyphDef altGlyphItem glyphRef "
        "definition-src".split(),
        "font_dropped",
    ),
    **dict.fromkeys(
        "html head body div span p br b i u em strong table tr td th ul ol li h1 h2 h3 img "
        "iframe frame video audio canvas object embed applet link meta base form input "
        "button picture source track portal webview".split(),
        "foreign_element_dropped",
    ),
}

# Properties of CSS that the drawing libraries know; the same names are attributes.
_PRESENTATION = frozenset(
    "alignment-baseline baseline-shift clip clip-path clip-rule color color-interpolation "
    "color-interpolation-filters color-rendering direction display dominant-baseline "
    "enable-background fill fill-opacity fill-rule filter flood-color flood-opacity font "
    "font-family font-size font-size-adjust font-stretch font-style font-variant "
    "font-weight glyph-orientation-horizontal glyph-orientation-vertical image-rendering "
    "isolation kerning letter-spacing lighting-color line-height marker marker-end "
    "marker-mid marker-start mask mask-type mix-blend-mode opacity overflow paint-order "
    "pointer-events shape-rendering stop-color stop-opacity stroke stroke-dasharray "
    "stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity "
    "stroke-width text-anchor text-decoration text-overflow text-rendering "
    "text-transform transform transform-origin transform-box unicode-bidi vector-effect "
    "visibility white-space word-spacing writing-mode".split()
)
_GEOMETRY = frozenset("x y width height cx cy r rx ry".split())
PROPERTIES = _PRESENTATION | _GEOMETRY | {"background", "background-color"}
"""Properties that stay in style sheets and ``style`` attributes."""

FUNCTIONS = frozenset(
    "rgb rgba hsl hsla hwb lab lch oklab oklch color color-mix calc min max clamp "
    "translate translatex translatey translate3d rect scale scalex scaley rotate skew skewx "
    "skewy matrix perspective blur drop-shadow brightness contrast grayscale hue-rotate "
    "invert opacity saturate sepia linear-gradient radial-gradient conic-gradient inset "
    "circle ellipse polygon".split()
)
"""CSS functions that stay; ``url()`` has rules of its own."""

# Values of these are words for people and scripts; nothing draws by them.
INERT = frozenset("id class role lang tabindex {http://www.w3.org/XML/1998/namespace}lang".split())

ATTRIBUTES = (
    _PRESENTATION
    | _GEOMETRY
    | INERT
    | frozenset(
        "{http://www.w3.org/XML/1998/namespace}space style type media version baseProfile "
        "viewBox preserveAspectRatio d points pathLength x1 y1 x2 y2 dx dy rotate "
        "textLength lengthAdjust startOffset method spacing side fx fy fr offset "
        "gradientUnits gradientTransform spreadMethod patternUnits patternContentUnits "
        "patternTransform maskUnits maskContentUnits clipPathUnits markerUnits markerWidth "
        "markerHeight refX refY orient filterUnits primitiveUnits filterRes in in2 result "
        "mode operator k1 k2 k3 k4 values tableValues slope intercept amplitude exponent "
        "stdDeviation edgeMode radius order kernelMatrix divisor bias targetX targetY "
        "preserveAlpha kernelUnitLength surfaceScale diffuseConstant specularConstant "
        "specularExponent limitingConeAngle azimuth elevation pointsAtX pointsAtY "
        "pointsAtZ z baseFrequency numOctaves seed stitchTiles xChannelSelector "
        "yChannelSelector scale requiredFeatures requiredExtensions zoomAndPan "
        "contentStyleType".split()
    )
)
"""Attributes that stay, besides ``href``, ``data-*`` and ``aria-*``."""

NUMERIC = (
    frozenset(
        "font font-size letter-spacing word-spacing line-height stroke-width stroke-dasharray "
        "stroke-dashoffset stroke-miterlimit opacity fill-opacity stroke-opacity stop-opacity "
        "flood-opacity transform transform-origin clip baseline-shift kerning filter style "
        "viewBox d points pathLength x1 y1 x2 y2 dx dy rotate textLength startOffset fx fy fr "
        "offset gradientTransform patternTransform markerWidth markerHeight refX refY orient "
        "filterRes k1 k2 k3 k4 values tableValues slope intercept amplitude exponent "
        "stdDeviation radius order kernelMatrix divisor bias targetX targetY kernelUnitLength "
        "surfaceScale diffuseConstant specularConstant specularExponent limitingConeAngle "
        "azimuth elevation pointsAtX pointsAtY pointsAtZ z baseFrequency numOctaves seed "
        "scale".split()
    )
    | _GEOMETRY
)
"""Attributes whose value is read as numbers when the picture is drawn."""
