"""Is a backend that finds fonts by fontconfig using the bundled ones?"""

from __future__ import annotations

from collections.abc import Callable

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Failure, Image
from mmzero_env.rendering.font_files import PROBE
from mmzero_env.rendering.guard import Vetted, vet

# A full square where the bundled fonts are in use, a small box with digits where not.
_FONTS = (
    f'<svg viewBox="0 0 8 8"><text y="8" font-family="serif" font-size="8">{PROBE}</text></svg>'
)
# Every font in every style, and a filter, for which librsvg starts threads.
_ALL = (
    '<svg viewBox="0 0 8 8"><filter id="b"><feGaussianBlur stdDeviation="1"/></filter>'
    '<g filter="url(#b)"><text y="8">a\u4e2d<tspan font-weight="bold">a\u4e2d</tspan>'
    '<tspan font-style="italic">a\u4e2d<tspan font-weight="bold">a\u4e2d</tspan></tspan>'
    "</text></g></svg>"
)


def check_fonts(draw: Callable[[Vetted, int], Image]) -> None:
    """Load whatever is loaded on first use, and see that the fonts are the bundled ones.

    Args:
        draw: The backend's method.

    Raises:
        EngineError: Text is drawn with other fonts.
    """
    draw(vetted(_ALL), 16)
    if (draw(vetted(_FONTS), 16) > 127).any():
        raise EngineError(
            "text is not drawn with the bundled fonts: something in this process made the "
            "library choose its fonts before. Draw in worker processes (workers=1 or more)."
        )


def vetted(code: str) -> Vetted:
    """A document of our own, which the guard lets through."""
    document = vet(code)
    assert not isinstance(document, Failure), document
    return document
