"""Signs that a picture gives the hard answer away in writing.

The easy answer has to be readable in the picture, so only the hard one can leak. The
signals are counts over the text of the drawn ``<text>`` elements. They are shown in the
infos; :func:`gives_away` is their verdict, which the reward term ``leak`` is built on.

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
from collections.abc import Iterator
from dataclasses import dataclass

from mmzero_env.protocol import Proposal

# A number ends where letters begin ("12cm"), but does not begin inside a word ("A1").
_TOKEN = re.compile(r"(?<![^\W_])-?\d+(?:\.\d+)?|[^\W_]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
RUN = 5
"""Words in a row that a label hardly shares with a caption by chance."""

FEWEST_RUNS = 8
"""Runs of a caption from which it can be told whether it is recited."""

_TELLTALE = re.compile(r"\b(?:answers?|solutions?|therefore)\b", re.IGNORECASE)


@dataclass(frozen=True)
class LeakSignals:
    """What the writing in a picture gives away.

    Attributes:
        hard_answer: The hard answer stands in the text and not in the caption.
        telltale: "answer", "solution" or "therefore" stands in the text.
        question_share: Share of the distinct words of the hard question that stand in
            the text, 0 to 1; a printed question has 1, shared labels have little.
        caption_share: How much of the caption the text recites, see :func:`run_share`; a
            printed caption has 1, a title taken from it has little.
    """

    hard_answer: bool
    telltale: bool
    question_share: float
    caption_share: float


def leak_signals(text: str, proposal: Proposal) -> LeakSignals:
    """The signals of one picture.

    Args:
        text: What the picture says, from :func:`mmzero_env.svg_metrics.drawn_text`.
        proposal: What the picture was drawn for.

    Returns:
        All four signals.
    """
    return LeakSignals(
        hard_answer=says(text, proposal.hard_answer)
        and not says(proposal.caption, proposal.hard_answer),
        telltale=_TELLTALE.search(text) is not None,
        question_share=word_share(proposal.hard_question, text),
        caption_share=run_share(proposal.caption, text),
    )


def gives_away(text: str, proposal: Proposal) -> bool:
    """Whether the writing in a picture tells what should be found out by looking.

    Any of three is enough:

    * the hard answer stands in the text and not in the caption;
    * the text announces an answer ("answer", "solution", "therefore") that the caption
      does not, or the hard answer stands beside such a word, whatever the caption says;
    * the text recites more than half of the caption.

    Args:
        text: What the picture says.
        proposal: What the picture was drawn for.

    Returns:
        The verdict; the blind spots are those of the module.
    """
    signals = leak_signals(text, proposal)
    if signals.telltale:
        wanted = f"{proposal.caption} {proposal.easy_answer}"
        if _TELLTALE.search(wanted) is None or says(text, proposal.hard_answer):
            return True
    return signals.hard_answer or signals.caption_share > 0.5


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


def run_share(caption: str, text: str) -> float:
    """How much of a caption a text recites, 0 to 1.

    The share of the caption's distinct runs of :data:`RUN` words, those with more than one
    figure left out, that stand in the text: labels beside their values come in the order of
    the caption in an honest picture too, prose does not. 0 for a caption with fewer than
    :data:`FEWEST_RUNS` such runs, which a title and a legend may share with it.
    """
    runs = {run for run in _runs(words(caption)) if sum(map(_is_figure, run)) <= 1}
    if len(runs) < FEWEST_RUNS:
        return 0.0
    return len(runs.intersection(_runs(words(text)))) / len(runs)


def _runs(said: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(said[start:] for start in range(RUN)), strict=False)


def _is_figure(word: str) -> bool:
    return any(char.isdigit() for char in word)


def word_share(question: str, text: str) -> float:
    """Share of the distinct words of a question that a text holds; 0 for no words."""
    asked = set(words(question))
    return len(asked & set(words(text))) / len(asked) if asked else 0.0
