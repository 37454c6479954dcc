"""Make the bundled font for Chinese, Japanese and Korean text.

    python -m benchmarks.cjk_font DroidSansFallback.ttf mmzero_env/rendering/fonts/CJK.ttf

The source is version 2.55b of Droid Sans Fallback (Debian's fonts-droid-fallback, Apache-2.0);
fontTools does the work. Kept are the characters that people write most: see :func:`wanted`.
Hinting and OpenType layout go, because the drawing backends use neither for these scripts.
One glyph is added, a full square at :data:`mmzero_env.rendering.font_files.PROBE`, by which a
backend can tell that its text really comes from the bundled fonts.
"""

from __future__ import annotations

import argparse

from fontTools import subset
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

from mmzero_env.rendering.font_files import PROBE

# Blocks of The Unicode Standard, chapter 18: CJK symbols and punctuation to Katakana
# extensions, enclosed and square forms, vertical forms, full- and halfwidth forms.
_BLOCKS = ((0x3000, 0x3400), (0xFE30, 0xFE50), (0xFF00, 0xFFF0))
_HANGUL = (0xAC00, 0xD7A4)
_EM = 256  # units per em of the source
# Lead bytes of the ideographs in national standards: all of GB 2312, the frequently used
# ones of Big5, the first level of JIS X 0208.
_CODECS = (("gb2312", 0xB0, 0xF7), ("big5", 0xA4, 0xC6), ("euc_jp", 0xB0, 0xCF))


def wanted() -> set[int]:
    """Code points to keep, as far as the source has them."""
    found = {code for start, end in (*_BLOCKS, _HANGUL) for code in range(start, end)}
    for codec, first, last in _CODECS:
        for lead in range(first, last + 1):
            for trail in range(0x40, 0xFF):
                text = bytes((lead, trail)).decode(codec, "ignore")
                found.update(ord(letter) for letter in text if ord(letter) > 0x7F)
    return found


def main() -> None:
    """Write the subset."""
    parser = argparse.ArgumentParser(description="Make the bundled CJK font.")
    parser.add_argument("source", help="DroidSansFallback.ttf")
    parser.add_argument("target", help="font file to write")
    arguments = parser.parse_args()
    # The time stamp of the source stays, so that the same source gives the same bytes.
    font = TTFont(arguments.source, recalcTimestamp=False)
    options = subset.Options(
        layout_features=[],
        hinting=False,
        notdef_outline=True,
        drop_tables=["GSUB", "GPOS", "GDEF", "vhea", "vmtx", "gasp"],
    )
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=wanted())
    subsetter.subset(font)
    _add_probe(font)
    font.save(arguments.target)


def _add_probe(font: TTFont) -> None:
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, _EM), (_EM, _EM), (_EM, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font.setGlyphOrder([*font.getGlyphOrder(), "probe"])
    font["glyf"]["probe"] = pen.glyph()
    font["hmtx"]["probe"] = (_EM, 0)
    for table in font["cmap"].tables:
        table.cmap[ord(PROBE)] = "probe"


if __name__ == "__main__":
    main()
