"""Rewrite the CSS that models write and drawing libraries do not know.

* colours: ``hsl()``, ``rgb()`` with spaces or alpha, ``#rrggbbaa`` become plain
  ``rgb()`` or ``rgba()``;
* ``var(--name, fallback)`` becomes its value;
* ``rem`` lengths, size keywords and percentages of opacity become numbers.

Without this the default backend would paint such shapes black or refuse the picture.
"""

from __future__ import annotations

import colorsys
import re

from lxml import etree

from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.vocabulary import INERT, SVG

_COLOR = re.compile(r"\b(hsla?|rgba?)\(([^()]*)\)", re.IGNORECASE)
_LEGACY = re.compile(
    r"rgb\((\s*\d+\s*,){2}\s*\d+\s*\)|rgba\((\s*\d+\s*,){3}\s*(\d+\.?\d*|\.\d+)\s*\)", re.IGNORECASE
)
_HEX_ALPHA = re.compile(r"(^|:\s*)#([0-9a-f]{8}|[0-9a-f]{4})(?=\s*(?:$|[;}!]))", re.IGNORECASE)
_HEX_ALPHA_HINT = re.compile(r"#(?:[0-9a-f]{8}|[0-9a-f]{4})\b")
# What stands behind the name is looked at from its beginning only: the time to read a
# text has to grow with its length, not with the square of it.
_PROPERTY = re.compile(r"(?<![\w-])(--[\w-]+)\s*:([^;{}]*)")
_REM = re.compile(r"(?<![\d.])(\d+(?:\.\d*)?|\.\d+)rem\b")
_OPACITY = re.compile(r"(opacity\s*:\s*)(\d+(?:\.\d*)?|\.\d+)%")
_PERCENT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)%\s*$")
_OPACITIES = frozenset(
    ("opacity", "fill-opacity", "stroke-opacity", "stop-opacity", "flood-opacity")
)
_UNITS = _OPACITIES | {"font-size"}
# Pixels of the absolute size keywords at the usual 16 px root size (CSS Fonts 4, 2.5).
_SIZES = {
    "xx-small": "9",
    "x-small": "10",
    "small": "13",
    "medium": "16",
    "large": "18",
    "x-large": "24",
    "xx-large": "32",
}
_SIZE_WORD = re.compile(rf"(font-size\s*:\s*)({'|'.join(_SIZES)})(?![\w-])")
_TURN = {"deg": 360.0, "grad": 400.0, "rad": 6.283185307179586, "turn": 1.0}
_UNSET = "inherit"
_VAR_DEPTH = 16


def normalise_style(
    root: etree._Element, code: str, limits: RenderLimits, flags: dict[str, None]
) -> None:
    """Rewrite colours, variables and lengths in place.

    Args:
        root: The ``<svg>`` element; changed.
        code: The source, to see quickly which rewritings are needed at all.
        limits: Caps on expanded values.
        flags: Ordered set that receives what was rewritten.

    Raises:
        Refusal: ``css_too_large`` when variables multiply beyond the caps.
    """
    source = code.lower()
    colours = "hsl" in source or "rgb" in source or _HEX_ALPHA_HINT.search(source) is not None
    variables = "var(" in source
    units = "rem" in source or "%" in source or "font-size" in source
    if not (colours or variables or units):
        return
    properties = _properties(root) if variables else {}
    budget = [16 * limits.max_attribute]
    for element in root.iter(etree.Element):
        if element.tag == f"{SVG}style" and element.text:
            element.text = _rewrite(element.text, properties, budget, flags)
        for name, value in element.items():
            if name in INERT:
                continue
            rewritten = value
            if "(" in value or "#" in value:
                rewritten = _rewrite(value, properties, budget, flags)
            if units and (name == "style" or name in _UNITS or "rem" in value):
                rewritten = _plain_units(name, rewritten, flags)
            if rewritten is not value and rewritten != value:
                element.set(name, rewritten)


def _rewrite(
    value: str, properties: dict[str, str], budget: list[int], flags: dict[str, None]
) -> str:
    if "var(" in value:
        value = _resolve(value, properties, budget, 0)
        flags["var_resolved"] = None
    if "(" in value:
        value = _COLOR.sub(lambda match: _plain_colour(match, flags), value)
    if "#" in value:
        value = _HEX_ALPHA.sub(lambda match: _hex_alpha(match, flags), value)
    return value


