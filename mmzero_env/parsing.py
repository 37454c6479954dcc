"""Reads what the three roles write: a value or a reason, never an exception.

The tag grammar is the strict one of the published Proposer reward, minus its white
space defect: only blanks around and inside the six known tags are dropped, so
``a / b`` and ``x < 5`` inside a caption keep theirs. Every pattern here runs in
time proportional to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmzero_env.protocol import CONTENT_TYPES, CodeForm, Failure, Proposal

REQUIRED_TAGS = ("caption", "easy_question", "easy_answer", "hard_question", "hard_answer")
TAGS = ("content_type", *REQUIRED_TAGS)

# A tag name may be surrounded by blanks: models write "<caption >" and break lines.
_TAG = re.compile(rf"<\s*+(?:(/)\s*+)?({'|'.join(TAGS)})\s*+>")

# Words of a caption that betray its content type, tried in this order; the order is
# the published one, the words are ours.
_TYPE_WORDS: tuple[tuple[str, str], ...] = (
    (
        "diagram",
        r"flow[ -]?charts?|flow diagrams?|diagrams?|org(?:anization(?:al)?)?[ -]charts?"
        r"|circuits?|schematics?|mind[ -]?maps?|state machines?|workflows?|networks?|nodes?",
    ),
    (
        "data_chart",
        r"charts?|graphs?|plots?|histograms?|heat[ -]?maps?|stacked|scatter|bubbles?"
        r"|pies?|donuts?|radars?|tree[ -]?maps?|box[ -]?plots?|candlesticks?|dashboards?",
    ),
    (
        "geometry",
        r"geometr(?:y|ic|ical)|triangles?|circles?|polygons?|rectangles?|squares?|angles?"
        r"|pentagons?|hexagons?|octagons?|trapezoids?|parallelograms?|rhombus(?:es)?"
        r"|ellipses?|chords?|radius|radii|vert(?:ex|ices)|perpendicular|tangents?",
    ),
    (
        "timeline",
        r"time[ -]?lines?|gantt|chronolog(?:y|ical)|milestones?|schedules?|histor(?:y|ical)",
    ),
    ("map", r"maps?|geograph(?:y|ic|ical)|regional|floor[ -]?plans?|routes? map|continents?"),
    ("table", r"tables?|tabular|grids?|matri(?:x|ces)|spreadsheets?|leader[ -]?boards?|calendars?"),
)
_TYPE_PATTERNS = tuple((name, re.compile(rf"\b(?:{words})\b")) for name, words in _TYPE_WORDS)

_FENCE = "```"
_SVG_FENCE = re.compile(r"```svg", re.IGNORECASE)
_XML_FENCE = re.compile(r"```xml", re.IGNORECASE)
_SVG_START = re.compile(r"<svg\b", re.IGNORECASE)
_SVG_END = re.compile(r"</svg\s*+>", re.IGNORECASE)
_PYTHON_FENCE = re.compile(r"```(?:python3?|py)(?=\s)[^\n]*+", re.IGNORECASE)
_PLOTTING = re.compile(r"^[^\S\n]*+(?:import|from)\s++(?:matplotlib|PIL)\b", re.MULTILINE)
_BRACE = re.compile(r"[{}]")
_BOX = "\\boxed"


def parse_proposal(text: str) -> Proposal | Failure:
    """Reads a Proposer's six tags.

    Five tags are required, each opened and closed; ``content_type`` may be
    missing. A tag may be empty: an empty question is a fact about the proposal,
    not a defect of its form. The first opening tag of a name pairs with the first
    closing tag after it.

    Args:
        text: A Proposer's raw completion.

    Returns:
        The proposal, its texts stripped and its type one of
        :data:`~mmzero_env.protocol.CONTENT_TYPES`; or a failure ``missing_tag``.
    """
    opened: dict[str, int] = {}
    closed_at: dict[str, tuple[int, int]] = {}
    for match in _TAG.finditer(text):
        closing, name = match.groups()
        if not closing:
            opened.setdefault(name, match.end())
        elif name in opened and name not in closed_at:
            closed_at[name] = (opened[name], match.start())
    missing = [name for name in REQUIRED_TAGS if name not in closed_at]
    if missing:
        names = ", ".join(f"<{name}>" for name in missing)
        return Failure("proposal", "missing_tag", f"not opened and closed: {names}")
    values = {name: _tag_text(text[start:end]) for name, (start, end) in closed_at.items()}
    return Proposal(
        content_type=content_type(values.get("content_type", "")),
        **{name: values[name] for name in REQUIRED_TAGS},
    )


def _tag_text(inside: str) -> str:
    """A tag's content; blanks around a known tag quoted in it are dropped too."""
    if "<" not in inside:
        return inside.strip()
    parts: list[str] = []
    at = 0
    for match in _TAG.finditer(inside):
        parts += [inside[at : match.start()].strip(), f"<{match.group(1) or ''}{match.group(2)}>"]
        at = match.end()
    return "".join([*parts, inside[at:].strip()])


