"""Mutations of SVG documents: of their characters, their structure and their CSS."""

from __future__ import annotations

import copy
import random
import re

from lxml import etree

from benchmarks.svg_corpus import FOLDER, documents, text_of

LONGEST = 20_000
"""Characters of a document that is worth mutating; the built ones are larger."""

_XLINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"\d+\.?\d*")
_NUMBERS = (
    "0 -1 1e6 1000001 1e9 1e-9 1e308 1e999 NaN inf 0x10 1_000 ١٢ 5% 3em 2rem 99999999 .5. +7 1,5"
).split()
_ADDRESSES = (
    "#a #m #p #f # #nowhere http://127.0.0.1:9/x#a file:///etc/hostname //127.0.0.1/x ../x.svg "
    "data:image/png;base64,AA javascript:alert(1)"
).split()
_VALUES = (
    *(f"url({address})" for address in _ADDRESSES),
    "url('#a')",
    'url( "#a" ) red',
    "URL(#a",
    "u\\72l(http://127.0.0.1:9/)",
    "url(/**/#a)",
    "var(--a)",
    "var(--a,url(http://127.0.0.1:9/))",
    "blur(9px) drop-shadow(1px 1px 3px red)",
    'image-set("http://127.0.0.1:9/a.png" 1x)',
    "hsl(120 50% 50% / .5)",
    "#ff000080",
    "inherit",
    "none;fill:url(//x)",
    "red /* url(http://127.0.0.1:9/) */",
)
_NAMES = (
    "fill stroke filter mask clip-path marker-end style href id class x width d transform opacity "
    "viewBox onload src stroke-dasharray patternTransform font-size data-x"
).split()
_TAGS = (
    "g use rect path circle text tspan a pattern mask marker filter linearGradient clipPath symbol "
    "svg style image script foreignObject animate feImage feGaussianBlur title switch bar"
).split()
_CSS = (
    "@import url(http://127.0.0.1:9/);",
    "@font-face{src:url(//x)}",
    "@media screen{",
    "rect{fill:url(#a)}",
    "*{mask:url(#m)}",
    "* * * g{fill:red}",
    "svg{--a:u;--b:rl(http://x)}",
    "g{fill:var(--a)var(--b)}",
    "\\75 rl(x)",
    "/*",
    "*/",
    "}",
    "{",
    '"',
    "'",
    "\\",
    ";",
    ":not(",
    "use{href:#a}",
    "filter:blur(3px)",
    "<!--",
)
_PIECES = (
    *("<", ">", "&", '"', "'", "/>", "</g>", "<g>", "]]>", "<![CDATA[", "<!--", "-->", "&#60;"),
    *("&amp;", "&x;", "<?xml?>", "<!DOCTYPE svg [", "\0", "\x01", "\ufeff", "\ud800", "\u202e"),
    *("url(#a)", "url(", "var(--", "1e9", "<use href='#a'/>", " id='a'", " x=1", " xmlns=''"),
    *(" xmlns:xlink='http://www.w3.org/1999/xlink'", " style='fill:url(#a)'", "#a"),
)


def corpus_seeds() -> list[str]:
    """The documents to start from: all corpora, without the large documents."""
    seeds = []
    for corpus in ("hostile", "malformed", "valid"):
        for path in documents(FOLDER / corpus):
            text = text_of(path.read_bytes())
            if len(text) <= LONGEST:
                seeds.append(text)
    return seeds


