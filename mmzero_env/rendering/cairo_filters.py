"""Which filters move what they filter.

CairoSVG moves a shape by every ``feOffset`` of its filter. In a filter that puts several
pictures together the offset belongs to a shadow, and the shape stays where it is.
"""

from __future__ import annotations

from cairosvg import defs, parser
from cairosvg.surface import Surface

_PUTTING_TOGETHER = frozenset(("feMerge", "feBlend", "feComposite", "feDropShadow"))


def prepare_filter(surface: Surface, node: parser.Node, name: str) -> None:
    """Move a shape by its filter; takes the place of CairoSVG's function.

    Args:
        surface: What is drawn on.
        node: The element that is filtered.
        name: Id of the filter.
    """
    effect = surface.filters.get(name)
    if effect and not any(child.tag in _PUTTING_TOGETHER for child in effect.children):
        defs.prepare_filter(surface, node, name)
