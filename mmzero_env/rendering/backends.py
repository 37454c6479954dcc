"""Drawing backends by name; a backend is imported only where it draws."""

from __future__ import annotations

import importlib
from typing import Protocol

from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import Image
from mmzero_env.rendering.guard import Vetted


class Backend(Protocol):
    """Draws documents that passed the guard.

    Its module is imported in a process that later forks, so importing it must not start
    a thread. A class may also say, each with a class attribute or method of its own:

    * ``fork_safe`` (bool, False): making and using an object starts no thread either, so
      that it may be done once, before the fork, and new workers are ready at once.
    * ``reads`` (tuple of str, or None, the default): files and folders that drawing still
      opens after the first pictures. With ``()`` a worker may open no file at all; with
      None reading stays allowed, as far as the sandbox goes.
    * ``describe()`` (class method, returns str): what draws, with versions, in a line.
    """

    def draw(self, document: Vetted, size: int) -> Image:
        """Draw one document.

        Args:
            document: Cleaned document; the backend may change its tree.
            size: Side of the square picture in pixels.

        Returns:
            uint8 (size, size, 3) on white, aspect ratio kept, centred.

        Raises:
            MemoryError: The picture needs more memory than there is.
            Exception: Anything else means that the document cannot be drawn.
        """
        ...


# Name -> "module:class". A string, so that a worker process can be told by name.
BACKENDS: dict[str, str] = {"cairosvg": "mmzero_env.rendering.cairo_svg:CairoSvg"}


def register_backend(name: str, target: str) -> None:
    """Add a backend.

    Args:
        name: Name to ask for it by.
        target: ``"package.module:Class"``; the class takes no arguments and has the
            methods of :class:`Backend`.

    Raises:
        UserError: The target is not of that form.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise UserError(f'a backend target must look like "package.module:Class", got {target!r}.')
    BACKENDS[name] = target


def backend_target(name: str) -> str:
    """The ``"module:class"`` behind a name.

    Raises:
        UserError: There is no backend of that name.
    """
    if name not in BACKENDS:
        raise unknown("rendering backend", name, BACKENDS)
    return BACKENDS[name]


def load_class(target: str) -> type[Backend]:
    """Import a backend's class from its ``"module:class"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_backend(target: str) -> Backend:
    """Import and make a backend from its ``"module:class"``."""
    return load_class(target)()
