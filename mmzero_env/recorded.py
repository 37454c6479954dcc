"""A recorded episode as the outcome that it was made of, without drawing anything again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from mmzero_env.protocol import (
    CodeForm,
    CodeOutcome,
    Drawing,
    EpisodeOutcome,
    Failure,
    Proposal,
    Question,
)
from mmzero_env.record import png_to_image
from mmzero_env.record_schema import CodeRecord, EpisodeRecord


def outcome_of(record: EpisodeRecord) -> EpisodeOutcome:
    """The outcome of a record: the recorded texts and pictures, whatever would be drawn today.

    :func:`mmzero_env.replay.replay` draws again and tells the difference.

    Args:
        record: A record that follows the schema.

    Raises:
        UserError: If a picture is damaged.
    """
    proposal, failure = record["proposal"], record["failure"]
    return EpisodeOutcome(
        id=record["id"],
        topic=record["topic"],
        proposal_text=record["proposal_text"],
        proposal=Proposal(**proposal) if proposal is not None else Failure(**(failure or {})),
        codes=tuple(map(_code, record["codes"])),
        caption_answers=answers_of(record["caption_answers"]),
        blind_answers=answers_of(record["blind_answers"]),
    )


def answers_of(texts: Mapping[str, Sequence[str]]) -> dict[Question, tuple[str, ...]]:
    """Recorded completions by question, as outcomes hold them."""
    return {cast("Question", question): tuple(given) for question, given in texts.items()}


def _code(code: CodeRecord) -> CodeOutcome:
    png, failure = code["png"], code["failure"]
    drawing = Drawing(
        None if png is None else png_to_image(png),
        None if failure is None else Failure(**failure),
        tuple(code["flags"]),
    )
    form = cast("CodeForm | None", code["form"])
    return CodeOutcome(code["text"], code["code"], drawing, answers_of(code["answers"]), form)