class Mutator:
    """Numbered mutated documents; a number always gives the same one."""

    def __init__(self, seeds: list[str], seed: int) -> None:
        """Start from some documents.

        Args:
            seeds: Documents to mutate and to take parts from.
            seed: Different seeds give different documents.
        """
        self._seeds = seeds
        self._seed = seed
        self._trees = [tree for text in seeds if (tree := _parsed(text)) is not None]

    def case(self, number: int) -> str:
        """The document of that number."""
        rng = random.Random(f"{self._seed}:{number}")
        if rng.random() < 0.6:
            tree = copy.deepcopy(rng.choice(self._trees))
            for _ in range(rng.randint(1, 6)):
                rng.choice(_STRUCTURAL)(self, tree, rng)
            text = etree.tostring(tree, encoding="unicode")
        else:
            text = rng.choice(self._seeds)
        if rng.random() < 0.5:
            for _ in range(rng.randint(1, 4)):
                text = _mutate_characters(text, rng)
        return text

    def chance(self, number: int) -> float:
        """A number in [0, 1) that belongs to the case."""
        return random.Random(f"{self._seed}:{number}:chance").random()

    def splice(self, tree: etree._Element, rng: random.Random) -> None:
        """Put a part of another document somewhere."""
        part = copy.deepcopy(_pick(rng.choice(self._trees), rng))
        part.tail = None
        _insert(_pick(tree, rng), part, rng)

    def duplicate(self, tree: etree._Element, rng: random.Random) -> None:
        """Repeat a part, maybe inside of itself."""
        part = _pick(tree, rng)
        for _ in range(rng.choice((1, 1, 2, 5))):
            if len(part) < 50:
                _insert(_pick(tree, rng), copy.deepcopy(part), rng)

    def swap_attributes(self, tree: etree._Element, rng: random.Random) -> None:
        """Let two elements change the values of one of their attributes."""
        first, second = _pick(tree, rng), _pick(tree, rng)
        if first.attrib and second.attrib:
            one, other = rng.choice(first.keys()), rng.choice(second.keys())
            mine, yours = first.get(one, ""), second.get(other, "")
            first.set(one, yours)
            second.set(other, mine)

    def set_attribute(self, tree: etree._Element, rng: random.Random) -> None:
        """Give an element any attribute with any value."""
        name = rng.choice((*_NAMES, _XLINK))
        value = rng.choice((*_VALUES, *_ADDRESSES, *_NUMBERS))
        if name == "style":
            value = ";".join(
                f"{rng.choice(_NAMES)}:{rng.choice(_VALUES)}" for _ in range(rng.randint(1, 4))
            )
        _pick(tree, rng).set(name, value)

    def change_number(self, tree: etree._Element, rng: random.Random) -> None:
        """Change one of the numbers of an element."""
        element = _pick(tree, rng)
        for name in element.keys():
            found = list(_NUMBER.finditer(element.get(name, "")))
            if found and rng.random() < 0.5:
                match = rng.choice(found)
                text = element.get(name, "")
                number = rng.choice(_NUMBERS)
                element.set(name, text[: match.start()] + number + text[match.end() :])

    def rewire(self, tree: etree._Element, rng: random.Random) -> None:
        """Point a reference somewhere else, or make one."""
        ids = [element.get("id", "") for element in tree.iter(etree.Element) if element.get("id")]
        target = f"#{rng.choice(ids)}" if ids and rng.random() < 0.8 else rng.choice(_ADDRESSES)
        element = _pick(tree, rng)
        if rng.random() < 0.5:
            element.set(rng.choice(("href", _XLINK)), target)
        else:
            element.set(
                rng.choice(("fill", "mask", "filter", "clip-path", "marker-mid")), f"url({target})"
            )
        if not ids:
            _pick(tree, rng).set("id", "a")

    def rename(self, tree: etree._Element, rng: random.Random) -> None:
        """Give an element another name."""
        element = _pick(tree, rng)
        if element is not tree:
            element.tag = "{http://www.w3.org/2000/svg}" + rng.choice(_TAGS)

    def change_css(self, tree: etree._Element, rng: random.Random) -> None:
        """Put something into a style sheet, one that is there or a new one."""
        sheets = list(tree.iter("{*}style"))
        sheet = (
            rng.choice(sheets)
            if sheets
            else etree.SubElement(tree, "{http://www.w3.org/2000/svg}style")
        )
        text = sheet.text or "rect{fill:red}"
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice(_CSS) + text[at:]
        sheet.text = text


_STRUCTURAL = (
    Mutator.splice,
    Mutator.duplicate,
    Mutator.swap_attributes,
    Mutator.set_attribute,
    Mutator.set_attribute,
    Mutator.change_number,
    Mutator.rewire,
    Mutator.rewire,
    Mutator.rename,
    Mutator.change_css,
)


def _parsed(text: str) -> etree._Element | None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, encoding="utf-8")
    try:
        return etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _pick(tree: etree._Element, rng: random.Random) -> etree._Element:
    return rng.choice(list(tree.iter(etree.Element)))


def _insert(place: etree._Element, part: etree._Element, rng: random.Random) -> None:
    place.insert(rng.randint(0, len(place)), part)


def _mutate_characters(text: str, rng: random.Random) -> str:
    at = rng.randint(0, len(text))
    match rng.randrange(5):
        case 0:
            return text[:at] + text[at + rng.randint(1, 12) :]
        case 1:
            return text[:at] + rng.choice(_PIECES) + text[at:]
        case 2:
            return (
                text[:at]
                + chr(rng.choice((rng.randrange(128), rng.randrange(0x3000))))
                + text[at + 1 :]
            )
        case 3:
            end = at + rng.randint(1, 200)
            return text[:end] + text[at:end] + text[end:]
        case _:
            other = rng.randint(0, len(text))
            size = rng.randint(1, 40)
            return text[:at] + text[other : other + size] + text[at:]
