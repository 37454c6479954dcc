"""First drawings of a worker: they load whatever a backend loads only when it is used.

Fonts in every style, tables, codecs, error classes: all of it has to be in memory before
the limits of the first code count, and before the sandbox refuses to open files.
"""

from __future__ import annotations

from mmzero_env.errors import EngineError
from mmzero_env.rendering.backends import Backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.limits import RenderLimits

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '

_SMALL = 64
"""Side in pixels: what is loaded does not depend on it, what it costs does."""

_STYLES = " ".join(
    f'<text x="2" y="{20 + 10 * row}" font-size="9" font-family="{family}" '
    f'font-weight="{weight}" font-style="{style}">aé→漢🙂<tspan dx="1 2" rotate="9">'
    f'b</tspan></text><text letter-spacing="2" text-anchor="middle" x="50%" y="{row}em" '
    f'textLength="40" dominant-baseline="middle">{family}</text>'
    for row, (family, weight, style) in enumerate(
        (family, weight, style)
        for family in ("Arial, sans-serif", "Georgia, serif", "monospace", "Noto Sans CJK SC")
        for weight in ("normal", "bold")
        for style in ("normal", "italic")
    )
)

DRAWN = (
    f'{_SVG}viewBox="0 0 8 8"><rect width="8" height="8" fill="red"/></svg>',
    f'{_SVG}viewBox="0 0 100 180"><style>.a, #b:not(.c) > rect {{ fill: hsl(9, 50%, 50%); '
    "stroke: var(--x, rgb(1 2 3 / 50%)) } @media print { g { opacity: .5 } } "
    f'text {{ font: italic bold 9px "DejaVu Sans" }}</style>{_STYLES}</svg>',
    f'{_SVG}viewBox="0 0 100 100"><defs>'
    '<linearGradient id="l" gradientTransform="rotate(9)"><stop offset="0" stop-color="red"/>'
    '<stop offset="100%" stop-color="#00f8" stop-opacity=".5"/></linearGradient>'
    '<radialGradient id="r" xlink:href="#l" fx=".3" spreadMethod="reflect"/>'
    '<pattern id="p" width="9" height="9" patternUnits="userSpaceOnUse" '
    'patternTransform="scale(.9)"><circle r="4"/><text y="9" font-weight="bold">p</text>'
    '</pattern><clipPath id="c"><circle cx="50" cy="50" r="40"/></clipPath>'
    '<mask id="m"><rect width="90" height="90" fill="white"/><text y="20">m</text></mask>'
    '<filter id="f"><feGaussianBlur stdDeviation="2"/><feOffset dx="2"/><feFlood '
    'flood-color="teal"/><feBlend mode="multiply" in2="SourceGraphic"/><feMerge><feMergeNode/>'
    '</feMerge><feColorMatrix type="saturate" values="0"/><feDropShadow dx="1"/></filter>'
    '<marker id="k" markerWidth="3" markerHeight="3" orient="auto"><path d="M0 0L3 3"/></marker>'
    '<symbol id="s" viewBox="0 0 9 9"><ellipse cx="4" cy="4" rx="4" ry="2"/></symbol>'
    '<path id="t" d="M9 9q20 20 40 0t40 0"/></defs>'
    '<rect width="90" height="20" fill="url(#l)" rx="3" stroke="currentColor"/>'
    '<rect width="90" height="20" fill="url(#r)" filter="url(#f)"/>'
    '<rect width="90" height="90" fill="url(#p)" clip-path="url(#c)" mask="url(#m)"/>'
    '<path d="M1 1h9v9c1 2 3 4 5 6s1 1 2 2a3 3 0 0 1 9 9z" marker-end="url(#k)" '
    'stroke-dasharray="2 1" stroke="navy" stroke-linecap="round" fill-rule="evenodd"/>'
    '<polyline points="1,2 3,4 5,6" marker-mid="url(#k)" marker-start="url(#k)" fill="none"/>'
    '<polygon points="1,2 3,4 9,6"/><line x2="9" y2="9" stroke="red"/>'
    '<use xlink:href="#s" width="20" height="20" transform="skewX(9) matrix(1 0 0 1 2 3)"/>'
    '<use href="#s" width="20" height="20" opacity=".5"/><g opacity=".5"><circle r="9"/></g>'
    '<text><textPath href="#t">along</textPath></text><a href="#l"><text y="50">l</text></a>'
    '<switch><text systemLanguage="en" y="60" text-decoration="underline">s</text></switch></svg>',
    # No size: it is measured.
    f'{_SVG}><circle cx="50" cy="50" r="40" fill="papayawhip" style="stroke: #123"/></svg>',
    f'{_SVG}width="50mm" height="2in"><rect width="50%" height="1em" transform="rotate(9 1 2)"/>'
    "</svg>",
)
"""Plain documents; the first one every backend must draw."""

TRIED = (
    "",
    "<svg",
    "\ud800",
    f'{_SVG}viewBox="0 0 9 9"><g id="a"><use href="#a"/></g></svg>',
    f'{_SVG}viewBox="0 0 x"><path d="M 1 1 L q"/><rect width="1e999" fill="url(#none)"/>'
    '<rect style="fill: nonsense(1); ;;" transform="rotate(x)"/></svg>',
    f'<!DOCTYPE svg [<!ENTITY a "b">]>{_SVG}viewBox="0 0 9 9"><text>&a;</text></svg>',
    f'<?xml version="1.0" encoding="latin-1"?>{_SVG}viewBox="0 0 9 9"><image '
    'href="data:image/png;base64,aaaa"/><script>1</script><foreignObject/></svg>',
)
"""May fail, and then load what failing needs."""


def prime(backend: Backend, size: int) -> None:
    """Draw the first pictures.

    Args:
        backend: What draws.
        size: Side of the first picture in pixels; the others are small.

    Raises:
        EngineError: Not even a rectangle can be drawn: the backend is broken.
    """
    limits = RenderLimits()
    for number, code in enumerate((*DRAWN, *TRIED)):
        drawing = draw_code(code, min(size, _SMALL) if number else size, limits, backend)
        if number == 0 and drawing.failure is not None:
            raise EngineError(f"the first drawing failed: {drawing.failure.detail}")