def content_type(written: str) -> str:
    """The content type that a tag names; ``"other"`` for any unknown name.

    Args:
        written: What stands in the tag; case, blanks, "-" and "_" do not count.

    Returns:
        One of :data:`~mmzero_env.protocol.CONTENT_TYPES`.
    """
    squeezed = re.sub(r"[\s_-]", "", written).lower()
    for name in CONTENT_TYPES:
        if squeezed == name.replace("_", ""):
            return name
    return "other"


def effective_content_type(proposal: Proposal) -> str:
    """The type that the over-representation term counts a proposal under.

    Args:
        proposal: A parsed proposal.

    Returns:
        The tag's type, or the first type whose key words the caption holds when
        the tag is missing, unknown or "other".
    """
    if proposal.content_type != "other":
        return proposal.content_type
    caption = proposal.caption.lower()
    for name, pattern in _TYPE_PATTERNS:
        if pattern.search(caption):
            return name
    return "other"


def extract_svg(text: str) -> str | None:
    """The SVG code in a Coder's completion.

    The first fence labelled ``svg`` wins, then the first one labelled ``xml`` that
    holds an svg element, then the first raw ``<svg ... </svg>``.

    Args:
        text: A Coder's raw completion.

    Returns:
        The stripped code, which need not be valid SVG, or None if there is none.
    """
    code = _fenced(text, _SVG_FENCE)
    if code is None:
        code = _fenced(text, _XML_FENCE, holding=_SVG_START)
    if code is None:
        start = _SVG_START.search(text)
        end = _SVG_END.search(text, start.end()) if start else None
        code = text[start.start() : end.end()] if start and end else ""
    return code.strip() or None


def extract_python(text: str) -> str | None:
    """The plotting code in a Coder's completion.

    The first fence labelled ``python`` or ``py`` wins, then the first fence without a
    label that imports matplotlib or PIL. Whether it is Python is not asked here: the
    parser of a hostile code belongs into the sandbox too.

    Args:
        text: A Coder's raw completion.

    Returns:
        The code without blank lines around it, or None if there is none.
    """
    code = _fenced(text, _PYTHON_FENCE)
    if code is None:
        bare = (inside for label, inside in _fences(text) if not label)
        code = next((inside for inside in bare if _PLOTTING.search(inside)), "")
    # The first line keeps its indentation, or the others would not fit it.
    return re.sub(r"\A(?:[^\S\n]*\n)+", "", code).rstrip() or None


def extract_code(text: str, forms: Sequence[CodeForm] = ("svg",)) -> tuple[CodeForm, str] | None:
    """The code in a Coder's completion, in a form that it may write.

    Where both forms are allowed, the first fence that names one of them decides. Without
    such a fence Python is looked for first: a program may hold ``<svg`` in a string, a
    picture holds no program.

    Args:
        text: A Coder's raw completion.
        forms: What the Coder may write, see
            :attr:`mmzero_env.episode.EpisodeConfig.code_forms`.

    Returns:
        The form and the stripped code, or None if there is none of an allowed form.
    """
    extractors = {"python": extract_python, "svg": extract_svg}
    order: list[CodeForm] = [form for form in ("python", "svg") if form in forms]
    svg, python = _SVG_FENCE.search(text), _PYTHON_FENCE.search(text)
    if svg and (python is None or svg.start() < python.start()):
        order.reverse()
    for form in order:
        code = extractors[form](text)
        if code is not None:
            return form, code
    return None


def _fences(text: str) -> Iterator[tuple[str, str]]:
    """Label and content of every closed fence; a closing one opens nothing."""
    at = 0
    while (start := text.find(_FENCE, at)) >= 0:
        line_end = text.find("\n", start)
        end = text.find(_FENCE, line_end)
        if line_end < 0 or end < 0:
            return
        yield text[start + len(_FENCE) : line_end].strip(), text[line_end + 1 : end]
        at = end + len(_FENCE)


def _fenced(
    text: str, opener: re.Pattern[str], holding: re.Pattern[str] | None = None
) -> str | None:
    """Content of the first closed fence with a label and, if asked, a pattern."""
    at = 0
    while match := opener.search(text, at):
        end = text.find(_FENCE, match.end())
        if end < 0:
            return None
        inside = text[match.end() : end]
        if holding is None or holding.search(inside):
            return inside
        at = end + len(_FENCE)
    return None


def extract_boxed(text: str) -> str | None:
    r"""The final answer of a Solver: the content of the last ``\boxed{...}``.

    Args:
        text: A Solver's raw completion.

    Returns:
        The stripped content, "" for an empty box; None if there is no box or the
        last one is not closed. A box that is never closed was cut off, so an
        earlier one is no final answer.
    """
    last = text.rfind(_BOX + "{")
    if last < 0:
        return None
    start = last + len(_BOX) + 1
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()].strip()
    return None
