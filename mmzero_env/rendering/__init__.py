"""Rendering: what models write becomes pictures, or a reason why not.

    with Renderer(size=448, workers=2) as renderer:
        drawings = renderer.render([RenderJob("a", "<svg ...>...</svg>")])

A code passes the guard (:mod:`.guard`), is drawn by a backend (:mod:`.backends`) in a
worker process under limits (:mod:`.pool`), and comes back as a
:class:`~mmzero_env.protocol.Drawing`: an image on white, or a named failure.
"""

from __future__ import annotations

from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering.backends import BACKENDS, register_backend
from mmzero_env.rendering.guard import vet
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.pool import JobRenderer, Renderer
from mmzero_env.rendering.sandbox import Sandbox
from mmzero_env.rendering.system import check_system

__all__ = [
    "BACKENDS",
    "Drawing",
    "JobRenderer",
    "RenderJob",
    "RenderLimits",
    "Renderer",
    "Sandbox",
    "check_system",
    "register_backend",
    "vet",
]
