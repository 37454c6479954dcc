"""Checks the claims of an answer, and counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmzero_env.grounding.claims import Statement, statements
from mmzero_env.grounding.phrases import sentences
from mmzero_env.grounding.scene import Scene
from mmzero_env.grounding.verdicts import Verdict, judge, judge_values

LONGEST = 20_000
"""Characters of an answer that are read; what comes later is not looked at."""


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict.

    Attributes:
        kind: "count", "presence", "text", "value", "cell", "position", "extreme", "order"
            or "link".
        text: The words, as written.
        verdict: "unchecked" where the picture does not tell.
        why: For a reader of a report.
    """

    kind: str
    text: str
    verdict: Literal["true", "false", "unchecked"]
    why: str


@dataclass(frozen=True)
class Claims:
    """The claims of one answer.

    Attributes:
        checked: How many could be checked; a claim that is repeated counts once.
        false: How many of these are false.
        claims: All that were recognised, in the order of the answer.
    """

    checked: int
    false: int
    claims: tuple[Claim, ...] = ()


def check_claims(text: str, scene: Scene) -> Claims:
    r"""Check what an answer claims about a picture.

    Args:
        text: A Solver's completion, tags included; what stands in ``\boxed{...}`` does
            not count.
        scene: The picture that it was asked about.

    Returns:
        The counts, and every recognised claim with its verdict.
    """
    found: dict[tuple[object, ...], Statement] = {}
    for sentence in sentences(text[:LONGEST], scene):
        for each in statements(sentence):
            if each.kind != "cell" or not any(_repeats(each, other) for other in found.values()):
                key = (each.kind, each.about, each.number, each.word, each.place)
                found.setdefault(key, each)
    stated = list(found.values())
    values = [each for each in stated if each.kind == "value"]
    of_values = iter(judge_values(values, scene)) if values else iter(())
    claims = []
    for each in stated:
        verdict = next(of_values) if each.kind == "value" else judge(each, scene)
        claims.append(Claim(each.kind, each.text, _word(verdict), verdict[1]))
    checked = [claim for claim in claims if claim.verdict != "unchecked"]
    false = sum(claim.verdict == "false" for claim in checked)
    return Claims(len(checked), false, tuple(claims))


def _repeats(cell: Statement, other: Statement) -> bool:
    """Whether what is said of a cell was said before: "A1 red circle", then "red: A1"."""
    if other.kind != "cell" or other.place != cell.place:
        return False
    (again,), (before,) = cell.about, other.about
    return again.colour in (None, before.colour) and again.shape in (None, before.shape)


def _word(verdict: Verdict) -> Literal["true", "false", "unchecked"]:
    if verdict[0] is None:
        return "unchecked"
    return "true" if verdict[0] else "false"
