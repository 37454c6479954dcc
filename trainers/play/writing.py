r"""What a person filled in, as the text that a model would have written.

Every form becomes a completion that the usual parsers read; what they would read
differently from what was typed is refused with a sentence for the person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmzero_env.parsing import REQUIRED_TAGS, TAGS, extract_boxed, extract_svg, parse_proposal
from mmzero_env.protocol import CONTENT_TYPES, Failure, Role

FIELDS: Mapping[Role, tuple[str, ...]] = {
    "proposer": TAGS,
    "coder": ("svg",),
    "solver": ("reasoning", "answer"),
}
"""What a person fills in, by role."""

LONGEST = 100_000
"""Most characters of a field: far more than anybody types."""

_FORMED = re.compile(r"\s*+<think>((?:(?!</think>).)*+)</think>\s*+\\boxed\{.*\}\s*+", re.DOTALL)


@dataclass(frozen=True)
class Mistakes:
    """Why a form is not accepted: for each field that has to be mended one sentence."""

    by_field: Mapping[str, str]


def written(role: Role, form: Mapping[str, str]) -> str | Mistakes:
    """A form as a completion.

    Args:
        role: Whose turn it is.
        form: Texts by field; fields that are left out are empty.

    Returns:
        The completion, or what has to be mended.
    """
    values = {name: form.get(name, "").strip() for name in FIELDS[role]}
    wrong = {
        name: f"At most {LONGEST} characters, got {len(value)}."
        for name, value in values.items()
        if len(value) > LONGEST
    }
    if wrong:
        return Mistakes(wrong)
    if role == "proposer":
        return _proposal(values)
    if role == "coder":
        return _code(values["svg"])
    return _answer(values["reasoning"], values["answer"])


def _proposal(values: Mapping[str, str]) -> str | Mistakes:
    wrong = {name: "Please fill this in." for name in REQUIRED_TAGS if not values[name]}
    if values["content_type"] not in CONTENT_TYPES:
        wrong["content_type"] = f"Expected one of {', '.join(CONTENT_TYPES)}."
    if wrong:
        return Mistakes(wrong)
    text = "\n".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    read = parse_proposal(text)
    if isinstance(read, Failure):
        return Mistakes({"caption": f"This is not read as a proposal: {read.detail}."})
    changed = {
        name: "Please leave out the tags of a proposal, such as <caption>."
        for name, value in values.items()
        if getattr(read, name) != value
    }
    return Mistakes(changed) if changed else text


def _code(svg: str) -> str | Mistakes:
    if not svg:
        return Mistakes({"svg": "Please write some SVG."})
    text = f"```svg\n{svg}\n```"
    if extract_svg(text) != svg:
        return Mistakes({"svg": "Please write SVG only, without code fences (```)."})
    return text


def _answer(reasoning: str, answer: str) -> str | Mistakes:
    if not answer:
        return Mistakes({"answer": "Please give an answer."})
    text = f"<think>{reasoning}</think>\\boxed{{{answer}}}"
    if extract_boxed(text) != answer:
        return Mistakes({"answer": "Please close every brace that you open."})
    return text


def reasoning(text: str) -> str:
    """What a Solver thought, or all that it wrote where that has not the form it should have."""
    formed = _FORMED.fullmatch(text)
    return (text if formed is None else formed[1]).strip()
