"""One code, guarded and drawn, in whatever process this runs."""

from __future__ import annotations

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, Failure
from mmzero_env.rendering.backends import Backend
from mmzero_env.rendering.guard import vet
from mmzero_env.rendering.limits import RenderLimits


def draw_code(code: str, size: int, limits: RenderLimits, backend: Backend) -> Drawing:
    """Guard and draw one code in this process.

    Args:
        code: What the Coder wrote.
        size: Side of the picture in pixels.
        limits: Caps of the guard.
        backend: What draws.

    Returns:
        The picture, uint8 (size, size, 3), or the reason why there is none.

    Raises:
        MemoryError: Drawing needs more memory than the process may take.
        EngineError: The backend itself is broken (a missing library, say).
    """
    document = vet(code, limits)
    if isinstance(document, Failure):
        return Drawing(None, document)
    try:
        image = backend.draw(document, size)
    except (MemoryError, EngineError):
        raise
    except RecursionError:
        # A cycle through a style sheet, which the guard does not follow.
        failure = Failure("render", "reference_cycle", "references nest without end")
        return Drawing(None, failure, document.flags)
    # Anything else is the document's doing: the backend's parsers raise whatever their
    # code happens to trip over.
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"[:200]
        return Drawing(None, Failure("render", "not_drawable", detail), document.flags)
    return Drawing(image, None, document.flags)
