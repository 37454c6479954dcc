"""Colours as the words that a viewer has for them.

A colour has *sure* words, which nobody disputes, and *possible* words, which some viewers
would use; any other basic word is wrong for it. The borders in hue, chroma and value are
ours, set by looking at the named colours of CSS: sure ranges are narrow and possible
ranges wide, so what lies between two words counts against neither.
"""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import tinycss2.color3

RGB = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

WORDS = {
    **{word: word for word in "red orange yellow green blue purple pink brown black white".split()},
    **dict.fromkeys(("gray", "grey"), "gray"),
    **dict.fromkeys(("cyan", "teal", "turquoise", "aqua"), "cyan"),
    "violet": "purple",
    "magenta": "pink",
}
"""Words that are understood, with the basic word that each stands for."""

BASIC = frozenset(WORDS.values())

# Word: sure hues, possible hues, in degrees; the first may be larger than the second.
_HUES = {
    "red": ((345, 6), (330, 26)),
    "orange": ((24, 41), (8, 53)),
    "yellow": ((49, 64), (38, 92)),
    "green": ((85, 158), (60, 184)),
    "cyan": ((172, 190), (155, 206)),
    "blue": ((200, 243), (178, 270)),
    "purple": ((268, 302), (244, 335)),
    "pink": ((312, 334), (285, 12)),
}


@dataclass(frozen=True)
class Shade:
    """What a painted colour may be called.

    Attributes:
        sure: Words that it certainly has.
        possible: All words that it may be given, the sure ones among them.
        rgb: The colour; None where it is not one colour, or not known.
    """

    sure: frozenset[str]
    possible: frozenset[str]
    rgb: RGB | None

    def is_called(self, word: str) -> bool | None:
        """Whether a basic word fits: True, False, or None where viewers may differ."""
        if word in self.sure:
            return True
        return None if word in self.possible else False


UNKNOWN = Shade(frozenset(), BASIC, None)
"""A gradient, a pattern, or what a filter makes of a colour."""


@functools.lru_cache(maxsize=4096)
def parse_colour(text: str) -> tuple[RGB, float] | None:
    """A CSS colour as RGB and opacity; None unless it is a colour by itself."""
    colour = tinycss2.color3.parse_color(text)
    if colour is None or isinstance(colour, str):
        return None
    red, green, blue, alpha = (min(1.0, max(0.0, float(part))) for part in colour)
    return (red, green, blue), alpha


@functools.lru_cache(maxsize=4096)
def shade(rgb: RGB) -> Shade:
    """The words for one colour."""
    chroma = max(rgb) - min(rgb)
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    if chroma < 0.05:
        return Shade(*_neutral(value), rgb)
    sure, possible = _hues(hue * 360, saturation, value)
    if chroma < 0.22 or value < 0.3:
        possible |= _neutral(value)[1] | ({"gray"} if chroma < 0.22 else set())
    if value < 0.4:
        possible |= {"black"}
    if saturation < 0.35 and value > 0.85:
        possible |= {"white"}
    if chroma < 0.2 or value < 0.36:
        sure = set()
    return Shade(frozenset(sure), frozenset(possible | sure), rgb)


def over(rgb: RGB, alpha: float, below: RGB) -> Shade:
    """The words for a colour of some opacity on another one.

    What lies behind may be seen as part of the colour or not, so only words that fit both
    are sure.
    """
    plain = shade(rgb)
    if alpha >= 0.999:
        return plain
    red, green, blue = (
        round(alpha * a + (1 - alpha) * b, 4) for a, b in zip(rgb, below, strict=True)
    )
    mixed = shade((red, green, blue))
    return Shade(plain.sure & mixed.sure, plain.possible | mixed.possible, mixed.rgb)


def alike(first: RGB | None, second: RGB | None) -> bool:
    """Whether two colours cannot be told apart; False if one is not known."""
    if first is None or second is None:
        return False
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) < 0.02


def _neutral(value: float) -> tuple[frozenset[str], frozenset[str]]:
    if value < 0.13:
        return frozenset(("black",)), frozenset(("black",))
    if value < 0.34:
        return frozenset(), frozenset(("black", "gray"))
    if value < 0.78:
        return frozenset(("gray",)), frozenset(("gray",))
    if value < 0.94:
        return frozenset(), frozenset(("gray", "white"))
    return frozenset(("white",)), frozenset(("white", "gray"))


def _hues(hue: float, saturation: float, value: float) -> tuple[set[str], set[str]]:
    sure = {word for word, (core, _) in _HUES.items() if _within(hue, *core)}
    possible = {word for word, (_, wide) in _HUES.items() if _within(hue, *wide)}
    if _within(hue, 340, 55) and value < 0.82:
        # Dark orange is brown; dark red and dark yellow may be called so.
        possible.add("brown")
        if value < 0.62:
            sure -= {"red", "orange", "yellow"}
        if _within(hue, 12, 38) and value < 0.66 and saturation > 0.4:
            sure = {"brown"}
    if _within(hue, 40, 80) and value < 0.82:
        possible |= {"green", "brown"}
        sure.discard("yellow")
    if _within(hue, 330, 20) and saturation < 0.56 and value > 0.7:
        possible |= {"pink", "red"}
        sure.discard("red")
    if _within(hue, 10, 50) and saturation < 0.55:
        possible |= {"brown", "pink", "yellow", "orange"}
        sure.clear()
    return sure, possible


def _within(hue: float, low: float, high: float) -> bool:
    return low <= hue <= high if low <= high else hue >= low or hue <= high
