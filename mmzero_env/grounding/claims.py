"""Statements about a picture, recognised in plain sentences.

Nothing is judged here; see :mod:`.verdicts`. A pattern asks for a beginning and an end
that leave no doubt what is meant, so many a claim is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mmzero_env.grounding.phrases import ARTICLES, NOUNS, Mention, Sentence
from mmzero_env.grounding.words import COUNTS, value_of

# Between a key and its value.
_LINK = frozenset(
    "= : ( is has at of shows reads reaches equals with value the a stands was about "
    "approximately around roughly nearly almost ~ \u2248".split()
)
_ABOUT = frozenset("about approximately around roughly nearly almost ~ \u2248".split())
# What turns the numbers behind it into something else than what is seen.
_DERIVED = frozenset(
    "sum total difference average mean ratio combined together product median range half twice "
    "double triple more fewer less increase decrease plus minus times divided both remaining per "
    "each every than between change percent percentage subtract subtracting multiply from gives "
    "makes position place rank width area radius sides".split()
)
_BEHIND_VALUE = frozenset(("", ",", ".", ")", "and", "but", "while", "so", "whereas"))
_UNITS = frozenset("unit units \u00b0 degrees percent".split())
_BEFORE_KEY = frozenset(
    ", : ( ) and so see but while then thus hence that because since for of also at "
    "whereas therefore".split()
) | {""}
_BEHIND_NOUN = frozenset(("", ",", ".", ":", "and", "but", "so", ")"))
_PICTURE = frozenset("image picture figure diagram chart drawing grid".split())
# A count of a part of the picture is not checked.
_PARTLY = frozenset(
    "row column rows columns left right top bottom inside middle side sides corner first second "
    "third fourth last each every between group line per among above below under outside center "
    "centre both of these those other remaining more fewer less than least most half next to "
    "legend with".split()
)
_SAYING = frozenset("shows contains includes has depicts displays".split())
_BEFORE_LIST = frozenset(("", ",", ":", "see", "so", "and", "is", "chain", "path", "order", "flow"))
_HOLDS = frozenset((":", "=", "is", "has", "contains", "holds", "shows", "a", "an"))
_CELL = re.compile(r"[a-h][1-8]")
_QUOTED = re.compile(
    r"\b(?:labell?ed|titled|text|label|title|header|heading)\s+(?:as\s+|is\s+|reads\s+|says\s+)?"
    r"(?:'([^'\"\n]{2,60})'(?!\w)|\"([^\"\n]{2,60})\"|\u201c([^\u201c\u201d\n]{2,60})\u201d)",
    re.IGNORECASE,
)
# What a superlative behind it is about is not the whole picture.
_AMONG = frozenset("of between among these those than remaining rest both".split())
_QUOTE_SIGNS = frozenset("'\"\u201c")
_MOST = frozenset("tallest longest highest largest biggest greatest most maximum".split())
_LEAST = frozenset("shortest lowest smallest least minimum".split())
_MORE = frozenset("taller longer higher larger greater bigger".split())
_FEWER = frozenset("shorter lower smaller".split())
_SIDES = {"above": "above", "below": "below", "under": "below", "beneath": "below"}
_ALIGNED = {"row": "row", "column": "column"}
_BESIDES = frozenset(
    "directly immediately just located positioned placed situated to on the is lies sits stands "
    "are found".split()
)
_LEADS = frozenset("points leads goes flows".split())


@dataclass(frozen=True)
class Statement:
    """One claim as it was understood.

    Attributes:
        kind: "count", "presence", "text", "value", "cell", "position", "extreme", "order"
            or "link".
        text: The words, as written.
        about: What it is about, one or two things, or a chain of them.
        number: The number that it states, if any.
        word: A colour, a side or a direction, by kind.
        place: Column and row of a cell from 0.
        rough: The number is said to be approximate.
    """

    kind: str
    text: str
    about: tuple[Mention, ...] = ()
    number: float | None = None
    word: str = ""
    place: tuple[int, int] | None = None
    rough: bool = False


def statements(sentence: Sentence) -> Iterator[Statement]:
    """All statements that are recognised in a sentence."""
    if "no" in sentence.words:
        for index, token in enumerate(sentence.tokens):
            if token.text == "no":
                yield from _count(sentence, index)
        return
    if _QUOTE_SIGNS & set(sentence.text):
        yield from _texts(sentence)
    chain: list[Statement] = []
    if "to" in sentence.words or any(token.kind == "arrow" for token in sentence.tokens):
        chain = list(_chains(sentence))
        yield from chain
    for index, token in enumerate(sentence.tokens):
        word = token.text
        if token.kind == "number":
            yield from _value(sentence, index)
        if token.kind == "number" or word in COUNTS:
            yield from _count(sentence, index)
        if word in NOUNS:
            yield from _listed(sentence, index)
        if word in ("a", "an", "one"):
            yield from _presence(sentence, index)
        if _CELL.fullmatch(word):
            yield from _cell(sentence, index, (ord(word[0]) - 97, int(word[1]) - 1), index + 1)
        elif word == "row":
            yield from _row_and_column(sentence, index)
        if word in _SIDES or word in ("left", "right", "inside", "same"):
            yield from _position(sentence, index)
        if word in _MOST or word in _LEAST:
            yield from _extreme(sentence, index)
        if word in _MORE or word in _FEWER:
            yield from _order(sentence, index)
        if not chain and word in ("from", *_LEADS, "connects", "connected", "linked", "joined"):
            yield from _link(sentence, index)


def _texts(sentence: Sentence) -> Iterator[Statement]:
    for found in _QUOTED.finditer(sentence.text):
        quoted = next(group for group in found.groups() if group)
        yield Statement("text", found[0], word=quoted.strip(" .,"))


def _value(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``red 5``, ``the red bar is 7``, ``A: 12``, ``cat = 3``."""
    end = index - 1
    while end >= 0 and index - end <= 7 and sentence.word(end) in _LINK:
        # A label may be such a word itself.
        if sentence.label(end) is not None:
            break
        end -= 1
    between = {sentence.word(at) for at in range(end + 1, index)}
    found = sentence.thing_before(end + 1)
    if found is None:
        return
    mention, start = found
    key = sentence.tokens[start : end + 1]
    if sentence.word(start) in ARTICLES and mention.label is None and mention.colour is None:
        return
    if mention.shape not in (None, "bar", "box") or mention.colour is None and mention.shape:
        return
    if not between and len(key) == 1 and len(key[0].text) == 1:
        return
    behind = sentence.word(index + 1)
    if behind in _UNITS:
        behind = sentence.word(index + 2)
        if behind in ("+", "-", "\u2212"):
            return
    if behind not in _BEHIND_VALUE and not (
        behind in ("+", "-", "\u2212") and not between and _is_spaced(sentence, index)
    ):
        return
    before, second = sentence.word(start - 1), sentence.word(start - 2)
    if between and before not in _BEFORE_KEY:
        return
    if before == "and" and between and value_of(second) is None and second not in ("", ","):
        return
    if before == "of" and second in ("number", "count", "amount", "none", "half"):
        return
    clause = start
    while clause > 0 and sentence.word(clause - 1) not in (",", ":", "(", ")"):
        clause -= 1
    around = {sentence.word(at) for at in range(clause, start)} | between
    if around & _DERIVED:
        return
    number = value_of(sentence.tokens[index].text)
    if number is not None:
        rough = bool((around | between) & _ABOUT)
        text = sentence.quote(start, index + 1)
        yield Statement("value", text, (mention,), number, rough=rough)


