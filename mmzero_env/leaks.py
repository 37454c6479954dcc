"""Signs that a picture gives the hard answer away in writing.

The easy answer has to be readable in the picture, so only the hard one can leak. The
signals are counts over the text of the drawn ``<text>`` elements. They are shown in the
infos; no design of this package is built on them.

Blind spots. Not seen: glyphs drawn as paths or as shapes, characters that are spread
over several ``<text>`` elements, another wording or unit of the same answer ("half" for
"50"), number words for digits, text of another language, and everything that is told by
the drawing itself. Seen although harmless: an answer that happens to be a tick label or
a name that the picture needs, where the caption does not mention it. Text that is
invisible (transparent, covered, out of the picture) counts like any other.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mmzero_env.protocol import Proposal

# A number ends where letters begin ("12cm"), but does not begin inside a word ("A1").
_TOKEN = re.compile(r"(?<![^\W_])-?\d+(?:\.\d+)?|[^\W_]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TELLTALE = re.compile(r"\b(?:answers?|solutions?|therefore)\b", re.IGNORECASE)


@dataclass(frozen=True)
class LeakSignals:
    """What the writing in a picture gives away.

    Attributes:
        hard_answer: The hard answer stands in the text and not in the caption.
        telltale: "answer", "solution" or "therefore" stands in the text.
        question_share: Share of the distinct words of the hard question that stand in
            the text, 0 to 1; a printed question has 1, shared labels have little.
    """

    hard_answer: bool
    telltale: bool
    question_share: float


def leak_signals(text: str, proposal: Proposal) -> LeakSignals:
    """The signals of one picture.

    Args:
        text: What the picture says, from :func:`mmzero_env.svg_metrics.drawn_text`.
        proposal: What the picture was drawn for.

    Returns:
        All three signals.
    """
    return LeakSignals(
        hard_answer=says(text, proposal.hard_answer)
        and not says(proposal.caption, proposal.hard_answer),
        telltale=_TELLTALE.search(text) is not None,
        question_share=word_share(proposal.hard_question, text),
    )


def words(text: str) -> list[str]:
    """The words and numbers of a text in a normal form.

    Compatibility forms are unified (NFKC), case and punctuation go, thousands separators
    and zeros behind the decimal point too: ``"1,200.50 €"`` gives ``["1200.5"]``.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    return [
        token.rstrip("0").rstrip(".") if "." in token else token
        for token in _TOKEN.findall(_THOUSANDS.sub("", text))
    ]


def says(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in a text, in order and next to each other.

    A phrase without words or numbers (an arrow, say) is looked for as it is; an empty
    one is never said.
    """
    wanted = words(phrase)
    if not wanted:
        return bool(phrase.strip()) and phrase.strip() in text
    return f" {' '.join(wanted)} " in f" {' '.join(words(text))} "


def word_share(question: str, text: str) -> float:
    """Share of the distinct words of a question that a text holds; 0 for no words."""
    asked = set(words(question))
    return len(asked & set(words(text))) / len(asked) if asked else 0.0
