"""What a sentence names: shapes by colour and kind, labels of the picture."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mmzero_env.grounding.colours import WORDS
from mmzero_env.grounding.scene import SHAPES, Scene
from mmzero_env.grounding.words import Token, tokens

_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+|;")
_MARKUP = re.compile(
    r"[*`_]{2,}|[`*]|</?\w+>|\\[()\[\]]|\$|^[ \t]*(?:[-\u2022]|\d+[.)])[ \t]+", re.MULTILINE
)
_BOX = re.compile(r"\\boxed\b")
_QUOTES = frozenset("'\"\u2018\u2019\u201c\u201d")
MOST_TOKENS = 200
"""A sentence of more words, numbers and signs is not read: patterns look back to its
beginning, so their time grows with the square of its length."""

_LONGEST_LABEL = 6
# More than any pattern looks ahead or back from a token.
_BLANKS = ("",) * 24
ARTICLES = frozenset(("a", "an", "the", "one", "this", "that", "another"))
_TINTS = frozenset("light dark bright pale deep solid filled".split())
PLURALS = {("boxes" if word == "box" else f"{word}s"): name for word, name in SHAPES.items()}
"""Plurals of :data:`.scene.SHAPES`, with the name under which each is known."""

NOUNS = frozenset((*WORDS, *SHAPES, *PLURALS, *_TINTS))
"""Words that a description may begin with."""


# A sentence with one of these is about what might be, what is asked, or is taken back.
_OPEN = frozenset(
    "if suppose assume assuming assumed would could should might may maybe perhaps possibly let "
    "imagine unless without remove removed removing add added adding instead wait actually or "
    "either neither nor wrong incorrect mistake mistaken never except excluding hypothetically "
    "not cannot whether how what who where why when which whose need needs find determine "
    "question asks asked ask asking check verify compare hmm unclear seems seem appears appear "
    "probably likely guess unsure becomes become became were expect otherwise false true claim "
    "stated option options choice choices will move moved swap swapped replaced".split()
)


@dataclass(frozen=True)
class Mention:
    """What a claim is about.

    Attributes:
        colour: Basic colour word, or None.
        shape: Name of a shape, a value of :data:`.scene.SHAPES`, or None.
        label: Words of a text in the picture, or None; then the others are None.
    """

    colour: str | None = None
    shape: str | None = None
    label: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Sentence:
    """One sentence that states something.

    Attributes:
        text: As written, without markup.
        tokens: Its words, numbers and signs; quotation marks left out.
        scene: The picture whose labels are recognised.
    """

    text: str
    tokens: tuple[Token, ...]
    scene: Scene
    _things: dict[int, tuple[Mention, int] | None] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The tokens as text, and blank ones behind them, where negative places lead, too."""
        return (*(token.text for token in self.tokens), *_BLANKS)

    def word(self, index: int) -> str:
        """The token at a place; "" outside of the sentence."""
        return self.words[index]

    def quote(self, start: int, end: int) -> str:
        """The words from a token to before another, as written."""
        return self.text[self.tokens[start].start : self.tokens[end - 1].end]

    def noun(self, index: int) -> tuple[Mention, bool, int] | None:
        """A colour, a shape or both, from a token on, without an article.

        Returns:
            The mention, whether it is a plural, and the token behind it.
        """
        at = index
        if self.word(at) not in NOUNS:
            return None
        while self.word(at) in _TINTS:
            at += 1
        colour = WORDS.get(self.word(at))
        if colour is not None:
            at += 1
            if self.word(at) == "-" or self.word(at) in WORDS:
                return None
        word = self.word(at)
        if word in SHAPES:
            return Mention(colour, SHAPES[word]), False, at + 1
        if word in PLURALS:
            return Mention(colour, PLURALS[word]), True, at + 1
        return None if colour is None else (Mention(colour), False, at)

    def thing(self, index: int) -> tuple[Mention, int] | None:
        """What is named from a token on: a label, or a noun with or without article."""
        if index not in self._things:
            self._things[index] = self._thing(index)
        return self._things[index]

    def _thing(self, index: int) -> tuple[Mention, int] | None:
        label = self.label(index)
        if label is not None:
            end = index + len(label)
            return Mention(label=label), end + (self.word(end) in _KINDS)
        at = index + (self.word(index) in ARTICLES)
        if at > index and (label := self.label(at)) is not None:
            return Mention(label=label), at + len(label) + (self.word(at + len(label)) in _KINDS)
        found = self.noun(at)
        if found is None or found[1]:
            return None
        mention, _, end = found
        if mention.shape is None and self.word(end) in _KINDS:
            end += 1
        return mention, end

    def thing_before(self, end: int) -> tuple[Mention, int] | None:
        """What is named right before a token; the longest name counts.

        Returns:
            The mention and its first token, the article included.
        """
        for start in range(max(0, end - _LONGEST_LABEL - 2), end):
            found = self.thing(start)
            if found is not None and found[1] == end:
                return found[0], start
        return None

    def label(self, index: int) -> tuple[str, ...] | None:
        """The longest label of the picture that begins at a token."""
        labels = self.scene.labels
        if self.word(index) not in self.scene.label_starts:
            return None
        words: tuple[str, ...] = ()
        best = None
        for at in range(index, min(index + _LONGEST_LABEL, len(self.tokens))):
            if self.tokens[at].kind not in ("word", "number"):
                break
            words = (*words, self.tokens[at].text)
            if words in labels and self._is_meant(index, words):
                best = words
        return best

    def _is_meant(self, index: int, words: tuple[str, ...]) -> bool:
        """Whether a short word is a label and not a word of the sentence."""
        if len(words) > 1 or len(words[0]) > 2:
            return True
        following = self.word(index + 1)
        if words[0] in ("a", "i") and following.isalpha() and following not in _PREDICATES:
            return False
        token = self.tokens[index]
        written = self.text[token.start : token.end]
        return any(written in text.text for text in self.scene.labels[words])


# What may follow a label that looks like an article or a pronoun.
_PREDICATES = frozenset("is has to and leads points goes flows connects in".split())
# Nouns behind a colour or a label that name no shape of their own.
_KINDS = frozenset(
    "bar column one event marker slice segment row box node item entry value wedge sector "
    "category".split()
)


def sentences(text: str, scene: Scene) -> Iterator[Sentence]:
    r"""The sentences of an answer that state something about the picture.

    Questions, and sentences about what might be, are left out; so is what stands in
    ``\boxed{...}``.
    """
    for piece in _SENTENCE.split(_MARKUP.sub(" ", without_box(text))):
        piece = piece.strip()
        if not piece or piece.endswith("?"):
            continue
        found = tuple(token for token in tokens(piece) if token.text not in _QUOTES)
        words = {token.text for token in found}
        if any((word,) not in scene.labels for word in words & _OPEN):
            continue
        if len(found) <= MOST_TOKENS and not any(word.endswith(_NOT) for word in words):
            yield Sentence(piece, found, scene)


_NOT = ("n't", "n\u2019t")


def without_box(text: str) -> str:
    r"""An answer without the contents of every ``\boxed{...}``; an open one reaches to the end."""
    kept, at = [], 0
    for found in _BOX.finditer(text):
        if found.start() < at:
            continue
        kept.append(text[at : found.start()])
        depth, at = 0, len(text)
        for brace in re.finditer(r"[{}]", text[found.end() :]):
            depth += 1 if brace[0] == "{" else -1
            if depth <= 0:
                at = found.end() + brace.end()
                break
    return " ".join([*kept, text[at:]])