def _is_spaced(sentence: Sentence, index: int) -> bool:
    """Whether a sign behind a number has room around it, as between two numbers of a sum."""
    return sentence.tokens[index].end < sentence.tokens[index + 1].start


def _count(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``there are 3 red circles``."""
    found = sentence.noun(index + 1)
    if found is None or found[0].shape is None:
        return
    mention, plural, end = found
    word = sentence.word(index)
    number = 0.0 if word == "no" else COUNTS.get(word, value_of(word))
    if number is None or number != int(number) or number and plural == (number == 1):
        return
    if not _is_whole(sentence, index, end):
        return
    yield Statement("count", sentence.quote(index, end), (mention,), float(number))


def _is_whole(sentence: Sentence, start: int, end: int) -> bool:
    """Whether a count is about the whole picture, and is said of it."""
    if any(sentence.word(at) in _PARTLY for at in range(start)):
        return False
    before = {sentence.word(at) for at in range(start)}
    said = before & {"there", "see"} or before & _PICTURE and before & _SAYING
    if not said or before & _DERIVED:
        return False
    behind = sentence.word(end)
    if behind in ("in", "on") and sentence.word(end + 1) in ("the", "this", "total"):
        last = sentence.word(end + 2) if sentence.word(end + 1) != "total" else ""
        behind = "" if last in _PICTURE or sentence.word(end + 1) == "total" else behind
        if sentence.word(end + 3) not in _BEHIND_NOUN:
            return False
    return behind in _BEHIND_NOUN


def _listed(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``triangles 2``, ``red circles: 3``, ``triangles: none``, ``blue: A1 B2``."""
    if sentence.word(index - 1) not in _BEFORE_LIST:
        return
    found = sentence.noun(index)
    if found is None:
        return
    mention, plural, end = found
    if sentence.word(end) == ":" and _CELL.fullmatch(sentence.word(end + 1)):
        at = end + 1
        while _CELL.fullmatch(sentence.word(at)):
            name = sentence.word(at)
            yield Statement(
                "cell", f"{name} {sentence.quote(index, end)}", (mention,),
                place=(ord(name[0]) - 97, int(name[1]) - 1),
            )  # fmt: skip
            at += 1 + (
                sentence.word(at + 1) == "," and bool(_CELL.fullmatch(sentence.word(at + 2)))
            )
        return
    if sentence.word(index - 1) == ":":
        # Of a part, perhaps, that is named before.
        return
    if not plural and not (mention.shape is None and sentence.word(end) == ":"):
        return
    at = end + (sentence.word(end) in (":", "="))
    word = sentence.word(at)
    if word == "none":
        number = 0.0
    elif plural and at < len(sentence.tokens) and sentence.tokens[at].kind == "number":
        number = value_of(word)
    else:
        return
    if number is None or number != int(number) or sentence.word(at + 1) not in _BEHIND_VALUE:
        return
    if any(sentence.word(i) in _PARTLY for i in range(index)):
        return
    yield Statement("count", sentence.quote(index, at + 1), (mention,), number)


def _presence(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``I see a blue square``, ``there is a red circle and a triangle``."""
    found = sentence.noun(index + 1)
    if found is None or found[0].shape in (None, "bar", "shape", "box") or found[1]:
        return
    mention, _, end = found
    behind = sentence.word(end)
    if behind not in _BEHIND_NOUN | {"in", "on", "at", "with", "that", "inside", "labeled",
                                     "labelled", "next", "near", "above", "below"}:  # fmt: skip
        return
    before = [sentence.word(at) for at in range(index)]
    said = "there" in before and ("is" in before or "are" in before) or "there's" in before
    said = (
        said
        or "see" in before
        or bool({"image", "picture"} & set(before))
        and bool({"shows", "contains", "has", "includes"} & set(before))
    )
    # Only lists of such things may stand between.
    passed = {"in", "with", "of", "by", "like", "as", "than", "from", "into", "no"}
    if said and not passed & set(before):
        yield Statement("presence", sentence.quote(index, end), (mention,))


def _cell(sentence: Sentence, start: int, place: tuple[int, int], at: int) -> Iterator[Statement]:
    """``A1 red circle``, ``B2 is a square``, ``row 2 column 3: red circle``."""
    while sentence.word(at) in _HOLDS:
        at += 1
    found = sentence.noun(at)
    if found is None or found[1] or sentence.word(found[2]) not in (*_BEHIND_NOUN, "in", "while"):
        return
    if sentence.word(start - 1) in ("than", "of", "-", "and") and sentence.word(start - 2) != "":
        if sentence.word(start - 1) != "and":
            return
    yield Statement("cell", sentence.quote(start, found[2]), (found[0],), place=place)


def _row_and_column(sentence: Sentence, index: int) -> Iterator[Statement]:
    row = value_of(sentence.word(index + 1))
    at = index + 2 + (sentence.word(index + 2) in (",", "and"))
    column = value_of(sentence.word(at + 1)) if sentence.word(at) in ("column", "col") else None
    if row is None or column is None or row != int(row) or column != int(column):
        return
    yield from _cell(sentence, index, (int(column) - 1, int(row) - 1), at + 2)


def _position(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``the circle is left of the square``, ``A is above B``, ``in the same row as``."""
    word, behind = sentence.word(index), index + 1
    if word in ("left", "right"):
        if sentence.word(behind) != "of":
            return
        side, behind = word, behind + 1
    elif word == "same":
        side = _ALIGNED.get(sentence.word(behind), "")
        if not side or sentence.word(behind + 1) != "as" or sentence.word(index - 2) != "in":
            return
        index, behind = index - 2, behind + 2
    else:
        side = _SIDES.get(word, word)
    second = sentence.thing(behind)
    end = index
    while sentence.word(end - 1) in _BESIDES and end > 1:
        end -= 1
    first = sentence.thing_before(end)
    if first is None or second is None or end == index:
        return
    if sentence.word(second[1]) not in (*_BEHIND_NOUN, "in", "while", "which"):
        return
    if sentence.word(first[1] - 1) in ("of", "and", "than", "between"):
        if sentence.word(first[1] - 1) != "and" or not sentence.word(first[1] - 2):
            return
        if end == index - 1 and sentence.word(end) == "are":
            return
    if "are" in (sentence.word(at) for at in range(end, index)):
        return
    yield Statement(
        "position", sentence.quote(first[1], second[1]), (first[0], second[0]), word=side
    )


def _extreme(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``blue is the tallest``, ``the tallest bar is blue``, ``most 8, red``."""
    word = sentence.word(index)
    side = "most" if word in _MOST else "least"
    at = index + 1
    if any(sentence.word(i) in _AMONG for i in range(index)):
        return
    if (
        word in ("most", "least")
        and at < len(sentence.tokens)
        and (sentence.tokens[at].kind == "number" and sentence.word(at + 1) == ",")
    ):
        found = sentence.thing(at + 2)
        if found and sentence.word(found[1]) in ("", ",", "."):
            yield Statement("extreme", sentence.quote(index, found[1]), (found[0],), word=side)
        return
    if word in ("most", "least") or sentence.word(index - 1) != "the":
        return
    kind = sentence.word(at) in ("bar", "column", "value", "one", "row", "number", "entry", "slice")
    at += kind
    if sentence.word(at) == "is":
        found = sentence.thing(at + 1)
        if found and kind and sentence.word(found[1]) in (*_BEHIND_VALUE, "at", "with"):
            if sentence.word(index - 2) in ("", ",", "so", "and", ":"):
                yield Statement("extreme", sentence.quote(index, found[1]), (found[0],), word=side)
    elif sentence.word(at) in (*_BEHIND_VALUE, "at", "with"):
        end = index - 1
        if sentence.word(end - 1) not in ("is", "has"):
            return
        found = sentence.thing_before(end - 1)
        if found and sentence.word(found[1] - 1) in ("", ",", "so", "and", "see", ":"):
            if sentence.word(found[1] - 1) == "and" and sentence.word(found[1] - 2) == "":
                return
            yield Statement("extreme", sentence.quote(found[1], at), (found[0],), word=side)


def _order(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``red is longer than green``."""
    if sentence.word(index + 1) != "than" or sentence.word(index - 1) not in ("is", "bar"):
        return
    end = index - (sentence.word(index - 1) == "is")
    first, second = sentence.thing_before(end), sentence.thing(index + 2)
    if end == index or first is None or second is None:
        return
    if sentence.word(second[1]) not in _BEHIND_VALUE | {"by"}:
        return
    if sentence.word(first[1] - 1) not in ("", ",", "so", "and", "but", ":", "because", "since"):
        return
    if sentence.word(first[1] - 1) == "and" and sentence.thing_before(first[1] - 1):
        return
    side = "most" if sentence.word(index) in _MORE else "least"
    yield Statement("order", sentence.quote(first[1], second[1]), (first[0], second[0]), word=side)


def _chains(sentence: Sentence) -> Iterator[Statement]:
    """``red to blue to green``, ``A -> B``; a chain that makes up a whole clause."""
    at = 0
    while at < len(sentence.tokens):
        start, found = at, sentence.thing(at)
        at += 1
        if found is None or sentence.word(start - 1) not in _BEFORE_LIST:
            continue
        about, end = [found[0]], found[1]
        spans = [(start, end)]
        arrows = False
        while (word := sentence.word(end)) == "to" or (
            end < len(sentence.tokens) and sentence.tokens[end].kind == "arrow"
        ):
            more = sentence.thing(end + 1)
            if more is None:
                break
            arrows = arrows or word != "to"
            about.append(more[0])
            spans.append((end + 1, more[1]))
            end = more[1]
        if len(about) < 2 or sentence.word(end) not in ("", ",", ".", ")"):
            continue
        if len(about) == 2 and not arrows and sentence.word(start - 1) not in ("so", "see"):
            # Both ends of a way, perhaps, and not two neighbours.
            continue
        number = end + 1 < len(sentence.tokens) and sentence.tokens[end + 1].kind == "number"
        if len(about) == 2 and sentence.word(end) == "," and number:
            continue
        at = end
        text = sentence.quote(start, end)
        steps = None
        if len(about) == 2 and sentence.word(end) == "," and sentence.word(end + 1) == "steps":
            steps = value_of(sentence.word(end + 2))
            text = sentence.quote(start, min(end + 3, len(sentence.tokens)))
        if steps is not None:
            yield Statement("link", text, tuple(about), steps, word="steps")
            continue
        for i in range(len(about) - 1):
            text = sentence.quote(spans[i][0], spans[i + 1][1])
            yield Statement("link", text, (about[i], about[i + 1]), word="to")


def _link(sentence: Sentence, index: int) -> Iterator[Statement]:
    """``an arrow from A to B``, ``A points to B``, ``A is connected to B``."""
    word = sentence.word(index)
    if word == "from":
        yield from _drawn(sentence, index)
        return
    passive = word in ("connected", "linked", "joined")
    if passive and sentence.word(index - 1) != "is":
        return
    first = sentence.thing_before(index - passive)
    at = index + 1 + (sentence.word(index + 1) == "directly")
    second = sentence.thing(at + 1) if sentence.word(at) in ("to", "with") else None
    if first is None or second is None:
        return
    if sentence.word(first[1] - 1) in ("and", "of", "from", "to"):
        return
    if sentence.word(second[1]) not in (*_BEHIND_NOUN, "in", "while"):
        return
    way = ("to" if word == "points" else "leads") if word in _LEADS else "joined"
    text = sentence.quote(first[1], second[1])
    yield Statement("link", text, (first[0], second[0]), word=way)


def _drawn(sentence: Sentence, index: int) -> Iterator[Statement]:
    before = {sentence.word(at) for at in range(max(0, index - 4), index)}
    if not before & {"arrow", "line", "edge", "link", "connection"}:
        return
    first = sentence.thing(index + 1)
    second = sentence.thing(first[1] + 1) if first and sentence.word(first[1]) == "to" else None
    if first is not None and second is not None:
        way = "to" if before & {"arrow", "edge"} else "joined"
        text = sentence.quote(index, second[1])
        yield Statement("link", text, (first[0], second[0]), word=way)