def _plain_units(name: str, value: str, flags: dict[str, None]) -> str:
    before = value
    if name in _OPACITIES:
        match = _PERCENT.match(value)
        if match:
            value = f"{float(match[1]) / 100:g}"
    elif name == "font-size" and value.strip() in _SIZES:
        value = _SIZES[value.strip()]
    elif name == "style":
        value = _OPACITY.sub(lambda match: f"{match[1]}{float(match[2]) / 100:g}", value)
        value = _SIZE_WORD.sub(lambda match: f"{match[1]}{_SIZES[match[2]]}px", value)
    if "rem" in value:
        value = _REM.sub(lambda match: f"{float(match[1]) * 16:g}px", value)
    if value != before:
        flags["units_normalised"] = None
    return value


def _plain_colour(match: re.Match[str], flags: dict[str, None]) -> str:
    """One colour function as ``rgb(r,g,b)`` or ``rgba(r,g,b,a)`` with integers."""
    whole, kind, body = match[0], match[1].lower(), match[2]
    if _LEGACY.fullmatch(whole):
        return whole
    parts = [part for part in re.split(r"[\s,/]+", body.strip()) if part]
    try:
        if len(parts) not in (3, 4):
            return whole
        alpha = _share(parts[3], 1.0) if len(parts) == 4 else 1.0
        if kind.startswith("hsl"):
            # HSL to RGB as in CSS Color 3, section 4.2.4.
            hue = _hue(parts[0])
            light, saturation = _share(parts[2], 100.0), _share(parts[1], 100.0)
            shares = colorsys.hls_to_rgb(hue, light, saturation)
            flags["hsl_normalised"] = None
        else:
            red_share, green_share, blue_share = (_share(part, 255.0) for part in parts[:3])
            shares = red_share, green_share, blue_share
            flags["colour_normalised"] = None
    except ValueError:
        return whole
    red, green, blue = (round(255 * share) for share in shares)
    if alpha < 1.0:
        return f"rgba({red},{green},{blue},{alpha:.4g})"
    return f"rgb({red},{green},{blue})"


def _hex_alpha(match: re.Match[str], flags: dict[str, None]) -> str:
    digits = match[2]
    if len(digits) == 4:
        digits = "".join(2 * digit for digit in digits)
    red, green, blue, alpha = (int(digits[i : i + 2], 16) for i in (0, 2, 4, 6))
    flags["colour_normalised"] = None
    return f"{match[1]}rgba({red},{green},{blue},{alpha / 255:.4g})"


def _share(text: str, full: float) -> float:
    """A number or percentage as a share of its full scale, held in [0, 1]."""
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text) / full
    return min(1.0, max(0.0, value))


def _hue(text: str) -> float:
    for unit in ("deg", "grad", "rad", "turn"):
        # "grad" ends in "rad": the longer name has to be tried first.
        if text.endswith(unit):
            return float(text[: -len(unit)]) / _TURN[unit] % 1.0
    return float(text) / 360 % 1.0


def _properties(root: etree._Element) -> dict[str, str]:
    """Custom properties of the document; the first definition of a name wins.

    Scoping is not followed: models define variables once, on ``:root``, and a second
    definition is most often a dark theme inside ``@media``.
    """
    found: dict[str, str] = {}
    for element in root.iter(etree.Element):
        text = element.text if element.tag == f"{SVG}style" else element.get("style")
        if text and "--" in text:
            for name, value in _PROPERTY.findall(text):
                found.setdefault(name, value.strip())
    return found


def _resolve(text: str, properties: dict[str, str], budget: list[int], depth: int) -> str:
    """Replace every ``var()``, nested ones and fallbacks included."""
    out: list[str] = []
    rest = text
    while True:
        start = rest.find("var(")
        if start < 0:
            out.append(rest)
            break
        end = _closing(rest, start + 3)
        if end < 0:
            out.append(rest)
            break
        name, comma, fallback = rest[start + 4 : end].partition(",")
        value = properties.get(name.strip(), fallback.strip() if comma else _UNSET)
        if "var(" in value:
            # Too deep is a definition in a circle, which CSS treats as no value.
            deep = depth + 1 >= _VAR_DEPTH
            value = _UNSET if deep else _resolve(value, properties, budget, depth + 1)
        budget[0] -= len(value) + 1
        if budget[0] < 0:
            raise Refusal("css_too_large", "var() multiplies beyond the size allowed")
        out += [rest[:start], value]
        rest = rest[end + 1 :]
    return "".join(out)


def _closing(text: str, opening: int) -> int:
    """Index of the parenthesis that closes the one at ``opening``, or -1."""
    depth = 0
    for index in range(opening, len(text)):
        if text[index] == "(":
            depth += 1
        elif text[index] == ")":
            depth -= 1
            if depth == 0:
                return index
    return -1
