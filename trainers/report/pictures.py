"""The pictures of a page: small, and each held once however often it is shown.

A picture is a rule of the style sheet, and an element shows it by its class. So the same
picture costs its bytes once, and a browser decodes what it has to paint.
"""

from __future__ import annotations

import base64
import io

from markupsafe import Markup
from PIL import Image as PillowImage

from mmzero_env.errors import UserError
from mmzero_env.record import png_to_image

THUMBNAIL = 320
"""Longest side of a picture in a report, in pixels."""
SMALL = 6_000
"""Bytes up to which a PNG file is kept."""


class Pictures:
    """Collects the pictures of one page."""

    def __init__(self) -> None:
        """See the class."""
        self._names: dict[bytes, str | None] = {}
        self._rules: list[str] = []
        self.size = 0

    def add(self, png: bytes) -> str | None:
        """The class that shows a picture.

        Args:
            png: A PNG file.

        Returns:
            None if the bytes are no picture.
        """
        if png not in self._names:
            uri = thumbnail(png)
            if uri is None:
                self._names[png] = None
            else:
                name = f"p{len(self._rules)}"
                self._names[png] = name
                self._rules.append(f".{name}{{background-image:url({uri})}}")
                self.size += len(self._rules[-1]) + 1
        return self._names[png]

    def mark(self) -> tuple[int, int]:
        """Where the collection stands, for :meth:`go_back`."""
        return len(self._names), len(self._rules)

    def go_back(self, mark: tuple[int, int]) -> None:
        """Forget what was added since :meth:`mark`."""
        names, rules = mark
        for png in list(self._names)[names:]:
            del self._names[png]
        self.size -= sum(len(rule) + 1 for rule in self._rules[rules:])
        del self._rules[rules:]

    def css(self) -> Markup:
        """The rules; they hold nothing but our own encoding of pixels."""
        return Markup("\n".join(self._rules))


def thumbnail(png: bytes) -> str | None:
    """A picture as a data URI, no side longer than :data:`THUMBNAIL` pixels.

    A small PNG file stays as it is: of few colours it is smaller than anything else.

    Returns:
        None if the bytes are no picture.
    """
    try:
        image = PillowImage.fromarray(png_to_image(png))
    except (UserError, PillowImage.DecompressionBombError):
        return None
    kind = "png"
    if max(image.size) > THUMBNAIL or len(png) > SMALL:
        kind, buffer = "webp", io.BytesIO()
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, format=kind, quality=82, method=1)
        png = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(png).decode('ascii')}"
