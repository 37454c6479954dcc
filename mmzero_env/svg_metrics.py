"""What can be counted about a picture: its elements, their variety, its fingerprint.

The numbers stand in the infos, where a run that drifts shows early: pictures that turn
into written text, ever fewer kinds of elements, one picture drawn again and again. No
reward looks at them but at the text alone, see :mod:`mmzero_env.leaks`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from lxml import etree

from mmzero_env.protocol import Failure, Image
from mmzero_env.rendering.cost import drawing_cost
from mmzero_env.rendering.guard import Vetted, vet
from mmzero_env.rendering.limits import RenderLimits

PAINTED = frozenset("circle ellipse image line path polygon polyline rect text use".split())
"""Elements that put something onto the canvas themselves (SVG 1.1, section 5.1, "graphics
elements")."""

SIDE = 32
KEPT = 8
"""The fingerprint reduces a picture to 32 by 32 and keeps 8 by 8 frequencies: 64 bits."""

_COSINES = np.cos(np.pi * np.outer(np.arange(KEPT), 2 * np.arange(SIDE) + 1) / (2 * SIDE))


@dataclass(frozen=True)
class SvgMetrics:
    """Counts over one code that passed the guard.

    Attributes:
        elements: Elements below the root, after the guard dropped what it drops.
        type_entropy: Entropy of their names, in bits; see :func:`type_entropy`.
        cost: Drawing cost with every reference followed, in units of one plain shape.
        text_share: Share of ``<text>`` among the painted elements; 0 if there is none.
        text: What the ``<text>`` elements say, joined by blanks.
    """

    elements: int
    type_entropy: float
    cost: float
    text_share: float
    text: str


def svg_metrics(code: str, limits: RenderLimits | None = None) -> SvgMetrics | Failure:
    """Count over a code as the renderer sees it.

    Args:
        code: The extracted code.
        limits: Caps of the guard; the defaults when None.

    Returns:
        The counts, or why the guard refuses the code.
    """
    limits = limits or RenderLimits()
    document = vet(code, limits)
    return document if isinstance(document, Failure) else document_metrics(document, limits)


def document_metrics(document: Vetted, limits: RenderLimits) -> SvgMetrics:
    """The same for a document that has passed the guard under ``limits``."""
    names = [
        etree.QName(element).localname
        for element in document.root.iter(etree.Element)
        if element is not document.root
    ]
    painted = [name for name in names if name in PAINTED]
    return SvgMetrics(
        elements=len(names),
        type_entropy=type_entropy(names),
        cost=drawing_cost(document.root, limits),
        text_share=painted.count("text") / len(painted) if painted else 0.0,
        text=drawn_text(document.root),
    )


def text_of(code: str, limits: RenderLimits | None = None) -> str | Failure:
    """What the picture of a code says, see :func:`drawn_text`.

    Args:
        code: The extracted code.
        limits: Caps of the guard; the defaults when None.

    Returns:
        The text, or why the guard refuses the code.
    """
    document = vet(code, limits or RenderLimits())
    return document if isinstance(document, Failure) else drawn_text(document.root)


def type_entropy(names: Iterable[str]) -> float:
    """Shannon entropy of a sequence of names, in bits.

    ``H = -sum_k p_k log2 p_k`` with ``p_k`` the share of the k-th name; 0 for one name or
    none, ``log2 n`` for n names that are equally frequent. Source: Shannon (1948), section 6.
    """
    counts = Counter(names)
    total = counts.total()
    return 0.0 + sum(n / total * math.log2(total / n) for n in counts.values())


def drawn_text(root: etree._Element) -> str:
    """What the ``<text>`` elements of a document say, runs of blanks as one.

    A ``<tspan>`` that is placed somewhere else (``x``, ``y`` or ``dy``) starts a new word,
    any other continues the word before it.
    """
    pieces: list[str] = []
    for text in root.iter("{*}text"):
        pieces.append(" ")
        for event, part in etree.iterwalk(text, events=("start", "end")):
            moved = part is text or any(part.get(name) for name in ("x", "y", "dy"))
            if event == "start":
                pieces += [" " if moved else "", part.text or ""]
            else:
                pieces += [" " if moved else "", "" if part is text else part.tail or ""]
    return " ".join("".join(pieces).split())


def perceptual_hash(image: Image) -> int:
    """A fingerprint of 64 bits by which alike pictures are alike: pHash.

    The grey picture is reduced to 32 by 32 means; of its cosine transform (DCT-II) the 8
    by 8 lowest frequencies are kept, and a bit tells whether a coefficient is above their
    median. Small changes flip few bits; another layout flips many. Hashes by differences of
    neighbours are cheaper, but blind to half of the edges of flat drawings on white.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions" (2010), section 3.2.1; grey levels by ITU-R BT.601 (0.299 R + 0.587 G +
    0.114 B).

    Args:
        image: uint8 (H, W, 3), of any size.

    Returns:
        64 bits, row by row from the lowest frequency; the first is the highest bit.
    """
    height, width = image.shape[:2]
    rows, columns = (np.arange(SIDE + 1) * size // SIDE for size in (height, width))
    # A picture smaller than the grid gives neighbouring cells the same pixels.
    tall, wide = (np.maximum(np.diff(edges), 1) for edges in (rows, columns))
    bands = [
        image[at : at + many].sum(0, dtype=np.int64)
        for at, many in zip(rows[:-1], tall, strict=True)
    ]
    sums = np.add.reduceat(np.stack(bands), columns[:-1], axis=1)
    grey = sums @ np.array([299, 587, 114]) / (1000 * np.outer(tall, wide))
    # Rounded, or the noise of arithmetic would decide where a frequency does not occur.
    low = np.round(_COSINES @ grey @ _COSINES.T, 6)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(first: int, second: int) -> int:
    """Number of bits in which two fingerprints differ, 0 to 64."""
    return (first ^ second).bit_count()


def nearest(fingerprint: int, others: Iterable[int]) -> int | None:
    """The smallest Hamming distance to other fingerprints; None if there are none."""
    return min((hamming(fingerprint, other) for other in others), default=None)
