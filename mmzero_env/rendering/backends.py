"""Drawing backends by name; a backend is imported only where it draws.

* ``cairosvg``, the default: :mod:`.cairo_svg`.
* ``librsvg``: whichever of the following two this machine has, in this order.
* ``librsvg-direct``: the system's librsvg: :mod:`.librsvg`.
* ``librsvg-vips``: the librsvg that pip installs with pyvips: :mod:`.vips_svg`.
"""

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

    Its module may have a function ``versions()`` that returns the versions of the libraries
    that decide on the pixels, by name.
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
BACKENDS: dict[str, str] = {
    "cairosvg": "mmzero_env.rendering.cairo_svg:CairoSvg",
    "librsvg": "mmzero_env.rendering.backends:load_librsvg",
    "librsvg-direct": "mmzero_env.rendering.librsvg:LibrsvgDirect",
    "librsvg-vips": "mmzero_env.rendering.vips_svg:LibrsvgVips",
}

# In order of preference.
_LIBRSVG = ("librsvg-direct", "librsvg-vips")
_LIBRSVG_MEND = (
    "Install librsvg with pip install 'mmzero-env[librsvg]', or with "
    "apt-get install librsvg2-2 (Debian, Ubuntu) or brew install librsvg (macOS)."
)


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


def resolve_backend(name: str) -> str:
    """The backend that a name means on this machine.

    The bindings of librsvg draw alike but not pixel by pixel, so records keep this name.

    Args:
        name: A name in :data:`BACKENDS`.

    Returns:
        The same name, except that ``"librsvg"`` becomes the binding in use.

    Raises:
        UserError: There is no backend of that name, or what it needs is not installed.
    """
    if name not in BACKENDS:
        raise unknown("rendering backend", name, BACKENDS)
    if name != "librsvg" and name not in _LIBRSVG:
        return name
    complaints: list[str] = []
    for binding in _LIBRSVG if name == "librsvg" else (name,):
        complaint = _complaint(binding)
        if not complaint:
            return binding
        complaints.append(complaint)
    raise UserError(f"the backend {name!r} cannot draw: {'; '.join(complaints)}. {_LIBRSVG_MEND}")


def backend_target(name: str) -> str:
    """The ``"module:class"`` behind a name, the name resolved.

    Raises:
        UserError: There is no backend of that name, or what it needs is not installed.
    """
    return BACKENDS[resolve_backend(name)]


def backend_versions(name: str) -> dict[str, str]:
    """Versions of the libraries that decide on a backend's pixels, by name.

    Args:
        name: A name that :func:`resolve_backend` gave.

    Returns:
        Empty for a backend whose module has no function ``versions``.
    """
    module, _, _ = BACKENDS[name].partition(":")
    versions = getattr(importlib.import_module(module), "versions", None)
    return versions() if versions else {}


def describe_backend(name: str) -> str:
    """One line on what a name means on this machine, for people.

    Raises:
        UserError: There is no backend of that name, or what it needs is not installed.
    """
    resolved = resolve_backend(name)
    versions = " ".join(f"{key} {value}" for key, value in backend_versions(resolved).items())
    return f"{name}: {versions}" if name == resolved else f"{name}: {resolved}, {versions}"


def load_class(target: str) -> type[Backend]:
    """Import a backend's class from its ``"module:class"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_backend(target: str) -> Backend:
    """Import and make a backend from its ``"module:class"``."""
    return load_class(target)()


def load_librsvg() -> Backend:
    """The backend that ``"librsvg"`` means on this machine.

    Raises:
        UserError: Neither binding of librsvg is installed.
    """
    return load_backend(backend_target("librsvg"))


def _complaint(binding: str) -> str:
    """Why a binding of librsvg cannot draw here; empty when it can."""
    module, _, _ = BACKENDS[binding].partition(":")
    try:
        return importlib.import_module(module).missing()
    except OSError as error:
        # cairocffi loads libcairo when it is imported.
        return str(error)
