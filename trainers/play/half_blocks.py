"""A picture as characters: every cell is an upper half block over a background colour."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from mmzero_env.protocol import Image

WIDEST = 64
"""Most columns: more would push what belongs together off the screen."""


def can_show(console: Console) -> bool:
    """Whether a console has the colours and the character that a picture takes."""
    enough = console.color_system in ("256", "truecolor")
    return console.is_terminal and enough and console.encoding.startswith("utf")


def columns(console: Console) -> int:
    """How many columns a picture takes so that it fits into the window."""
    return max(8, min(WIDEST, console.width - 2, 2 * (console.height - 4)))


def drawn(image: Image, width: int) -> Text:
    """A picture as lines of text.

    Args:
        image: uint8 of shape (H, W, 3).
        width: Columns; a cell is taken to be twice as high as wide.

    Returns:
        As many lines as keep the picture's proportions, without a final line break.
    """
    rows = max(1, round(width * image.shape[0] / image.shape[1] / 2))
    small = PillowImage.fromarray(image).resize((width, 2 * rows), PillowImage.Resampling.BOX)
    pixels = np.asarray(small)
    text = Text()
    for row in range(rows):
        if row:
            text.append("\n")
        for top, bottom in zip(pixels[2 * row], pixels[2 * row + 1], strict=True):
            style = Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom))
            text.append("▀", style)
    return text
